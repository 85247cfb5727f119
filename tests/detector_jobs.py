"""Stages of detectors called with plain keyword arguments."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

from safetensors.torch import load_file
from torch import Tensor

from robis.detectors.jobs import Compute, InferJob, MapScale, Shard, TrainJob
from robis.tiles.files import TileMaps, TileStore

COMPUTE = ("batch_size", "precision", "device", "threads")


def train_job(
    tiles: Path,
    table: Path,
    model: Path,
    history: Path,
    *,
    encoder: Any,
    identity: str = "",
    allowed: tuple[dict[str, Any], ...] = (),
    **values: Any,
):
    """A training; values are options and how to compute."""
    compute = {"device": "cpu"} | {name: values.pop(name) for name in COMPUTE if name in values}
    store = TileStore(tiles, table)
    return TrainJob((store,), model, history, encoder, values, Compute(**compute), identity, allowed)


def infer_job(tiles: Path, table: Path, maps: Path, maps_table: Path, *, encoder: Any = None, **values: Any):
    """An inference; values are options, other inputs and how to compute."""
    compute = {"device": "cpu"} | {name: values.pop(name) for name in COMPUTE if name in values}
    inputs = {name: values.pop(name) for name in ("model", "features", "text") if values.get(name) is not None}
    values.pop("model", None)
    size = MapScale(values.pop("window"), values.pop("scale"))
    shard = Shard(values.pop("shard", 0), values.pop("shards", 1))
    store, output = TileStore(tiles, table), TileMaps(maps, maps_table)
    return InferJob(store, output, inputs, encoder, values, Compute(**compute), size, shard)


def training(train_category: Callable[[TrainJob], None]) -> Callable[..., None]:
    """A train stage that takes the arguments of `train_job`."""
    return lambda *paths, **values: train_category(train_job(*paths, **values))


def inferring(infer_split: Callable[[InferJob], None]) -> Callable[..., None]:
    """An infer stage that takes the arguments of `infer_job`."""
    return lambda *paths, **values: infer_split(infer_job(*paths, **values))


def gathering(gather: Callable[[Sequence[TileMaps], InferJob], None]) -> Callable[..., None]:
    """A function that joins shards, given the shards' maps and tables and the arguments of `infer_job`."""

    def gather_shards(parts: Sequence[Path], tables: Sequence[Path], maps: Path, table: Path, **values: Any) -> None:
        written = [TileMaps(*files) for files in zip(parts, tables, strict=True)]
        tiles = values.pop("tiles", Path("tiles.npy"))
        gather(written, infer_job(tiles, tiles.with_suffix(".parquet"), maps, table, **values))

    return gather_shards


def embedding(embed_tiles: Callable[..., None]) -> Callable[..., None]:
    """The stage that embeds tiles, given plain paths and keyword arguments."""

    def embed(tiles: Path, table: Path, output: Path, **values: Any) -> None:
        compute = {"device": "cpu"} | {name: values.pop(name) for name in COMPUTE if name in values}
        embed_tiles(TileStore(tiles, table), output, compute=Compute(**compute), **values)

    return embed


def read_banks(model: Path) -> dict[str, Tensor]:
    """The tensors of a model without the origins of a bank's tokens."""
    return {name: tensor for name, tensor in load_file(model).items() if not name.startswith("origins")}
