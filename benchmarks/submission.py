"""What checking and packing an upload costs, beside tarfile's own `w:gz` (its default level is 9).

.venv/bin/python benchmarks/submission.py [--images 25] [--height 512] [--width 612] [--threads 2]
"""

from __future__ import annotations

import argparse
import os
import platform
import tarfile
import tempfile
import time
import zlib
from collections.abc import Callable
from pathlib import Path

import cv2
import numpy as np

from robis.io.maps import write_map, write_mask
from robis.submission.archive import write_archive
from robis.submission.check import check_upload
from robis.submission.upload import MAPS, Upload, benchmark_ids


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


def pack_with_tarfile(root: Path, target: Path) -> None:
    """One thread, level 9: what `tarfile.open(..., "w:gz")` does."""
    with tarfile.open(target, "w:gz") as tar:
        tar.add(root, arcname=".")


def main() -> None:
    """Print one row per step."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--images", type=int, default=25, help="per category and split (16 of them)")
    parser.add_argument("--height", type=int, default=512, help="of maps, pixels")
    parser.add_argument("--width", type=int, default=612)
    parser.add_argument("--threads", type=int, default=os.cpu_count() or 1)
    options = parser.parse_args()
    upload = Upload({place: ids[: options.images] for place, ids in benchmark_ids().items()})
    print(
        f"Python {platform.python_version()}, zlib {zlib.ZLIB_RUNTIME_VERSION}, {os.cpu_count()} cores, "
        f"{len(upload.files) // 2} maps and masks of {options.width} x {options.height} pixels\n"
    )
    print("| step | seconds | CPU seconds | MB/s | archive, MB |\n| --- | --- | --- | --- | --- |")
    with tempfile.TemporaryDirectory() as name:
        root = Path(name) / "tree"
        write_tree(root, upload, options.height, options.width)
        files = {file: root / file for file in upload.files}
        total = sum(path.stat().st_size for path in files.values()) / 1e6

        def timed(what: str, step: Callable[[], object], made: Path | None = None) -> None:
            started, cpu_started = time.perf_counter(), time.process_time()
            step()
            seconds, cpu = time.perf_counter() - started, time.process_time() - cpu_started
            size = f"{made.stat().st_size / 1e6:.0f}" if made else ""
            print(f"| {what} | {seconds:.1f} | {cpu:.1f} | {total / seconds:.0f} | {size} |", flush=True)

        def check(path: Path, threads: int) -> None:
            if not check_upload(path, upload, threads=threads).is_good:
                raise SystemExit(f"{path} is not found to be good")

        theirs, ours = Path(name) / "theirs.tar.gz", Path(name) / "ours.tar.gz"
        timed("check the folder, 1 thread", lambda: check(root, 1))
        timed("pack: tarfile, level 9", lambda: pack_with_tarfile(root, theirs), theirs)
        for threads in dict.fromkeys((1, options.threads)):
            timed(
                f"pack: robis, {threads} thread{'s' * (threads > 1)}",
                lambda n=threads: write_archive(files.items(), ours, threads=n),
                ours,
            )
        timed(f"check the archive, {options.threads} threads", lambda: check(ours, options.threads))


if __name__ == "__main__":
    main()
