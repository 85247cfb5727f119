"""INP-Former as two stages of the workflow: train a category's model, infer a split's tile maps."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from safetensors.torch import save

from robis.detectors.inference import write_tile_maps
from robis.detectors.inp_former import InpFormer, initialize, load_checkpoint
from robis.detectors.training import Recipe, train
from robis.devices import pick_device
from robis.encoders import build_encoder, read_state
from robis.files import atomic_file, write_table
from robis.tiling import map_size, open_tiles


def train_category(
    tiles: Path,
    table: Path,
    model_file: Path,
    history: Path,
    *,
    encoder: dict[str, Any],
    prototypes: int,
    seed: int,
    identity: str,
    device: str = "auto",
    threads: int = 1,
    **recipe: Any,
) -> None:
    """Train one category's model on the tiles of its normal images.

    Writes the trained parameters (without the frozen encoder's) as safetensors and the history, one row
    per step. A resumable state and TensorBoard events lie beside the model.

    Args:
        tiles, table: the tile store of the train split.
        model_file, history: what is written.
        encoder: arguments of `build_encoder`.
        prototypes: number of prototypes.
        seed: of start weights, order and augmentation.
        identity: digest of settings and code; with the tiles' size and time it says which state may be resumed.
        device: "auto", "cpu", "cuda", ...
        threads: tiles prepared at the same time.
        recipe: fields of `Recipe`.
    """
    store, _ = open_tiles(tiles, table)
    model = InpFormer(build_encoder(**encoder, seed=seed), prototypes)
    initialize(model, seed)
    folder = model_file.parent
    folder.mkdir(parents=True, exist_ok=True)
    rows = train(
        model.to(pick_device(device)),
        store,
        Recipe(seed=seed, **recipe),
        state_file=folder / "state.pt",
        events=folder / "tensorboard",
        identity=_with_tiles(identity, tiles),
        threads=threads,
    )
    with atomic_file(model_file) as partial:
        # One entry only: safetensors writes several in random order, and the same training gives the same bytes.
        trained = {name: value.cpu().contiguous() for name, value in model.trainable().items()}
        # One entry only: safetensors writes several in random order, and the same training gives the same bytes.
        partial.write_bytes(save(trained, metadata={"made_for": f"inp_former on {encoder['name']}"}))
    write_table(history, rows)
    (folder / "state.pt").unlink(missing_ok=True)


def _with_tiles(identity: str, tiles: Path) -> str:
    """An identity that also changes when the tiles are cut anew."""
    found = tiles.stat()
    return f"{identity} {found.st_size} {found.st_mtime_ns}"


def infer_split(
    tiles: Path,
    table: Path,
    model_file: Path,
    maps: Path,
    maps_table: Path,
    *,
    encoder: dict[str, Any],
    prototypes: int,
    seed: int,
    window: int | str,
    scale: float,
    batch_size: int,
    precision: str = "float32",
    device: str = "auto",
    threads: int = 1,
) -> None:
    """Write the raw map of every tile: float16 (N, m, m), and the tile table beside it.

    Raises:
        WeightsError: the model file is absent, damaged or made for another encoder.
    """
    model = InpFormer(build_encoder(**encoder, seed=seed), prototypes)
    state = read_state(model_file, sha256=None, key="model")
    load_checkpoint(model, state, source=str(model_file), encoder=str(encoder["name"]))
    write_tile_maps(
        model.eval().to(pick_device(device)).tile_maps,
        tiles,
        table,
        maps,
        maps_table,
        size=map_size(window, scale, model.encoder.input_size),
        batch_size=batch_size,
        precision=precision,
        device=pick_device(device),
        threads=threads,
    )
