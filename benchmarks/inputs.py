"""Generated inputs of the comparisons: seeded, so that every run and both sides see the same."""

from __future__ import annotations

from pathlib import Path

import cv2
import numpy as np
import pandas as pd
import tifffile
from PIL import Image

# The size that MVTec AD 2 mostly has, and its quarter, which RoBiS submits.
FULL = (2048, 2448)
QUARTER = (512, 612)


def photo(rng: np.random.Generator, size: tuple[int, int]) -> np.ndarray:
    """A picture as a camera takes it: uint8 (H, W, 3), large and small structure, and the noise of a sensor.

    The noise is what decides how long a PNG of it takes to decode, and how large it is.
    """
    height, width = size
    picture = np.full((height, width, 3), 110, np.float32)
    for step, strength in ((128, 40), (16, 18), (3, 8)):
        coarse = rng.normal(0, strength, (max(2, height // step), max(2, width // step), 3)).astype(np.float32)
        picture += cv2.resize(coarse, (width, height), interpolation=cv2.INTER_CUBIC)
    picture += rng.normal(0, 1.5, picture.shape).astype(np.float32)
    return np.clip(np.rint(picture), 0, 255).astype(np.uint8)


def write_photos(root: Path, images: int, size: tuple[int, int]) -> None:
    """Write so many pictures (`photo`) as PNG to each of root/part/train and root/part/test."""
    rng = np.random.default_rng(0)
    for place in ("train", "test"):
        for number in range(images):
            write_png(root / "part" / place / f"{number:04}.png", photo(rng, size))


def tile_maps(rng: np.random.Generator, count: int, side: int, tokens: int = 37) -> np.ndarray:
    """Raw maps of tiles: float16 (count, side, side), smooth as maps of tokens are, 0..1."""
    maps = np.empty((count, side, side), np.float16)
    for values in maps:
        coarse = rng.gamma(2.0, 0.05, (min(tokens, side), min(tokens, side))).astype(np.float32)
        values[:] = cv2.resize(coarse, (side, side), interpolation=cv2.INTER_LINEAR)
    return maps


def map_and_truth(rng: np.random.Generator, size: tuple[int, int], defects: int) -> tuple[np.ndarray, np.ndarray]:
    """A map as `merge` writes it, float16 (H, W) in 0..255, and its ground truth, bool (H, W).

    The background is calm; each defect is an ellipse of the truth, over which the map rises by another height,
    not quite at the same place.
    """
    height, width = size
    coarse = rng.gamma(4.0, 8.0, (max(3, height // 7), max(3, width // 7))).astype(np.float32)
    values = cv2.GaussianBlur(cv2.resize(coarse, (width, height), interpolation=cv2.INTER_LINEAR), (0, 0), 4)
    truth = np.zeros(size, np.uint8)
    y, x = np.ogrid[0:height, 0:width]
    for _ in range(defects):
        row, column = rng.uniform(0.1, 0.9) * height, rng.uniform(0.1, 0.9) * width
        radius = rng.uniform(0.02, 0.08) * height
        reach = np.exp(-(((y - row) / radius) ** 2 + ((x - column) / radius) ** 2) / 2).astype(np.float32)
        values = values + rng.uniform(60, 180) * reach
        axes = [max(1, int(radius * rng.uniform(0.7, 1.5))) for _ in range(2)]
        center = (int(column + rng.normal(0, radius / 4)), int(row + rng.normal(0, radius / 4)))
        cv2.ellipse(truth, center, axes, float(rng.uniform(0, 180)), 0, 360, 1, -1)
    return np.clip(values, 0, 255).astype(np.float16), truth > 0


def defects_of(index: int) -> int:
    """How many defects image `index` has: every other image is normal."""
    return 0 if index % 2 else 1 + index % 3


def names(count: int) -> list[str]:
    """Sample_ids of `count` images."""
    return [f"{index:05d}" for index in range(count)]


def write_samples(
    path: Path, count: int, size: tuple[int, int], masks: bool = False, images: str = "images/{}.png"
) -> None:
    """A sample table of `count` images of one size, every other one defective."""
    ids = names(count)
    anomalous = [defects_of(index) > 0 for index in range(count)]
    table = pd.DataFrame(
        {
            "sample_id": ids,
            "split": "test",
            "image": [images.format(name) for name in ids],
            "label": ["anomalous" if bad else "normal" for bad in anomalous],
            "defect": ["bad" if bad else "good" for bad in anomalous],
            "mask": [f"truth/{n}.png" if bad and masks else None for n, bad in zip(ids, anomalous, strict=True)],
            "height": np.int32(size[0]),
            "width": np.int32(size[1]),
        }
    )
    path.parent.mkdir(parents=True, exist_ok=True)
    table.astype({"mask": "str"}).to_parquet(path, index=False)


def write_scores(path: Path, count: int) -> None:
    """A table of the scores of `count` images, all judged anomalous."""
    rng = np.random.default_rng(0)
    scores = {"score": rng.random(count), "rescored": rng.random(count), "is_anomalous": True}
    pd.DataFrame({"sample_id": names(count), **scores}).to_parquet(path, index=False)


def write_png(path: Path, pixels: np.ndarray) -> None:
    """Write a picture or a mask as PNG, at Pillow's own compression."""
    path.parent.mkdir(parents=True, exist_ok=True)
    Image.fromarray(pixels).save(path)


def write_maps(folder: Path, maps: list[np.ndarray]) -> None:
    """Write anomaly maps as float16 TIFF files."""
    folder.mkdir(parents=True, exist_ok=True)
    for name, values in zip(names(len(maps)), maps, strict=True):
        write_map(folder / f"{name}.tiff", values)


def write_map(path: Path, anomaly_map: np.ndarray) -> None:
    """Write a float16 map as TIFF."""
    tifffile.imwrite(path, anomaly_map)
