"""What can be measured of one image: exposure, sharpness, size, how it is stored, and a small picture of it."""

from __future__ import annotations

import hashlib
from dataclasses import dataclass
from pathlib import Path

import cv2
import numpy as np
from PIL import Image

from robis.io.copies import copy_of
from robis.io.ignored import filled
from robis.io.image_headers import FORMATS
from robis.io.images import read_image

# Longest sides in pixels: of what sharpness is measured on, so that it does not depend on the camera's resolution, and
# of the small pictures that are compared.
SHARPNESS_SIDE = 1024
SMALL_SIDE = 256
BLUR = 11


@dataclass(frozen=True)
class Measures:
    """Measures of one image.

    Attributes:
        digest: of the decoded pixels and their shape: equal for the same pixels, whatever the file format.
        small: float16 (h, w) gray, 0..255, at most `SMALL_SIDE` on the longer side.
        height, width: in pixels, as the image is shown.
        mode: how Pillow names the kind of pixels, such as L, RGB or I;16.
        brightness: mean gray value, 0..255.
        dark, bright: shares of pixels at the ends of the range, 0..1.
        sharpness: 0 (blurred) to 1, see `sharpness`.
    """

    digest: str
    small: np.ndarray
    height: int
    width: int
    mode: str
    brightness: float
    dark: float
    bright: float
    sharpness: float


def measure(path: Path, bit_depth: int | None = None, ignored: np.ndarray | None = None) -> Measures:
    """Measure one image. Raises DataError when it cannot be read.

    Args:
        path: the image.
        bit_depth: as in `read_image`.
        ignored: bool (H, W), pixels that only the digest counts; None: all count.
    """
    image = read_image(path, bit_depth=bit_depth)
    digest = hashlib.sha256(repr(image.shape).encode())
    digest.update(np.ascontiguousarray(image).data.cast("B"))
    gray = cv2.cvtColor(filled(image, ignored), cv2.COLOR_RGB2GRAY)
    del image
    counted = gray if ignored is None else gray[~ignored]
    height, width = gray.shape
    return Measures(
        digest=digest.hexdigest(),
        small=shrunk(gray, SMALL_SIDE).astype(np.float16),
        height=height,
        width=width,
        mode=_mode(path),
        brightness=float(counted.mean()),
        dark=float((counted == 0).mean()),
        bright=float((counted == 255).mean()),
        sharpness=sharpness(shrunk(gray, SHARPNESS_SIDE)),
    )


def shrunk(gray: np.ndarray, side: int) -> np.ndarray:
    """Float32 copy of a gray image (H, W), averaged down to at most `side` pixels on the longer side."""
    height, width = gray.shape
    factor = min(1.0, side / max(height, width))
    size = (max(1, round(width * factor)), max(1, round(height * factor)))
    return cv2.resize(gray.astype(np.float32), size, interpolation=cv2.INTER_AREA)


def sharpness(gray: np.ndarray) -> float:
    """One minus the blur effect of Crete et al. (The Blur Effect, SPIE 2007): how much of the edges blurring removes.

    A ratio, so that it depends neither on brightness nor on contrast.

    Args:
        gray: float32 (H, W).

    Returns:
        0 (blurred, or without any edge) to 1.
    """
    blurs = [_blur(gray, along) for along in (0, 1)]
    return 1 - max(blurs)


def _blur(gray: np.ndarray, axis: int) -> float:
    kernel = (1, BLUR) if axis == 0 else (BLUR, 1)
    order = (0, 1) if axis == 0 else (1, 0)
    blurred = cv2.blur(gray, kernel, borderType=cv2.BORDER_REFLECT)
    edges, left = (
        np.abs(cv2.Sobel(values, cv2.CV_32F, *order, ksize=3, borderType=cv2.BORDER_REFLECT))[2:-1, 2:-1]
        for values in (gray, np.ascontiguousarray(blurred))
    )
    total = float(edges.sum(dtype=np.float64))
    return 1 - float(np.maximum(0, edges - left).sum(dtype=np.float64)) / total if total else 1.0


def _mode(path: Path) -> str:
    with Image.open(copy_of(path), formats=list(FORMATS)) as image:
        return image.mode
