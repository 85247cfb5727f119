"""How long Snakemake plans (dry run) for 10 to 1,000 categories with two test splits each.

    .venv/bin/python benchmarks/plan_categories.py [--most 1000]

The first plan reads every image once for its fingerprint, the next one recalls it.
"""

from __future__ import annotations

import argparse
import os
import platform
import re
import subprocess
import sys
import tempfile
import time
from pathlib import Path

import cv2
import numpy as np
import snakemake
import yaml

REPOSITORY = Path(__file__).parents[1]
FOLDERS = ("train/good", "test_public/good", "test_public/bad", "test_private")


def write_categories(root: Path, count: int) -> None:
    """Four 8 x 8 images and a mask per category, in the MVTec AD 2 layout."""
    image = cv2.imencode(".png", np.full((8, 8, 3), 9, np.uint8))[1].tobytes()
    mask = cv2.imencode(".png", np.full((8, 8), 255, np.uint8))[1].tobytes()
    for category in range(count):
        for folder in FOLDERS:
            target = root / f"part_{category:04}" / folder
            target.mkdir(parents=True)
            (target / "000.png").write_bytes(image)
        truth = root / f"part_{category:04}" / "test_public" / "ground_truth" / "bad"
        truth.mkdir(parents=True)
        (truth / "000_mask.png").write_bytes(mask)


def plan(folder: Path) -> tuple[float, int]:
    """Seconds of one dry run, and the number of jobs it plans."""
    command = [
        *(sys.executable, "-m", "snakemake", "--dry-run", "--quiet", "host", "reason"),
        *("--snakefile", str(REPOSITORY / "Snakefile"), "--directory", str(folder)),
        *("--workflow-profile", str(REPOSITORY / "profiles" / "default")),
        *("--configfile", str(folder / "config.yaml"), "--", "all", "metrics"),
    ]
    started = time.perf_counter()
    done = subprocess.run(command, capture_output=True, text=True, check=True)
    seconds = time.perf_counter() - started
    return seconds, int(re.findall(r"^total +(\d+)", done.stdout + done.stderr, flags=re.MULTILINE)[0])


def main() -> None:
    """Print one row per number of categories."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--most", type=int, default=1000)
    most = parser.parse_args().most
    print(f"Python {platform.python_version()}, snakemake {snakemake.__version__}, {os.cpu_count()} cores\n")
    print("| categories | jobs | first plan, s | next plan, s | ms per job |\n| --- | --- | --- | --- | --- |")
    for count in [n for n in (10, 30, 100, 300, 1000) if n <= most]:
        with tempfile.TemporaryDirectory() as name:
            folder = Path(name)
            write_categories(folder / "data", count)
            dataset = {"name": "plan", "root": "data", "splits": ["test_public", "test_private"]}
            config = {"dataset": dataset, "refine": {"method": "grabcut"}}
            (folder / "config.yaml").write_text(yaml.safe_dump(config))
            first, jobs = plan(folder)
            again, _ = plan(folder)
            print(f"| {count} | {jobs} | {first:.1f} | {again:.1f} | {again / jobs * 1000:.1f} |", flush=True)


if __name__ == "__main__":
    main()
