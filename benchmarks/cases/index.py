"""The index stage beside a loop that decodes every image with Pillow; every run is a process of its own."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from functools import partial
from pathlib import Path

import cv2
import numpy as np

from benchmarks.harness import Call, Options, Row, Work, compare_processes, require
from benchmarks.plain.files import image_sizes
from robis.datasets.index import index_split
from robis.datasets.samples import Source
from robis.io.samples import read_samples


@dataclass(frozen=True)
class Sizes:
    """Numbers of images: small ones of 256 x 256, large ones of 4000 x 3000 pixels."""

    small: int = 10_000
    large: int = 100


FULL = Sizes()
QUICK = Sizes(small=4, large=0)


def rows(options: Options, sizes: Sizes) -> Iterator[Row]:
    """Small and large images, with and without masks; the loop decodes the images alone."""
    for count, height, width in ((sizes.small, 256, 256), (sizes.large, 3000, 4000)):
        for masks in (False, True):
            if count:
                yield _row(options, count, (height, width), masks)


def _row(options: Options, count: int, size: tuple[int, int], masks: bool) -> Row:
    root = options.folder / f"{size[0]}_{masks}"
    make(root, count, size, masks)
    with_masks = ", with masks" if masks else ""
    work = Work("index", f"{count} PNG images of {size[0]} x {size[1]}{with_masks}", "a loop that decodes the images")
    ours = {"root": str(root), "threads": options.threads}
    calls = Call("benchmarks.cases.index:loop", {"root": str(root)}), Call("benchmarks.cases.index:stage", ours)
    return compare_processes(work, *calls, same_sizes, options)


def loop(root: str) -> Callable[[], list[list[int]]]:
    """The plain side; runs in the child."""
    return partial(image_sizes, Path(root) / "c" / "test")


def stage(root: str, threads: int) -> Callable[[], list[list[int]]]:
    """The stage; runs in the child. Reading its table again is a small part of the time."""

    def run() -> list[list[int]]:
        table = Path(root) / "samples.parquet"
        index_split(table, Source("folder", Path(root)), category="c", split="test", threads=threads)
        return [[sample.height, sample.width] for sample in read_samples(table)]

    return run


def same_sizes(plain: list[list[int]], ours: list[list[int]]) -> str:
    """Height and width of every image."""
    require(plain == ours, "sizes differ")
    return f"the same {len(ours)} sizes"


def make(root: Path, count: int, size: tuple[int, int], masks: bool) -> None:
    """Write the same smooth noise under many names, and a mask with one large defect.

    Bytes behind the image make each file a different one: identical images would be reported.
    """
    height, width = size
    noise = np.random.default_rng(0).integers(0, 256, (height, width, 3), dtype=np.uint8)
    files = {"test/dent" if masks else "test": cv2.GaussianBlur(noise, (5, 5), 2)}
    if masks:
        files["masks/dent"] = np.zeros((height, width), np.uint8)
        files["masks/dent"][height // 4 : height // 2, width // 4 : width // 2] = 255
    for folder, pixels in files.items():
        data = cv2.imencode(".png", pixels)[1].tobytes()
        (root / "c" / folder).mkdir(parents=True)
        for number in range(count):
            (root / "c" / folder / f"{number:05}.png").write_bytes(data + number.to_bytes(4))
