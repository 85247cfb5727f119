"""The infer stage of INP-Former: a trained model and a split's tiles to raw tile maps."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

from robis.detectors.inference import gather_maps, write_tile_maps
from robis.detectors.inp_former.model import InpFormer, load_checkpoint
from robis.encoders.build import build_encoder
from robis.encoders.devices import pick_device
from robis.encoders.weights import read_metadata, read_state
from robis.tiles.store import map_size


def infer_split(
    tiles: Path,
    table: Path,
    maps: Path,
    maps_table: Path,
    *,
    model: Path,
    encoder: dict[str, Any],
    prototypes: int,
    seed: int,
    window: int | str,
    scale: float,
    batch_size: int,
    precision: str = "float32",
    device: str = "auto",
    threads: int = 1,
    shard: int = 0,
    shards: int = 1,
) -> None:
    """Write the raw map of every tile: float16 (N, m, m), and the tile table beside it.

    Args:
        tiles, table: the tile store.
        maps, maps_table: what is written.
        model: what `train` wrote, or a published checkpoint. Where that holds the encoder, too, it is taken from there.
        encoder: arguments of `build_encoder`.
        prototypes: number of prototypes of the model.
        seed: of random encoder weights.
        window: side of a tile in image pixels, or "image".
        scale: map pixels per image pixel.
        batch_size: tiles per forward pass.
        precision, device, threads, shard, shards: see `write_tile_maps`.

    Raises:
        WeightsError: the model file is absent, damaged or made for another encoder.
    """
    state = read_state(model, sha256=None, key="inp_former.weights")
    if any(name.startswith("encoder.") for name in state):
        encoder = encoder | {"weights": "random", "sha256": None}
    network = InpFormer(build_encoder(**encoder, seed=seed), prototypes)
    made_for = read_metadata(model).get("made_for", "an encoder it does not name")
    load_checkpoint(network, state, source=f"{model} (made for {made_for})", encoder=str(encoder["name"]))
    write_tile_maps(
        network.eval().to(pick_device(device)).tile_maps,
        tiles,
        table,
        maps,
        maps_table,
        size=map_size(window, scale, network.encoder.input_size),
        batch_size=batch_size,
        precision=precision,
        device=pick_device(device),
        threads=threads,
        shard=shard,
        shards=shards,
    )


def gather_shards(parts: Sequence[Path], tables: Sequence[Path], maps: Path, maps_table: Path, **_: Any) -> None:
    """Join what the shards of a split wrote, as `infer_split` would have written it alone."""
    gather_maps(parts, tables, maps, maps_table)
