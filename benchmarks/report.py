"""What the report costs: time to build, size on disk, memory, and time to open in a browser.

.venv/bin/python benchmarks/report.py [--images 2000] [--many 10000]
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
from typing import Any

sys.path.insert(0, str(Path(__file__).parents[1]))

# Each measurement is a process of its own, so that its peak is its own.


def main() -> None:
    """Print one row per number of images."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--images", type=int, default=2000, help="images of the page that is opened")
    parser.add_argument("--many", type=int, default=10_000, help="images of the split whose memory is measured")
    parser.add_argument("--threads", type=int, default=2)
    parser.add_argument("--child", nargs=2, metavar=("SHOWN", "FOLDER"), help=argparse.SUPPRESS)
    options = parser.parse_args()
    if options.child:
        print(json.dumps(build(Path(options.child[1]), int(options.child[0]), options.threads)))
        return
    print(f"Python {platform.python_version()}, {os.cpu_count()} cores, {options.threads} threads, 640 x 480 images\n")
    print("| images | in the gallery | build, s | ms per image | peak, MB | assets, MB | page, kB | opens in, s |")
    print("| --- | --- | --- | --- | --- | --- | --- | --- |")
    for images, shown in (
        (200, 200),
        (options.images, 200),
        (options.images, options.images),
        (options.many, options.many),
    ):
        with tempfile.TemporaryDirectory() as name:
            folder = Path(name)
            make(folder, images)
            found = child(shown, folder, options.threads)
            opened = (
                "-" if images > options.images else open_page(folder / "results" / "many" / "report" / "index.html")
            )
            print(
                f"| {images:,} | {shown:,} | {found['seconds']:.1f} | {1000 * found['seconds'] / images:.1f} | "
                f"{found['megabytes']:.0f} | {found['assets'] / 1e6:.1f} | {found['page'] / 1e3:.0f} | {opened} |",
                flush=True,
            )


def make(folder: Path, images: int) -> None:
    """Results of one run on one split; a few images stand for all, maps and masks are each image's own."""
    from tests.made_results import write_many

    results = folder / "results" / "many"
    write_many(folder / "data", results, results / "inp_former", "nut", "test", images, size=(480, 640))


def child(shown: int, folder: Path, threads: int) -> dict[str, float]:
    """Build the report in a new process."""
    command = [sys.executable, __file__, "--child", str(shown), str(folder), "--threads", str(threads)]
    done = subprocess.run(command, stdout=subprocess.PIPE, text=True, check=True)
    found: dict[str, float] = json.loads(done.stdout)
    return found


def build(folder: Path, shown: int, threads: int) -> dict[str, float]:
    """Build the report here; its time, this process's peak, and the sizes of what is written."""
    import cv2

    from robis.report.page import build_report
    from tests.made_results import made_facts

    cv2.setNumThreads(1)
    results = folder / "results" / "many"
    report = results / "report"
    files = [report / name for name in ("index.html", "assets", "figures", "tables", "metrics.csv", "metrics.xlsx")]
    options: dict[str, Any] = {"images": shown, "encoder": "none", "facts": made_facts(), "threads": threads}
    start = time.perf_counter()
    build_report(results, folder / "data", *files, runs=[["inp_former", "nut", "test"]], **options)
    return {
        "seconds": time.perf_counter() - start,
        "megabytes": resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024,
        "assets": sum(path.stat().st_size for path in files[1].rglob("*") if path.is_file()),
        "page": files[0].stat().st_size,
    }


def open_page(page: Path) -> str:
    """Seconds until the first images of the gallery are drawn, in a browser that runs already; or why not."""
    from tests.browser.chromium import Chromium, find_chromium

    binary = find_chromium()
    if binary is None:
        return "no chromium"
    browser = Chromium(binary)
    try:
        browser.resize(1400, 1000)
        times = []
        for _ in range(3):
            start = time.perf_counter()
            browser.open(page, "#images")
            browser.wait(
                "document.querySelectorAll('#list .sample').length > 0 && "
                "[...document.images].every((image) => image.complete)"
            )
            times.append(time.perf_counter() - start)
    finally:
        browser.close()
    return f"{sorted(times)[1]:.2f}"


if __name__ == "__main__":
    main()
