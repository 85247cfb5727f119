"""Snakemake's dry run for many categories with two test splits each.

The first plan reads every image once for its fingerprint, the next one recalls it.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from dataclasses import dataclass
from functools import partial
from pathlib import Path

import cv2
import numpy as np
import yaml

from benchmarks.harness import Fact, Options, require, timed
from benchmarks.workflow import snakemake

FOLDERS = ("train/good", "test_public/good", "test_public/bad", "test_private")


@dataclass(frozen=True)
class Sizes:
    """Numbers of categories."""

    categories: tuple[int, ...] = (10, 30, 100, 300, 1000)


FULL = Sizes()
QUICK = Sizes(categories=(1,))


def rows(options: Options, sizes: Sizes) -> Iterator[Fact]:
    """One line per number of categories."""
    for count in sizes.categories:
        folder = options.folder / str(count)
        write_categories(folder / "data", count)
        dataset = {"name": "plan", "root": "data", "splits": ["test_public", "test_private"]}
        config = folder / "config.yaml"
        config.write_text(yaml.safe_dump({"dataset": dataset, "refine": {"method": "grabcut"}}), encoding="utf-8")
        first, again = (timed(partial(plan, folder, config)) for _ in range(2))
        require(first.result == again.result, f"the plans have {first.result} and {again.result} jobs")
        values = {"jobs": again.result, "first plan, s": first.seconds, "next plan, s": again.seconds}
        yield Fact("Dry run", f"{count} categories", values | {"ms per job": again.seconds / again.result * 1000})


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


def plan(folder: Path, config: Path) -> int:
    """Number of jobs that a dry run plans."""
    output = snakemake(folder, config, "--dry-run", "--quiet", "host", "reason", targets=("all", "metrics"))
    return int(re.findall(r"^total +(\d+)", output, flags=re.MULTILINE)[0])
