"""Thumbnails, heatmaps and mask overlays: pixels to encoded pictures.

A sample's pictures share one size and lie over each other on the page, where the browser blends them:
the image as JPEG, the heatmap as JPEG, and the masks as PNG that is transparent beside them.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import cv2
import numpy as np

MAX_WIDTH, MAX_HEIGHT = 480, 640
HEAT_RANGE = 255.0
# Monotonic in lightness and perceptually uniform, so that brighter always reads as higher, also in gray.
COLORMAP = cv2.COLORMAP_INFERNO
SMALL = 8
RING_RADIUS = 11
MOST_RINGS = 20


@dataclass(frozen=True)
class Layer:
    """How a mask is drawn.

    Attributes:
        color: RGB, 0..255.
        fill: opacity inside the outline, 0..1; 0 leaves it empty.
        width: pixels of the outline that lie outside the mask; one more lies inside.
        rings: whether to circle regions that are too small to be noticed.
    """

    color: tuple[int, int, int]
    fill: float
    width: int
    rings: bool

    @property
    def css(self) -> str:
        """The color as CSS writes it, for the page's legend."""
        return "#{:02x}{:02x}{:02x}".format(*self.color)


# Told apart by lightness and by hue with any common color blindness (after Okabe and Ito's palette).
COARSE = Layer((255, 176, 0), fill=0.0, width=3, rings=False)
FINAL = Layer((0, 200, 255), fill=0.3, width=1, rings=True)
TRUTH = Layer((120, 255, 90), fill=0.3, width=1, rings=True)


def thumbnail_size(height: int, width: int) -> tuple[int, int]:
    """(height, width) of the picture of an image: within the maximum, of the image's shape, never larger."""
    factor = min(1.0, MAX_WIDTH / width, MAX_HEIGHT / height)
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
    return _encode(".jpg", cv2.cvtColor(shrunk, cv2.COLOR_RGB2BGR), [cv2.IMWRITE_JPEG_QUALITY, 85])


def draw_heatmap(anomaly_map: np.ndarray, height: int, width: int) -> bytes:
    """A JPEG (height, width) of a float16 anomaly map (H, W) in COLORMAP, 0..HEAT_RANGE whatever the map holds.

    Higher values take the last color. Peaks outlast shrinking: it keeps the highest value, not the average.
    """
    levels: np.ndarray = np.clip(anomaly_map.astype(np.float32), 0, HEAT_RANGE) * (255 / HEAT_RANGE)
    rows, columns = min(height, levels.shape[0]), min(width, levels.shape[1])
    levels = cv2.resize(max_pool(levels, rows, columns), (width, height), interpolation=cv2.INTER_LINEAR)
    colored = cv2.applyColorMap(np.rint(levels).astype(np.uint8), COLORMAP)
    return _encode(".jpg", colored, [cv2.IMWRITE_JPEG_QUALITY, 85])


def colormap_css(steps: int = 17) -> str:
    """The colormap from 0 to HEAT_RANGE as the color stops of a CSS gradient."""
    levels = np.rint(np.linspace(0, 255, steps)).astype(np.uint8)
    colors = cv2.applyColorMap(levels[:, None], COLORMAP)[:, 0, ::-1]
    return ", ".join("#{:02x}{:02x}{:02x}".format(*color) for color in colors.tolist())


def draw_masks(masks: Sequence[tuple[np.ndarray, Layer]], height: int, width: int) -> bytes:
    """A PNG (height, width), transparent outside, of bool masks (H, W) of any size, the last on top.

    A mask of one pixel shows as an outline of at least 3 x 3 pixels, and within a ring if its layer has rings.
    A dark rim sets the outlines off from any image.
    """
    layers = [(max_pool(mask, height, width).astype(np.uint8), layer) for mask, layer in masks]
    lines = [_outline(mask, layer) for mask, layer in layers]
    canvas = np.zeros((height, width, 4), np.uint8)
    for mask, layer in layers:
        if layer.fill:
            canvas[mask > 0] = (*layer.color[::-1], round(255 * layer.fill))
    for line in lines:
        canvas[cv2.dilate(line, _block(1)) > 0] = (0, 0, 0, 110)
    for (_, layer), line in zip(layers, lines, strict=True):
        canvas[line > 0] = (*layer.color[::-1], 255)
    return _encode(".png", canvas, [cv2.IMWRITE_PNG_COMPRESSION, 9])


def _outline(mask: np.ndarray, layer: Layer) -> np.ndarray:
    inner = cv2.erode(mask, _block(1), borderType=cv2.BORDER_CONSTANT, borderValue=0)
    line = cv2.dilate(mask, _block(layer.width)) - inner
    if layer.rings:
        _, _, boxes, centers = cv2.connectedComponentsWithStats(mask, connectivity=8)
        small = [
            center
            for box, center in zip(boxes[1:], centers[1:], strict=True)
            if max(box[cv2.CC_STAT_WIDTH], box[cv2.CC_STAT_HEIGHT]) < SMALL
        ]
        # A mask of specks is noise; circles around each would hide the image.
        for x, y in small if len(small) <= MOST_RINGS else []:
            cv2.circle(line, (round(x), round(y)), RING_RADIUS, 1, thickness=1 + layer.width)
    return line


def _block(radius: int) -> np.ndarray:
    return np.ones((2 * radius + 1, 2 * radius + 1), np.uint8)


def _encode(suffix: str, pixels: np.ndarray, options: list[int]) -> bytes:
    done, data = cv2.imencode(suffix, pixels, options)
    if not done:
        raise ValueError(f"the {suffix} encoder failed on an array of shape {pixels.shape}")
    return data.tobytes()
