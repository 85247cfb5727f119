"""The infer stage of INP-Former: a trained model and a split's tiles to raw tile maps."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from robis.detectors.inference import write_tile_maps
from robis.detectors.inp_former import InpFormer, load_checkpoint
from robis.devices import pick_device
from robis.encoders import build_encoder, read_metadata, read_state
from robis.tiling import map_size


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
    made_for = read_metadata(model_file).get("made_for", "an encoder it does not name")
    load_checkpoint(model, state, source=f"{model_file} (made for {made_for})", encoder=str(encoder["name"]))
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
