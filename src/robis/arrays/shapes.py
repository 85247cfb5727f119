"""Random shapes of drawn defects: wavy patches and smooth lines."""

from __future__ import annotations

import numpy as np


def wavy_patch(
    rng: np.random.Generator, center: np.ndarray, length: float, shape: tuple[int, ...], squash: float = 0.8,
    turn: float | None = None,
) -> np.ndarray:  # fmt: skip
    """Distance in pixels, float32 (H, W), from the inside to the wavy border of a patch; negative outside.

    Args:
        rng: draws the border.
        center: x and y in pixels.
        length: of the patch in pixels.
        shape: (H, W) and anything behind.
        squash: width as a fraction of the length.
        turn: direction of the length in radians; None: drawn.
    """
    y, x = np.mgrid[0 : shape[0], 0 : shape[1]].astype(np.float32)
    turn = rng.uniform(0, 2 * np.pi) if turn is None else turn
    p = (x - center[0]) * np.cos(turn) + (y - center[1]) * np.sin(turn)
    q = ((y - center[1]) * np.cos(turn) - (x - center[0]) * np.sin(turn)) / squash
    angle = np.arctan2(q, p)
    wave = sum(rng.uniform(0, 1) / k * np.cos(k * angle + rng.uniform(0, 2 * np.pi)) for k in range(2, 8))
    wave = (wave - np.min(wave)) / (np.max(wave) - np.min(wave))
    return ((length / 2 * (0.72 + 0.28 * wave) - np.hypot(p, q)) * np.sqrt(squash)).astype(np.float32)


def smooth_path(rng: np.random.Generator, curl: float) -> np.ndarray:
    """The points, float64 (51, 2) x and y, of a smooth random line; neighbors lie 1 apart.

    Args:
        rng: draws the line.
        curl: how much it bends; 0: a straight line.
    """
    heading = rng.uniform(0, 2 * np.pi) + curl * np.cumsum(np.convolve(rng.normal(0, 1, 40), np.ones(12) / 12))
    return np.cumsum(np.stack([np.cos(heading), np.sin(heading)], axis=1), axis=0)
