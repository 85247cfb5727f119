"""Synthetic defects of an exact size: what they look like, and where they are put on an image.

The size of a scratch is its length; that of all other kinds is the diameter of the circle of equal area, in pixels of
the image. All randomness comes from the generator that is passed in.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import cv2
import numpy as np

from robis.arrays.shapes import smooth_path, wavy_patch
from robis.errors import DataError
from robis.io.copies import copy_of

# Shapes are drawn this many times finer than the image, and averaged: edges cover pixels in part.
FINER = 8
# Pixels around a shape that a kind may look at.
MARGIN = 4
# Pixels along the image's border that no defect covers.
BORDER = 2
# A defect changes gray levels by at least this much on average; otherwise another place is tried, so many times.
VISIBLE, PLACES = 2.0, 20
# Width of a scratch: a fraction of its length, within these pixels.
SCRATCH_WIDTH, SCRATCH_WIDTHS = 1 / 12, (1.0, 4.0)
# Pixels that a crop covers less than this have no color of their own.
LEAST_COVER = 1e-6


@dataclass(frozen=True, eq=False)
class Stamp:
    """A defect before it has a place.

    Attributes:
        cover: float32 (h, w), 0..1, how much of each pixel it covers; MARGIN pixels along the border are 0.
        paint: from the image below it, float32 (h, w, 3) RGB in 0..255, to the defect's colors.
    """

    cover: np.ndarray
    paint: Callable[[np.ndarray], np.ndarray]

    @property
    def radius(self) -> float:
        """Distance in pixels from the center to the farthest pixel that it covers."""
        rows, columns = np.nonzero(self.cover)
        down, across = (self.cover.shape[0] - 1) / 2, (self.cover.shape[1] - 1) / 2
        return float(np.hypot(np.abs(rows - down) + 1, np.abs(columns - across) + 1).max())


@dataclass(frozen=True, eq=False)
class Placed:
    """An image with a defect.

    Attributes:
        image: uint8 (H, W, 3) RGB.
        mask: bool (H, W), pixels of which the defect covers at least half (of its most covered pixel).
        x, y: center of the defect in pixels.
        change: mean difference of gray levels inside the mask.
    """

    image: np.ndarray
    mask: np.ndarray
    x: int
    y: int
    change: float


def free_area(height: int, width: int, ignored: np.ndarray | None = None) -> np.ndarray:
    """Where defects may lie, bool (H, W): everywhere but along the border of the image and on ignored pixels.

    Args:
        height, width: of the image.
        ignored: bool (H, W), pixels that never count; None: all count.
    """
    free = np.zeros((height, width), bool)
    free[BORDER : height - BORDER, BORDER : width - BORDER] = True
    return free if ignored is None else free & ~ignored


def room_in(allowed: np.ndarray) -> np.ndarray:
    """The distance, float32 (H, W), from each pixel to the nearest one that is not allowed or outside the image.

    Args:
        allowed: bool (H, W), where defects may lie.
    """
    padded = cv2.copyMakeBorder(allowed.astype(np.uint8), 1, 1, 1, 1, cv2.BORDER_CONSTANT, value=0)
    room: np.ndarray = cv2.distanceTransform(padded, cv2.DIST_L2, cv2.DIST_MASK_PRECISE)[1:-1, 1:-1]
    return room


def put(image: np.ndarray, stamp: Stamp, room: np.ndarray, rng: np.random.Generator) -> Placed | None:
    """Put a defect at a random place where all of it is in the allowed area; None where there is none.

    Args:
        image: uint8 (H, W, 3) RGB.
        stamp: the defect.
        room: as `room_in` gives it.
        rng: draws the place; another one is drawn while the image hardly changes, as on a saturated background.
    """
    centers = np.flatnonzero(room > stamp.radius)
    if not len(centers):
        return None
    best = None
    for center in rng.choice(centers, PLACES):
        placed = _put_at(image, stamp, *divmod(int(center), image.shape[1]))
        if best is None or placed.change > best.change:
            best = placed
        if best.change >= VISIBLE:
            break
    return best


def _put_at(image: np.ndarray, stamp: Stamp, y: int, x: int) -> Placed:
    (height, width), cover = image.shape[:2], stamp.cover
    top, left = y - cover.shape[0] // 2, x - cover.shape[1] // 2
    bottom, right = top + cover.shape[0], left + cover.shape[1]
    # The margin may reach beyond the image, the shape does not.
    inside = np.s_[max(0, top) : bottom, max(0, left) : right]
    beyond = (max(0, -top), max(0, bottom - height), max(0, -left), max(0, right - width))
    patch = cv2.copyMakeBorder(image[inside], *beyond, cv2.BORDER_REPLICATE).astype(np.float32)
    painted = patch + (stamp.paint(patch) - patch) * cover[..., None]
    visible = np.s_[beyond[0] : len(cover) - beyond[1], beyond[2] : cover.shape[1] - beyond[3]]
    result, mask = image.copy(), np.zeros((height, width), bool)
    result[inside] = np.clip(np.rint(painted[visible]), 0, 255).astype(np.uint8)
    mask[inside] = cover[visible] >= 0.5 * cover.max()
    change = np.abs(result[mask].astype(np.float32) - image[mask]).mean()
    return Placed(result, mask, x, y, float(change))


def _blank(reach: float, rng: np.random.Generator) -> tuple[int, np.ndarray]:
    """The odd side of a stamp that holds a shape of this reach in pixels, and the shape's center on its canvas."""
    side = 2 * (int(np.ceil(reach)) + MARGIN) + 1
    return side, (side * FINER - 1) / 2 + rng.uniform(-0.5, 0.5, 2) * FINER


def _averaged(fine: np.ndarray) -> np.ndarray:
    """A canvas that is FINER times larger, bool or 0..255, as the cover of a stamp."""
    side = fine.shape[0] // FINER
    shrunk = cv2.resize(fine.astype(np.float32), (side, side), interpolation=cv2.INTER_AREA)
    cover: np.ndarray = shrunk / max(1.0, float(fine.max()))
    return cover


def round_cover(size: float, rng: np.random.Generator) -> np.ndarray:
    """The cover of a disk of this diameter."""
    side, center = _blank(size / 2, rng)
    y, x = np.mgrid[0 : side * FINER, 0 : side * FINER]
    return _averaged(np.hypot(x - center[0], y - center[1]) <= size * FINER / 2)


def wavy_cover(size: float, rng: np.random.Generator) -> np.ndarray:
    """The cover of a patch with a wavy border, of the area of a circle of this diameter."""
    side, center = _blank(size, rng)
    depth = wavy_patch(rng, center, 1.4 * size * FINER, (side * FINER, side * FINER))
    area = round(np.pi / 4 * (size * FINER) ** 2)
    return _averaged(depth >= np.partition(depth.ravel(), -area)[-area])


def line_cover(size: float, rng: np.random.Generator) -> np.ndarray:
    """The cover of a thin, slightly bent line of this length."""
    side, center = _blank(size / 2 + SCRATCH_WIDTHS[1], rng)
    width = float(np.clip(size * SCRATCH_WIDTH, *SCRATCH_WIDTHS))
    path = smooth_path(rng, 0.25)
    # Its ends are round: they are a part of its length.
    path = path * max(0.0, size - width) * FINER / (len(path) - 1)
    path += center - (path.max(axis=0) + path.min(axis=0)) / 2
    fine = np.zeros((side * FINER, side * FINER), np.uint8)
    cv2.polylines(fine, [np.rint(path * 16).astype(np.int32)], False, 1, round(width * FINER), cv2.LINE_8, shift=4)
    return _averaged(fine)


def _color(patch: np.ndarray, cover: np.ndarray) -> np.ndarray:
    """The mean color (3,) of a patch under a cover."""
    color: np.ndarray = np.average(patch.reshape(-1, 3), axis=0, weights=cover.ravel())
    return color


def _shifted(cover: np.ndarray, contrast: float) -> Stamp:
    """Gray levels differ by the contrast: darker on bright places, brighter on dark ones, where 0..255 has room."""

    def paint(patch: np.ndarray) -> np.ndarray:
        return patch + (-contrast if _color(patch, cover).mean() >= 128 else contrast)

    return Stamp(cover, paint)


def scratch(size: float, contrast: float, rng: np.random.Generator) -> Stamp:
    """A thin line, darker or brighter than the image by the contrast."""
    return _shifted(line_cover(size, rng), contrast)


def stain(size: float, contrast: float, rng: np.random.Generator) -> Stamp:
    """A patch with a wavy border, darker or brighter by the contrast; the image's texture shines through."""
    return _shifted(wavy_cover(size, rng), contrast)


def pit(size: float, contrast: float, rng: np.random.Generator) -> Stamp:
    """A round hollow in light from one side: at the rim one wall is brighter by the contrast, the other darker."""
    cover, turn = round_cover(size, rng), rng.uniform(0, 2 * np.pi)
    half = (len(cover) - 1) / 2
    y, x = np.mgrid[0 : len(cover), 0 : len(cover)] - half
    slope = np.clip((x * np.cos(turn) + y * np.sin(turn)) / max(size / 2, 0.5), -1, 1)
    return Stamp(cover, lambda patch: patch + contrast * slope[..., None])


def texture(size: float, contrast: float, rng: np.random.Generator) -> Stamp:
    """A patch of foreign grain of the image's mean color; gray levels deviate by half the contrast (rms)."""
    cover = wavy_cover(size, rng)
    grain = cv2.GaussianBlur(rng.normal(0, 1, cover.shape), (0, 0), 1.0)
    grain *= contrast / 2 / grain.std()
    return Stamp(cover, lambda patch: _color(patch, cover) + grain[..., None])


def missing(size: float, contrast: float, rng: np.random.Generator) -> Stamp:
    """A patch whose structure is gone: filled in from its surroundings (Telea, 2004). It has no contrast of its own."""
    cover = wavy_cover(size, rng)
    hole = (cover > 0).astype(np.uint8)
    return Stamp(cover, lambda patch: cv2.inpaint(patch.astype(np.uint8), hole, 3, cv2.INPAINT_TELEA))


def blur(size: float, contrast: float, rng: np.random.Generator) -> Stamp:
    """A patch out of focus: sigma is an eighth of the size, at least 1 pixel. It has no contrast of its own."""
    sigma = max(1.0, size / 8)
    return Stamp(wavy_cover(size, rng), lambda patch: cv2.GaussianBlur(patch, (0, 0), sigma))


KINDS: Mapping[str, Callable[[float, float, np.random.Generator], Stamp]] = {
    "scratch": scratch,
    "pit": pit,
    "stain": stain,
    "texture": texture,
    "missing": missing,
    "blur": blur,
}
# Kinds whose contrast is that of the image itself, or of the user's crops.
WITHOUT_CONTRAST = ("missing", "blur", "crop")
PLURALS = {
    "scratch": "scratches",
    "pit": "pits",
    "stain": "stains",
    "texture": "patches of foreign texture",
    "missing": "patches of missing structure",
    "blur": "blurred patches",
    "crop": "given crops",
}


def read_crops(files: Sequence[Path]) -> list[np.ndarray]:
    """Read the user's own defects: uint8 (h, w, 4) RGBA each, in the middle of a transparent border.

    Raises DataError for a file that is no PNG of 8 bits with an alpha channel, or that has no opaque pixel.
    """
    crops = []
    for file in files:
        data = np.frombuffer(copy_of(file).read_bytes(), np.uint8)
        pixels = cv2.imdecode(data, cv2.IMREAD_UNCHANGED) if data.size else None
        if pixels is None or pixels.dtype != np.uint8 or pixels.ndim != 3 or pixels.shape[2] != 4:
            raise DataError(
                f"{file}: expected a PNG of 8 bits with colors and an alpha channel, which is opaque on the defect. "
                f"Write it again, or take it out of detectability.crops."
            )
        if pixels[..., 3].max() < 128:
            raise DataError(f"{file}: no pixel is opaque; expected a defect. Take it out of detectability.crops.")
        # Graphics programs save a layer on the canvas of its whole image.
        x, y, width, height = cv2.boundingRect(pixels[..., 3])
        crop = cv2.cvtColor(pixels[y : y + height, x : x + width], cv2.COLOR_BGRA2RGBA)
        # With a border of its own size, scaling to whole pixels changes the defect little.
        crops.append(np.pad(crop, ((height, height), (width, width), (0, 0))))
    return crops


def crop_stamp(crops: Sequence[np.ndarray], size: float, rng: np.random.Generator) -> Stamp:
    """One of the user's defects, turned by a multiple of 90 degrees, scaled so that its opaque area has the size."""
    crop = np.rot90(crops[int(rng.integers(len(crops)))], int(rng.integers(4)))
    factor = size / np.sqrt(4 / np.pi * np.count_nonzero(crop[..., 3] >= 128))
    height, width = (max(1, round(side * factor)) for side in crop.shape[:2])
    filtering = cv2.INTER_AREA if factor < 1 else cv2.INTER_LINEAR
    scaled = cv2.resize(_weighted(crop), (width, height), interpolation=filtering)
    # An odd number of pixels with the margin, so that the stamp has a center.
    margins = [(MARGIN, MARGIN + 1 - side % 2) for side in (height, width)]
    padded = np.pad(scaled, (*margins, (0, 0)))
    cover = padded[..., 3]
    colors = padded[..., :3] / np.maximum(cover, LEAST_COVER)[..., None]
    return Stamp(cover, lambda patch: colors)


def _weighted(crop: np.ndarray) -> np.ndarray:
    """A crop, uint8 (h, w, 4) RGBA, as float32 with alpha in 0..1 and colors times alpha.

    Scaled so, the colors behind transparent pixels, which may be any, do not get into the rim.
    """
    alpha = crop[..., 3:].astype(np.float32) / 255
    return np.concatenate([crop[..., :3] * alpha, alpha], axis=2)
