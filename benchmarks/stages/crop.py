"""Images to tiles: the stage beside loops that users write."""

from __future__ import annotations

import shutil
from collections.abc import Callable, Iterator
from functools import partial
from pathlib import Path

import numpy as np

from benchmarks import harness, inputs
from benchmarks.plain import crop as plain
from robis.tiles.store import crop_split

WINDOW, OVERLAP, SIZE = 1024, 0.1, 518


def rows(options: harness.Options) -> Iterator[harness.Row]:
    """Against crop-to-PNG then load-and-resize, with Pillow and with OpenCV, and against one loop without files."""
    size, window, tile, count = (inputs.FULL, WINDOW, SIZE, 4) if not options.quick else ((96, 130), 64, 28, 2)
    folder = options.folder / "crop"
    rng = np.random.default_rng(0)
    images = [folder / "images" / f"{name}.png" for name in inputs.names(count)]
    for path in images:
        inputs.write_png(path, inputs.photo(rng, size))
    inputs.write_samples(folder / "samples.parquet", count, size)

    def ours() -> np.ndarray:
        store = folder / "tiles.npy"
        chosen = {"window": window, "overlap": OVERLAP, "edge": "pad", "size": tile, "threads": options.threads}
        crop_split(folder / "samples.parquet", folder, store, folder / "tiles.parquet", **chosen)
        return np.load(store, mmap_mode="r")

    def by_files(crop: Callable[[list[Path], Path, int, float], list[Path]]) -> np.ndarray:
        shutil.rmtree(folder / "png", ignore_errors=True)
        return plain.load_and_resize(crop(images, folder / "png", window, OVERLAP), tile)

    sides = [
        ("crop to PNG, then load and resize, with Pillow", partial(by_files, plain.crop_with_pillow), 4.0),
        ("the same, cropped with OpenCV", partial(by_files, plain.crop_with_opencv), None),
        ("Pillow loop in memory", lambda: plain.crop_in_memory(images, window, OVERLAP, tile), None),
    ]
    megabytes = sum(path.stat().st_size for path in images) / count / 1e6
    for name, side, target in sides:
        yield harness.compare(
            "crop",
            f"{count} PNG images of {size[0]} x {size[1]} ({megabytes:.1f} MB each) to {tile} px tiles",
            name,
            side,
            ours,
            identical,
            repeats=min(options.repeats, 3),
            target=target,
        )


def identical(plain_tiles: np.ndarray, our_tiles: np.ndarray) -> str:
    """Every pixel of every tile."""
    harness.require(np.array_equal(plain_tiles, our_tiles), "tiles differ")
    return "bit-identical"
