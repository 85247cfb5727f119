"""What the fingerprint of 10,000 images costs: the first time, the next time, and after one image changed.

.venv/bin/python benchmarks/fingerprints.py [--images 10000] [--kilobytes 200]
"""

from __future__ import annotations

import argparse
import os
import platform
import tempfile
import time
from pathlib import Path

import numpy as np

from robis.workflow.fingerprints import fingerprint


def main() -> None:
    """Print one row per situation."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--images", type=int, default=10_000)
    parser.add_argument("--kilobytes", type=int, default=200, help="size of each file")
    options = parser.parse_args()
    print(
        f"Python {platform.python_version()}, {os.cpu_count()} cores, "
        f"{options.images} files of {options.kilobytes} kB each\n"
    )
    print("| fingerprint | seconds |\n| --- | --- |")
    with tempfile.TemporaryDirectory() as name:
        root, memory = Path(name) / "images", Path(name) / "memory.json"
        root.mkdir()
        content = np.random.default_rng(0).bytes(options.kilobytes * 1000 + options.images)
        names = [f"{n:05}.png" for n in range(options.images)]
        for n, file in enumerate(names):
            (root / file).write_bytes(content[n : n + options.kilobytes * 1000])

        def timed(what: str) -> str:
            started = time.perf_counter()
            digest = fingerprint(root, names, memory)
            print(f"| {what} | {time.perf_counter() - started:.2f} |", flush=True)
            return digest

        first = timed("first: every file is read")
        same = timed("next: sizes and times are compared")
        for file in names:
            os.utime(root / file)
        touched = timed("every file touched: all are read again, nothing re-runs")
        (root / names[0]).write_bytes(b"another image")
        changed = timed("one file changed: one is read")
        if not first == same == touched != changed:
            raise SystemExit("the fingerprint does not follow the content")


if __name__ == "__main__":
    main()
