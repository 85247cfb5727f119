"""Images to tiles: the stage beside loops that users write."""

from __future__ import annotations

import shutil
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from functools import partial
from pathlib import Path

import numpy as np

from benchmarks import harness, inputs
from benchmarks.plain import crop as plain
from robis.tiles.files import TileStore
from robis.tiles.store import Cutting, crop_split

OVERLAP = 0.1


@dataclass(frozen=True)
class Sizes:
    """Number of images, their height and width, side of a window and of a tile in pixels."""

    images: int = 4
    height: int = inputs.FULL[0]
    width: int = inputs.FULL[1]
    window: int = 1024
    tile: int = 518


FULL = Sizes()
QUICK = Sizes(images=2, height=96, width=130, window=64, tile=28)


def rows(options: harness.Options, sizes: Sizes) -> Iterator[harness.Row]:
    """Against crop-to-PNG then load-and-resize, with Pillow and with OpenCV, and against one loop without files."""
    folder, window, tile = options.folder, sizes.window, sizes.tile
    images = write_images(folder, sizes)
    store = TileStore(folder / "tiles.npy", folder / "tiles.parquet")
    cutting = Cutting(window, OVERLAP, edge="pad", size=tile)

    def ours() -> np.ndarray:
        crop_split(folder / "samples.parquet", folder, store, cutting, threads=options.threads)
        return np.load(store.tiles, mmap_mode="r")

    def by_files(crop: Callable[[list[Path], Path, int, float], list[Path]]) -> np.ndarray:
        shutil.rmtree(folder / "png", ignore_errors=True)
        return plain.load_and_resize(crop(images, folder / "png", window, OVERLAP), tile)

    sides: list[tuple[str, Callable[[], np.ndarray], float | None]] = [
        ("crop to PNG, then load and resize, with Pillow", partial(by_files, plain.crop_with_pillow), 4.0),
        ("the same, cropped with OpenCV", partial(by_files, plain.crop_with_opencv), None),
        ("Pillow loop in memory", lambda: plain.crop_in_memory(images, window, OVERLAP, tile), None),
    ]
    megabytes = sum(path.stat().st_size for path in images) / len(images) / 1e6
    what = f"{len(images)} PNG images of {sizes.height} x {sizes.width} ({megabytes:.1f} MB each) to {tile} px tiles"
    for name, side, target in sides:
        work = harness.Work("crop", what, name, target)
        yield harness.compare(work, side, ours, identical, min(options.repeats, 3))


def write_images(folder: Path, sizes: Sizes) -> list[Path]:
    """Images and their sample table."""
    rng = np.random.default_rng(0)
    size = (sizes.height, sizes.width)
    images = [folder / "images" / f"{name}.png" for name in inputs.names(sizes.images)]
    for path in images:
        inputs.write_png(path, inputs.photo(rng, size))
    inputs.write_samples(folder / "samples.parquet", sizes.images, size)
    return images


def identical(plain_tiles: np.ndarray, our_tiles: np.ndarray) -> str:
    """Every pixel of every tile."""
    harness.require(np.array_equal(plain_tiles, our_tiles), "tiles differ")
    return "bit-identical"
