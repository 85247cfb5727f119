"""Random exposure and noise on training tiles (RoBiS, arXiv 2505.21152)."""

from __future__ import annotations

import numpy as np

EXPOSURE = 0.2
NOISE_SIGMA = 15.0


def augment(tile: np.ndarray, rng: np.random.Generator) -> np.ndarray:
    """With probability 1/2, change the exposure by 2^U(-0.2, 0.2), then add Gaussian noise of sigma 15.

    Both steps clip to 0..255 (the published code's order; the paper lists noise first).

    Args:
        tile: uint8 (s, s, 3) RGB.
        rng: source of all randomness.

    Returns:
        uint8 (s, s, 3); the same array when nothing changes.
    """
    if rng.random() < 0.5:
        return tile
    pixels = tile * np.float32(2 ** rng.uniform(-EXPOSURE, EXPOSURE))
    np.minimum(pixels, 255, out=pixels)
    pixels += NOISE_SIGMA * rng.standard_normal(pixels.shape, dtype=np.float32)
    # Truncated, as the published code does.
    return np.clip(pixels, 0, 255).astype(np.uint8)
