"""Packing an upload, beside tarfile's own `w:gz`, and checking it."""

from __future__ import annotations

import tarfile
from collections.abc import Iterator
from dataclasses import dataclass
from functools import partial
from pathlib import Path

import cv2
import numpy as np

from benchmarks.harness import Fact, Options, Row, Work, compare, require, timed
from benchmarks.plain.files import pack
from robis.io.maps import write_map, write_mask
from robis.submission.archive import write_archive
from robis.submission.check import check_upload
from robis.submission.upload import MAPS, Upload, benchmark_ids


@dataclass(frozen=True)
class Sizes:
    """Images per category and split (there are 16 of them), and pixels of their maps."""

    images: int = 25
    height: int = 512
    width: int = 612


FULL = Sizes()
QUICK = Sizes(images=1, height=28, width=42)


def rows(options: Options, sizes: Sizes) -> Iterator[Row | Fact]:
    """Packing on one thread and on all, checking the folder and the archive."""
    upload = Upload({place: ids[: sizes.images] for place, ids in benchmark_ids().items()})
    root = options.folder / "tree"
    write_tree(root, upload, sizes.height, sizes.width)
    files = {file: root / file for file in upload.files}
    total = sum(path.stat().st_size for path in files.values()) / 1e6
    what = f"{len(files)} maps and masks of {sizes.height} x {sizes.width}, {total:.0f} MB"
    theirs, ours = options.folder / "theirs.tar.gz", options.folder / "ours.tar.gz"

    def written(threads: int) -> Path:
        write_archive(files.items(), ours, threads=threads)
        return ours

    for threads in dict.fromkeys((1, options.threads)):
        work = Work("submit", f"pack {what}, {threads} thread{'s' * (threads > 1)}", "tarfile, level 9")
        yield compare(
            work, partial(pack, root, theirs), partial(written, threads), same_members, min(options.repeats, 2)
        )
    for name, path, threads in (("the folder", root, 1), ("the archive", ours, options.threads)):
        run = timed(partial(check_upload, path, upload, threads=threads))
        require(run.result.is_good, f"{name} of the upload is not good")
        values = {"threads": threads, "s": run.seconds, "CPU s": run.cpu_seconds, "MB/s": total / run.seconds}
        yield Fact(f"Checking {what}", name, values)


def write_tree(root: Path, upload: Upload, height: int, width: int) -> None:
    """Smooth maps as a model gives them, and their masks."""
    rng = np.random.default_rng(0)
    for name, file in upload.files.items():
        coarse = rng.gamma(2, 10, (height // 14, width // 14)).astype(np.float32)
        values = cv2.GaussianBlur(cv2.resize(coarse, (width, height)), (5, 5), 4)
        if file.kind == MAPS:
            write_map(root / name, values)
        else:
            write_mask(root / name, values > 60)


def same_members(plain: Path, ours: Path) -> str:
    """Content of every file, and the sizes of both archives."""
    contents = _members(plain), _members(ours)
    require(contents[0] == contents[1] and bool(contents[0]), "the archives hold different files")
    sizes = [path.stat().st_size / 1e6 for path in (plain, ours)]
    return f"same {len(contents[0])} files; archives of {sizes[0]:.2f} and {sizes[1]:.2f} MB"


def _members(archive: Path) -> dict[str, bytes]:
    with tarfile.open(archive) as tar:
        files = {member.name.removeprefix("./"): tar.extractfile(member) for member in tar if member.isfile()}
        return {name: stream.read() for name, stream in files.items() if stream}
