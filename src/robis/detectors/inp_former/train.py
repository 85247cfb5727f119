"""The train stage of INP-Former: one category's model from the tiles of its normal images."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from safetensors.torch import save

from robis.detectors.inp_former.loop import train
from robis.detectors.inp_former.model import InpFormer, initialize
from robis.detectors.inp_former.step import Recipe
from robis.encoders.build import build_encoder
from robis.encoders.devices import pick_device
from robis.io.atomic import atomic_file
from robis.io.tables import write_table
from robis.tiles.store import open_tiles


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
        trained = {name: value.cpu().contiguous() for name, value in model.trainable().items()}
        # One entry only: safetensors writes several in random order, and the same training gives the same bytes.
        partial.write_bytes(save(trained, metadata={"made_for": f"inp_former on {encoder['name']}"}))
    write_table(history, rows)
    (folder / "state.pt").unlink(missing_ok=True)


def _with_tiles(identity: str, tiles: Path) -> str:
    """An identity that also changes when the tiles are cut anew."""
    found = tiles.stat()
    return f"{identity} {found.st_size} {found.st_mtime_ns}"
