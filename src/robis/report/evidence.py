"""Why regions were marked: their pictures, and the normal patches or distances that speak for it."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import pandas as pd

from robis.io.images import read_image
from robis.io.tables import read_table
from robis.io.threads import threaded
from robis.report import pictures
from robis.report.inputs import RunFiles

# Regions of an image that are shown, the largest; side of their pictures, and of what they show in patches at least.
MOST_REGIONS, PICTURE, CONTEXT = 5, 128, 3.0
Box = tuple[int, int, int, int]
_KEYS = {"sample_id": "text", "region": "integers"}
_BOX = ("x", "y", "width", "height")


@dataclass(frozen=True)
class Crop:
    """A square picture: what it shows of an image, and boxes that it frames, x, y, width and height in image pixels."""

    image: str
    square: Box
    frames: tuple[Box, ...]


def write_evidence(
    run: RunFiles, samples: pd.DataFrame, folder: Path, name: str, *, root: Path, bit_depth: int | None, threads: int
) -> list[Any] | None:
    """Write the pictures of a run's evidence; its data, an entry per image of the gallery: its regions, or None.

    Args:
        run: its `regions` and `evidence` are read.
        samples: those of the gallery, in its order.
        folder: for the pictures.
        name: begins the pictures' names.
        root: folder of the dataset.
        bit_depth: of images of 16 bits, see `read_image`.
        threads: images that are opened at the same time.

    Returns:
        None where the run has no evidence.

    Raises:
        DataError: a table or an image is missing or damaged.
    """
    if run.regions is None or run.evidence is None:
        return None
    evidence = read_table(run.evidence, stage="describe_regions", columns=_KEYS)
    if len(evidence.columns) == len(_KEYS):
        return None
    regions = read_table(run.regions, stage="describe_regions", columns=_KEYS | dict.fromkeys(_BOX, "integers"))
    regions = regions[regions["region"] <= MOST_REGIONS]
    of_region = dict(iter(evidence.groupby(list(_KEYS), sort=False)))
    of_image = {str(sample_id): rows for sample_id, rows in regions.groupby("sample_id", sort=False)}
    crops: dict[Crop, str] = {}
    entries = []
    for sample in samples.to_dict("records"):
        rows = of_image.get(str(sample["sample_id"]))
        marked = [] if rows is None else rows.to_dict("records")
        entries.append(
            [_entry(row, sample, of_region[row["sample_id"], row["region"]], crops, name) for row in marked] or None
        )
    _draw(crops, folder, root, bit_depth, threads)
    return entries


def _entry(
    row: Mapping[Any, Any], sample: Mapping[Any, Any], evidence: pd.DataFrame, crops: dict[Crop, str], name: str
) -> dict[str, Any]:
    """What the page says of a region; adds the pictures that it shows."""
    box: Box = (row["x"], row["y"], row["width"], row["height"])
    entry = {"region": row["region"]}
    token: Box = tuple(int(evidence[f"token_{part}"].iloc[0]) for part in _BOX)  # type: ignore[assignment]
    side = round(max(1.5 * max(box[2:]), CONTEXT * max(token[2:])))
    if "normal_id" in evidence:
        entry["normal"] = [_normal(patch, side, crops, name) for patch in _patches(evidence)]
        entry["distance"] = float(evidence["distance"].where(evidence["rank"] == 1).max())
    else:
        entry["groups"] = [_group(group) for group in evidence.to_dict("records")]
    sides = (int(sample["height"]), int(sample["width"]))
    entry["picture"] = _picture(Crop(str(sample["image"]), _square(box, side, sides), (box, token)), crops, name)
    return entry


def _patches(evidence: pd.DataFrame) -> list[dict[Any, Any]]:
    """The patches of the block that counts most for the score: the one with the largest distance."""
    block = evidence[evidence["rank"] == 1].sort_values("distance")["block"].iloc[-1]
    of_block = evidence[(evidence["block"] == block) & evidence["normal_id"].notna()]
    return of_block.sort_values("rank").to_dict("records")


def _normal(patch: Mapping[Any, Any], side: int, crops: dict[Crop, str], name: str) -> dict[str, Any]:
    box: Box = tuple(int(patch[f"normal_{part}"]) for part in _BOX)  # type: ignore[assignment]
    crop = Crop(str(patch["normal_image"]), _square(box, side), (box,))
    return {
        **{"id": patch["normal_id"], "x": box[0], "y": box[1], "distance": float(patch["distance"])},
        "picture": _picture(crop, crops, name),
    }


def _group(row: Mapping[Any, Any]) -> dict[str, Any]:
    names = ("distance", "percentile", "normal_median", "normal_99", "normal_max")
    return {"group": int(row["group"]), **{name: None if pd.isna(row[name]) else float(row[name]) for name in names}}


def _square(box: Box, side: int, sides: tuple[int, int] | None = None) -> Box:
    """A square around the center of a box, moved into an image of this height and width as far as it fits."""
    x, y = box[0] + box[2] // 2 - side // 2, box[1] + box[3] // 2 - side // 2
    if sides:
        x, y = (max(0, min(start, length - side)) for start, length in ((x, sides[1]), (y, sides[0])))
    return x, y, side, side


def _picture(crop: Crop, crops: dict[Crop, str], name: str) -> str:
    return crops.setdefault(crop, f"{name}-{len(crops) + 1}.jpg")


def _draw(crops: Mapping[Crop, str], folder: Path, root: Path, bit_depth: int | None, threads: int) -> None:
    """Draw all pictures; each image is opened once."""
    of_image: dict[str, list[Crop]] = {}
    for crop in crops:
        of_image.setdefault(crop.image, []).append(crop)

    def draw(job: tuple[str, Sequence[Crop]]) -> None:
        image = read_image(root / job[0], bit_depth=bit_depth)
        for crop in job[1]:
            (folder / crops[crop]).write_bytes(draw_crop(image, crop))

    for _ in threaded(draw, of_image.items(), threads):
        pass


def draw_crop(image: np.ndarray, crop: Crop) -> bytes:
    """A JPEG of a part of a uint8 RGB image (H, W, 3); black beyond the image, with frames around its boxes."""
    x, y, side, _ = crop.square
    pixels = np.zeros((side, side, 3), np.uint8)
    top, left = max(0, y), max(0, x)
    seen = image[top : y + side, left : x + side]
    pixels[top - y : top - y + seen.shape[0], left - x : left - x + seen.shape[1]] = seen
    method = cv2.INTER_AREA if side > PICTURE else cv2.INTER_NEAREST
    picture = cv2.resize(pixels, (PICTURE, PICTURE), interpolation=method)
    for frame in crop.frames:
        # A white line inside a black one: seen on any ground.
        for grow, color in ((2, (0, 0, 0)), (1, (255, 255, 255))):
            cv2.rectangle(picture, *_corners(frame, crop.square, grow), color, 1)
    return pictures.draw_image(picture, PICTURE, PICTURE)


def _corners(frame: Box, square: Box, grow: int) -> tuple[tuple[int, int], tuple[int, int]]:
    """First and last pixel of a frame's line in the picture of a square, so many pixels outside."""
    scale = PICTURE / square[2]
    left, top = (round((frame[axis] - square[axis]) * scale) for axis in (0, 1))
    width, height = (round(frame[axis] * scale) for axis in (2, 3))
    return (left - grow, top - grow), (left + width - 1 + grow, top + height - 1 + grow)
