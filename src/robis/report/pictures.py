"""Thumbnails and heatmaps, as JPEG files that the page shows on top of each other."""

from __future__ import annotations

import cv2
import numpy as np

# Bounded by area, so that long images keep as much detail as square ones.
MOST_PIXELS = 640 * 480
LONGEST_SIDE = 1280
HEAT_RANGE = 255.0
# Monotonic in lightness and perceptually uniform, so that brighter always reads as higher, also in gray.
COLORMAP = cv2.COLORMAP_INFERNO


def thumbnail_size(height: int, width: int) -> tuple[int, int]:
    """(height, width) of the picture of an image: within the bounds, of the image's shape, never larger."""
    factor = min(1.0, (MOST_PIXELS / (height * width)) ** 0.5, LONGEST_SIDE / max(height, width))
    return max(1, round(height * factor)), max(1, round(width * factor))


def max_pool(values: np.ndarray, height: int, width: int) -> np.ndarray:
    """Bring (H, W) to (height, width) so that no maximum is lost: nearest along an axis that grows.

    Each row and column of the input falls into exactly one of the output; bool stays bool.
    """
    for axis, (old, new) in enumerate(zip(values.shape, (height, width), strict=True)):
        if old != new:
            values = np.maximum.reduceat(values, np.arange(new) * old // new, axis=axis)
    return values


def draw_image(image: np.ndarray, height: int, width: int) -> bytes:
    """A JPEG (height, width) of a uint8 RGB image (H, W, 3)."""
    shrunk = cv2.resize(image, (width, height), interpolation=cv2.INTER_AREA)
    return _encode_jpeg(cv2.cvtColor(shrunk, cv2.COLOR_RGB2BGR))


def draw_heatmap(
    anomaly_map: np.ndarray, height: int, width: int, *, low: float = 0.0, high: float = HEAT_RANGE
) -> bytes:
    """A JPEG of a float16 anomaly map (H, W) in COLORMAP from `low` to `high`.

    It is at most (height, width), and never larger than the map. Values beyond the ends get the first or last color.
    Shrinking keeps the highest value, not the average, so that small peaks stay visible.
    """
    spread = high - low if high > low else 1.0
    highest = max_pool(anomaly_map, min(height, anomaly_map.shape[0]), min(width, anomaly_map.shape[1]))
    levels = np.clip((highest.astype(np.float32) - low) / spread, 0, 1) * 255
    return _encode_jpeg(cv2.applyColorMap(np.rint(levels).astype(np.uint8), COLORMAP))


def colormap_css(steps: int = 17) -> str:
    """The colormap from its low to its high end as the color stops of a CSS gradient."""
    levels = np.rint(np.linspace(0, 255, steps)).astype(np.uint8)
    colors = cv2.applyColorMap(levels[:, None], COLORMAP)[:, 0, ::-1]
    return ", ".join("#{:02x}{:02x}{:02x}".format(*color) for color in colors.tolist())


def _encode_jpeg(pixels: np.ndarray) -> bytes:
    done, data = cv2.imencode(".jpg", pixels, [cv2.IMWRITE_JPEG_QUALITY, 85])
    if not done:
        raise ValueError(f"the JPEG encoder failed on an array of shape {pixels.shape}")
    return data.tobytes()
