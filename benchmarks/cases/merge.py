"""Tile maps to one map per image: the stage beside full canvases per tile."""

from __future__ import annotations

import shutil
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pandas as pd
import tifffile

from benchmarks import harness, inputs
from benchmarks.plain import merge as plain
from robis.tiles.files import TileMaps
from robis.tiles.merge import merge_split
from robis.tiles.store import TILE_COLUMNS, map_size
from robis.tiles.windows import windows

SCALE = 0.25


@dataclass(frozen=True)
class Sizes:
    """Number of images, their height and width, and the side of a window in pixels."""

    images: int = 60
    height: int = inputs.FULL[0]
    width: int = inputs.FULL[1]
    window: int = 1024


FULL = Sizes()
QUICK = Sizes(images=2, height=100, width=130, window=64)


def write_tile_maps(folder: Path, count: int, size: tuple[int, int], window: int, scale: float = SCALE) -> pd.DataFrame:
    """Raw maps of all tiles of `count` images, `tile_maps.npy` and its table, as `infer` leaves them."""
    places = windows(size[0], size[1], window, 0.1, "pad")
    side = map_size(window, scale, 518)
    folder.mkdir(parents=True, exist_ok=True)
    store = np.lib.format.open_memmap(
        folder / "tile_maps.npy", mode="w+", dtype=np.float16, shape=(count * len(places), side, side)
    )
    rng = np.random.default_rng(0)
    few = inputs.tile_maps(rng, min(len(store), 64), side)
    for index in range(len(store)):
        store[index] = few[index % len(few)]
    owners = [name for name in inputs.names(count) for _ in places]
    cells = [(p.row, p.col, p.x, p.y, p.width, p.height) for p in places] * count
    table = pd.DataFrame(cells, columns=TILE_COLUMNS[2:])
    table.insert(0, "sample_id", owners)
    table.insert(0, "tile", np.arange(len(table)))
    table.to_parquet(folder / "tile_maps.parquet", index=False)
    return table


def rows(options: harness.Options, sizes: Sizes) -> Iterator[harness.Row]:
    """The whole stage, files in and files out, at the published settings: nine tiles per image, maps at a quarter."""
    size, count, folder = (sizes.height, sizes.width), sizes.images, options.folder
    table = write_tile_maps(folder, count, size, sizes.window)
    samples = folder / "samples.parquet"
    inputs.write_samples(samples, count, size)
    owners = table["sample_id"].tolist()
    places = list(table[["x", "y", "width", "height"]].itertuples(index=False, name=None))
    maps = TileMaps(folder / "tile_maps.npy", folder / "tile_maps.parquet")

    def plainly() -> Path:
        target = folder / "plain"
        shutil.rmtree(target, ignore_errors=True)
        plain.merge_split(maps.maps, owners, places, size, SCALE, target)
        return target

    def ours() -> Path:
        target = folder / "ours"
        merge_split(samples, maps, maps.maps, target, scale=SCALE, blend="mean", threads=options.threads)
        return target

    work = harness.Work(
        "merge",
        f"{count} images of {len(table) // count} tile maps to {round(size[0] * SCALE)} x {round(size[1] * SCALE)}, "
        f"files in and out",
        "a canvas of the image's size per tile, summed and counted",
        5.0,
    )
    yield harness.compare(work, plainly, ours, identical, options.repeats)


def _maps(folder: Path) -> dict[str, np.ndarray]:
    return {path.name: tifffile.imread(path) for path in sorted(folder.glob("*.tiff"))}


def identical(plain_folder: Path, our_folder: Path) -> str:
    """Every bit of every float16 map."""
    plain_maps, our_maps = _maps(plain_folder), _maps(our_folder)
    harness.require(plain_maps.keys() == our_maps.keys(), "the files have different names")
    for name, values in plain_maps.items():
        harness.require(np.array_equal(values.view(np.uint16), our_maps[name].view(np.uint16)), f"{name} differs")
    return "bit-identical"
