"""Small image trees for the tests of data sets."""

from __future__ import annotations

import hashlib
from pathlib import Path

import numpy as np
from PIL import Image

from robis.datasets.index import index_split
from robis.datasets.layouts import list_samples
from robis.datasets.samples import Source


def write_image(path: Path, height: int = 6, width: int = 8, value: int | None = None) -> None:
    """Write an image of one color: the given gray, or a color that no other path has."""
    path.parent.mkdir(parents=True, exist_ok=True)
    color = [*hashlib.sha256(str(path).encode()).digest()[:3]] if value is None else [value] * 3
    Image.fromarray(np.full((height, width, 3), color, np.uint8)).save(path)


def write_mask(path: Path, height: int = 6, width: int = 8, *, defect: bool = True) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    mask = np.zeros((height, width), np.uint8)
    mask[1:3, 2:4] = 255 * defect
    Image.fromarray(mask).save(path)


def mvtec_ad(root: Path) -> Path:
    for n in range(12):
        write_image(root / "nut" / "train" / "good" / f"{n:03}.png")
    write_image(root / "nut" / "test" / "good" / "000.png")
    write_image(root / "nut" / "test" / "crack" / "000.png", height=10)
    write_image(root / "nut" / "test" / "crack" / "001.PNG")
    write_mask(root / "nut" / "ground_truth" / "crack" / "000_mask.png", height=10)
    write_mask(root / "nut" / "ground_truth" / "crack" / "001_mask.png")
    (root / "readme.txt").touch()
    (root / "notes").mkdir()
    return root


def rows(root: Path, split: str, layout: str, category: str = "nut") -> list[tuple]:
    """Samples of a split as (id, image, label, defect, mask)."""
    return [
        (sample.sample_id, sample.image, sample.label, sample.defect, sample.mask)
        for sample in list_samples(Source(layout, root), category, split)
    ]


def index(root: Path, split: str = "test", layout: str = "mvtec_ad", category: str = "nut", **options) -> Path:
    """Index a split beside its root; the sample table's path."""
    samples = root.parent / "samples.parquet"
    index_split(samples, Source(layout, root, **options), category=category, split=split, threads=2)
    return samples
