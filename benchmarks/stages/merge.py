"""Tile maps to one map per image: the stage beside full canvases per tile."""

from __future__ import annotations

import shutil
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pandas as pd
import tifffile

from benchmarks import harness, inputs
from benchmarks.plain import merge as plain
from robis.tiles.merge import merge_split
from robis.tiles.store import TILE_COLUMNS, map_size
from robis.tiles.windows import windows

SCALE = 0.25


def write_tile_maps(folder: Path, count: int, size: tuple[int, int], window: int) -> pd.DataFrame:
    """Raw maps of all tiles of `count` images, `tile_maps.npy` and its table, as `infer` leaves them."""
    places = windows(size[0], size[1], window, 0.1, "pad")
    side = map_size(window, SCALE, 518)
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


def rows(options: harness.Options) -> Iterator[harness.Row]:
    """The whole stage, files in and files out, at the published settings: nine tiles per image, maps at a quarter."""
    size, window, count = (inputs.FULL, 1024, 60) if not options.quick else ((100, 130), 64, 2)
    folder = options.folder / "merge"
    table = write_tile_maps(folder, count, size, window)
    inputs.write_samples(folder / "samples.parquet", count, size)
    owners = table["sample_id"].tolist()
    places = list(table[["x", "y", "width", "height"]].itertuples(index=False, name=None))

    def plainly() -> Path:
        target = folder / "plain"
        shutil.rmtree(target, ignore_errors=True)
        plain.merge_split(folder / "tile_maps.npy", owners, places, size, SCALE, target)
        return target

    def ours() -> Path:
        target, maps = folder / "ours", folder / "tile_maps.npy"
        merge_split(
            folder / "samples.parquet",
            maps,
            folder / "tile_maps.parquet",
            maps,
            target,
            scale=SCALE,
            blend="mean",
            threads=options.threads,
        )
        return target

    tiles = len(table) // count
    yield harness.compare(
        "merge",
        f"{count} images of {tiles} tile maps to {round(size[0] * SCALE)} x {round(size[1] * SCALE)}, files in and out",
        "a canvas of the image's size per tile, summed and counted",
        plainly,
        ours,
        identical,
        repeats=options.repeats,
        target=5.0,
    )


def _maps(folder: Path) -> dict[str, np.ndarray]:
    return {path.name: tifffile.imread(path) for path in sorted(folder.glob("*.tiff"))}


def identical(plain_folder: Path, our_folder: Path) -> str:
    """Every bit of every float16 map."""
    plain_maps, our_maps = _maps(plain_folder), _maps(our_folder)
    harness.require(plain_maps.keys() == our_maps.keys(), "other files")
    for name, one in plain_maps.items():
        harness.require(np.array_equal(one.view(np.uint16), our_maps[name].view(np.uint16)), f"{name} differs")
    return "bit-identical"
