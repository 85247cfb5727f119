"""What `index` costs, against a loop that decodes every image with Pillow: time and memory, small images and large.

.venv/bin/python benchmarks/index_images.py [--images 10000] [--large 100]
"""

from __future__ import annotations

import argparse
import json
import os
import platform
import resource
import subprocess
import sys
import tempfile
import time
from pathlib import Path

# Each measurement is a process of its own; this one imports nothing large, since a child begins with its peak.


def main() -> None:
    """Print one row per set of images."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--images", type=int, default=10_000, help="number of small images, 256 x 256")
    parser.add_argument("--large", type=int, default=100, help="number of large images, 4000 x 3000")
    parser.add_argument("--threads", type=int, default=2)
    parser.add_argument("--child", nargs=2, metavar=("WHAT", "ROOT"), help=argparse.SUPPRESS)
    parser.add_argument("--size", type=int, nargs=3, help=argparse.SUPPRESS)
    options = parser.parse_args()
    if options.child:
        print(json.dumps(measured(options.child[0], Path(options.child[1]), options)))
        return
    print(f"Python {platform.python_version()}, {os.cpu_count()} cores, index on {options.threads} threads, PNG\n")
    print("| images | index, s | peak, MB | decoding loop, s | peak, MB | ratio of times |")
    print("| --- | --- | --- | --- | --- | --- |")
    small, large = options.images, options.large
    for what, number, height, width, masks in (
        (f"{small} of 256 x 256", small, 256, 256, False),
        (f"{large} of 4000 x 3000", large, 3000, 4000, False),
        (f"{small // 10} of 256 x 256, with masks", small // 10, 256, 256, True),
        (f"{large} of 4000 x 3000, with masks", large, 3000, 4000, True),
    ):
        with tempfile.TemporaryDirectory() as name:
            size = ["--size", str(number), str(height), str(width)]
            child("make_with_masks" if masks else "make", name, *size)
            index = child("index", name, "--threads", str(options.threads))
            loop = child("loop", name)
        print(
            f"| {what} | {index['seconds']:.2f} | {index['megabytes']:.0f} | {loop['seconds']:.2f} | "
            f"{loop['megabytes']:.0f} | {loop['seconds'] / index['seconds']:.0f} |",
            flush=True,
        )


def child(what: str, root: str, *options: str) -> dict[str, float]:
    """Run one part in a new process."""
    command = [sys.executable, __file__, "--child", what, root, *options]
    done = subprocess.run(command, stdout=subprocess.PIPE, text=True, check=True)
    found: dict[str, float] = json.loads(done.stdout)
    return found


def measured(what: str, root: Path, options: argparse.Namespace) -> dict[str, float]:
    """Seconds of the work alone, and the process's peak of memory, its libraries included."""
    if what == "index":
        from robis.datasets.index import index_split

        started = time.perf_counter()
        index_split(
            root / "samples.parquet", layout="folder", root=root, category="c", split="test", threads=options.threads
        )
    elif what == "loop":
        import numpy as np
        from PIL import Image

        started = time.perf_counter()
        for path in sorted((root / "c").rglob("*.png")):
            with Image.open(path) as image:
                np.asarray(image.convert("RGB"))
    else:
        started = time.perf_counter()
        make(root, *options.size, masks=what == "make_with_masks")
    seconds = time.perf_counter() - started
    return {"seconds": seconds, "megabytes": resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1000}


def make(root: Path, number: int, height: int, width: int, *, masks: bool) -> None:
    """Write the same smooth noise under many names, and a mask with one large defect.

    Bytes behind the image make each file a different one: identical images would be reported.
    """
    import cv2
    import numpy as np

    noise = np.random.default_rng(0).integers(0, 256, (height, width, 3), dtype=np.uint8)
    mask = np.zeros((height, width), np.uint8)
    mask[height // 4 : height // 2, width // 4 : width // 2] = 255
    files = {"test/dent" if masks else "test": cv2.GaussianBlur(noise, (5, 5), 2)} | (
        {"masks/dent": mask} if masks else {}
    )
    for folder, pixels in files.items():
        data = cv2.imencode(".png", pixels)[1].tobytes()
        (root / "c" / folder).mkdir(parents=True)
        for n in range(number):
            (root / "c" / folder / f"{n:05}.png").write_bytes(data + n.to_bytes(4))


if __name__ == "__main__":
    main()
