"""Generated defects: what is put on a generated surface, and where it can be seen."""

from __future__ import annotations

from collections.abc import Callable

import cv2
import numpy as np

from pretraining.textures import noise

Painter = Callable[[np.random.Generator, np.ndarray, np.ndarray, np.ndarray], np.ndarray]

# A change of fewer levels than this, of 255, is nothing that a label should ask for.
VISIBLE = 10.0


def damage(
    rng: np.random.Generator, image: np.ndarray, donor: np.ndarray, kinds: tuple[str, ...] | None = None
) -> tuple[np.ndarray, np.ndarray]:
    """Put one defect on a picture.

    Args:
        rng: where everything random comes from.
        image: float32 (size, size, 3) RGB, about 0..255.
        donor: a picture of another texture, of the same size.
        kinds: names of `KINDS` to draw from; None takes all.

    Returns:
        The damaged picture, float32, and a bool mask (size, size) of the pixels that changed visibly.
    """
    size = len(image)
    kind = str(rng.choice(kinds or tuple(KINDS)))
    if kind in _THIN or (kind not in _WIDE and rng.random() < 0.25):
        region = _stroke(rng, size)
    else:
        region = _blob(rng, size, (14, 60) if kind in _FAINT else (2.5, 28))
    after = KINDS[kind](rng, image, donor, region)
    soft = size * rng.uniform(0.02, 0.12) if kind in _FAINT else rng.choice([0.0, 0.6, 1.5])
    alpha = region.astype(np.float32)
    if soft:
        alpha = np.asarray(cv2.GaussianBlur(alpha, (0, 0), float(soft)))
    damaged = image + alpha[..., None] * (after - image)
    change = cv2.blur(np.abs(damaged - image).max(axis=2), (3, 3))
    return damaged.astype(np.float32), change > VISIBLE


def _blob(rng: np.random.Generator, size: int, radii: tuple[float, float]) -> np.ndarray:
    """A patch with a ragged, round or cornered outline, bool (size, size), its radius given for 112 px."""
    radius = size / 112 * np.exp(rng.uniform(*np.log(radii)))
    squash, turn = rng.uniform(0.3, 1), rng.uniform(0, np.pi)
    cx, cy = rng.uniform(0.05, 0.95, 2) * size
    form = rng.random()
    if form < 0.3:
        corners = int(rng.integers(3, 9))
        around = np.sort(rng.uniform(0, 2 * np.pi, corners))
        ring = radius * rng.uniform(0.5, 1.4, corners)
        points = np.stack([cx + ring * np.cos(around), cy + squash * ring * np.sin(around)], axis=1)
        mask = np.zeros((size, size), np.uint8)
        cv2.fillPoly(mask, [np.rint(points).astype(np.int32)], 1)
        return mask > 0
    y, x = np.mgrid[0:size, 0:size].astype(np.float32)
    u = np.cos(turn) * (x - cx) + np.sin(turn) * (y - cy)
    v = np.cos(turn) * (y - cy) - np.sin(turn) * (x - cx)
    distance = np.hypot(u, v / squash) / radius
    if form < 0.7:
        distance = distance + 0.35 * noise(rng, size, max(2.0, radius / 2))
    return np.asarray(distance < 1)


def _stroke(rng: np.random.Generator, size: int) -> np.ndarray:
    """A scratch, crack or hair, or several side by side, bool (size, size)."""
    mask = np.zeros((size, size), np.uint8)
    heading, start = rng.uniform(0, 2 * np.pi), rng.uniform(0.1, 0.9, 2) * size
    length, bend = size * np.exp(rng.uniform(np.log(0.1), np.log(0.9))), rng.choice([0.05, 0.3, 0.8])
    width = int(rng.choice([1, 1, 2, 3, 5]))
    for _ in range(int(rng.choice([1, 1, 1, 3]))):
        turns = heading + np.cumsum(rng.normal(0, bend, 10))
        steps = length / 10 * np.stack([np.cos(turns), np.sin(turns)], axis=1)
        points = start + rng.normal(0, 4, 2) + np.cumsum(steps, axis=0)
        cv2.polylines(mask, [np.rint(points * 8).astype(np.int32)], False, 1, width, cv2.LINE_8, 3)
    return mask > 0


def _flat(rng: np.random.Generator, image: np.ndarray, donor: np.ndarray, region: np.ndarray) -> np.ndarray:
    """Paint, dirt, a hole: one color, dark and bright ones oftener."""
    color = rng.choice([0.0, 255.0]) * np.ones(3) if rng.random() < 0.4 else rng.uniform(0, 255, 3)
    if rng.random() < 0.6:
        color = np.full(3, color.mean())
    return image + rng.uniform(0.4, 1) * (color.astype(np.float32) - image)


def _stain(rng: np.random.Generator, image: np.ndarray, donor: np.ndarray, region: np.ndarray) -> np.ndarray:
    """A liquid: darker, brighter or tinted, what is below still shows."""
    gain = np.exp(rng.choice([-1, 1]) * rng.uniform(0.12, 0.6) + rng.choice([0, 0.15]) * rng.normal(0, 1, 3))
    return image * gain.astype(np.float32)


def _foreign(rng: np.random.Generator, image: np.ndarray, donor: np.ndarray, region: np.ndarray) -> np.ndarray:
    """Another material, often in this one's tone."""
    if rng.random() < 0.5 and region.any():
        inside, wanted = donor[region], image[region]
        donor = (donor - inside.mean(axis=0)) / (inside.std() + 4) * (wanted.std() + 4) + wanted.mean(axis=0)
    return rng.uniform(0.5, 1) * (donor - image) + image


def _pit(rng: np.random.Generator, image: np.ndarray, donor: np.ndarray, region: np.ndarray) -> np.ndarray:
    """A dent or a bump: one flank in shadow, the other in the light."""
    depth = cv2.distanceTransform(region.astype(np.uint8), cv2.DIST_L2, 3)
    depth = cv2.GaussianBlur(depth / (depth.max() + 1e-3), (0, 0), 1.0)
    dy, dx = np.gradient(depth)
    angle = rng.uniform(0, 2 * np.pi)
    slope = np.cos(angle) * dx + np.sin(angle) * dy
    shade = rng.uniform(25, 90) * slope / (np.abs(slope).max() + 1e-3) - rng.choice([0, 40]) * depth
    return image + shade[..., None].astype(np.float32)


def _turned(rng: np.random.Generator, image: np.ndarray, donor: np.ndarray, region: np.ndarray) -> np.ndarray:
    """The same material, turned, mirrored or scaled: a wrong thread, a wrong grain."""
    center = (len(image) / 2, len(image) / 2)
    matrix = cv2.getRotationMatrix2D(center, rng.uniform(30, 150), rng.choice([1.0, 0.6, 1.7]))
    return cv2.warpAffine(image, matrix, image.shape[:2], borderMode=cv2.BORDER_REFLECT)


def _bent(rng: np.random.Generator, image: np.ndarray, donor: np.ndarray, region: np.ndarray) -> np.ndarray:
    """The same material, pulled out of place."""
    size = len(image)
    y, x = np.mgrid[0:size, 0:size].astype(np.float32)
    pull = rng.uniform(4, 12)
    return cv2.remap(
        image,
        x + (pull * noise(rng, size, 10)).astype(np.float32),
        y + (pull * noise(rng, size, 10)).astype(np.float32),
        cv2.INTER_LINEAR,
        borderMode=cv2.BORDER_REFLECT,
    )


def _worn(rng: np.random.Generator, image: np.ndarray, donor: np.ndarray, region: np.ndarray) -> np.ndarray:
    """The pattern is rubbed off, smeared, or missing."""
    sigma = float(rng.uniform(2, 8))
    if rng.random() < 0.4:
        return np.asarray(cv2.GaussianBlur(image, (0, 0), sigma, sigmaY=0.5))
    small = cv2.GaussianBlur(image, (0, 0), 1.5 * sigma)
    return small + rng.uniform(0, 6) * rng.standard_normal((*image.shape[:2], 1)).astype(np.float32)


def _shade(rng: np.random.Generator, image: np.ndarray, donor: np.ndarray, region: np.ndarray) -> np.ndarray:
    """A wide, soft change of brightness or contrast: uneven coating, wear, damp."""
    gain = np.exp(rng.choice([-1, 1]) * rng.uniform(0.15, 0.6))
    mean = image.mean(axis=(0, 1))
    flat = rng.choice([1.0, 1.0, 0.4, 1.8])
    return np.asarray((mean + flat * (image - mean)) * gain, np.float32)


def _rough(rng: np.random.Generator, image: np.ndarray, donor: np.ndarray, region: np.ndarray) -> np.ndarray:
    """Grain where there was none: corrosion, spatter, dust."""
    grain = noise(rng, len(image), rng.uniform(1.2, 5))
    if rng.random() < 0.5:
        grain = np.where(grain > 1, 2.5, 0.0)
    return image + (rng.choice([-1, 1]) * rng.uniform(15, 60) * grain)[..., None].astype(np.float32)


def _contrast(rng: np.random.Generator, image: np.ndarray, donor: np.ndarray, region: np.ndarray) -> np.ndarray:
    """The pattern is too strong, too weak, or inverted."""
    mean = image[region].mean(axis=0) if region.any() else image.mean(axis=(0, 1))
    return mean + rng.choice([-1.0, 0.2, 2.5]) * (image - mean)


KINDS: dict[str, Painter] = {
    "flat": _flat,
    "stain": _stain,
    "foreign": _foreign,
    "pit": _pit,
    "turned": _turned,
    "bent": _bent,
    "worn": _worn,
    "rough": _rough,
    "contrast": _contrast,
    "shade": _shade,
    "scratch": _flat,
    "crack": _stain,
}
_THIN = ("scratch", "crack")
_FAINT = ("shade",)
_WIDE = ("pit", "turned", "bent", "worn", "rough", "contrast", *_FAINT)
