"""One map or mask of an upload, read from its bytes: what the server would refuse in it."""

from __future__ import annotations

import io
from typing import NamedTuple

import numpy as np
import tifffile
from PIL import Image

from robis.submission.upload import Size

# A map of the benchmark's largest image has 5 million pixels; more than this is a damaged header.
MAX_PIXELS = 2**26
FLOAT16_EXPONENT = np.uint16(0x7C00)
# Where the header of a PNG has the bits of a sample.
PNG_BIT_DEPTH = 24


class Finding(NamedTuple):
    """What was found in a file.

    Attributes:
        size: height and width in pixels; None where the file cannot be read that far.
        problem: what is wrong, the same words for the same mistake; None where nothing is.
        detail: what is particular to this file.
        is_blank: whether all pixels are equal (map) or none is 255 (mask).
    """

    size: Size | None = None
    problem: str | None = None
    detail: str = ""
    is_blank: bool = False


def inspect_map(data: bytes) -> Finding:
    """Check an anomaly map: a TIFF of one page, (H, W) float16, every value finite. Negative values are allowed."""
    try:
        with tifffile.TiffFile(io.BytesIO(data)) as tiff:
            pages, first = len(tiff.pages), tiff.series[0]
            if pages > 1 or first.ndim != 2:
                shape = " x ".join(map(str, first.shape))
                return Finding(problem=f"map has {pages} page(s) and shape {shape}; expected one page, one channel")
            height, width = first.shape
            if first.dtype != np.float16:
                return Finding((height, width), f"map is {first.dtype}; expected float16")
            if not 0 < height * width <= MAX_PIXELS:
                return Finding(problem=f"map of {width} x {height} pixels; expected the image's size or less")
            bits = first.asarray().view(np.uint16)
    # A damaged file makes the decoder fail in any way; each of them says that it cannot be read.
    except Exception as error:
        return Finding(problem="map is not a readable TIFF", detail=_reason(data, error))
    # All exponent bits set: infinite or not a number. On the bits, since float16 arithmetic is slow.
    if bool(((bits & FLOAT16_EXPONENT) == FLOAT16_EXPONENT).any()):
        problem = "map holds values that are not finite (float16 ends at 65504); expected finite ones"
        return Finding((height, width), problem)
    return Finding((height, width), is_blank=bool((bits == bits[0, 0]).all()))


def inspect_mask(data: bytes) -> Finding:
    """Check a mask: a PNG with one 8-bit grey channel, only 0 and 255."""
    try:
        with Image.open(io.BytesIO(data), formats=("PNG",)) as image:
            mode, (width, height) = image.mode, image.size
            if mode != "L":
                return Finding((height, width), f"mask has mode {mode}; expected one 8-bit grey channel (mode L)")
            if (bits := data[PNG_BIT_DEPTH]) != 8:
                return Finding((height, width), f"mask has {bits} bits per pixel; expected 8")
            if "transparency" in image.info or getattr(image, "n_frames", 1) > 1:
                return Finding((height, width), "mask has a transparent color or several frames; expected neither")
            if height * width > MAX_PIXELS:
                return Finding(problem=f"mask of {width} x {height} pixels; expected the map's size")
            image.verify()
        # Pillow can decode nothing after it has verified the checksums.
        with Image.open(io.BytesIO(data), formats=("PNG",)) as image:
            pixels = np.asarray(image)
    except Exception as error:
        return Finding(problem="mask is not a readable PNG", detail=_reason(data, error))
    # In uint8, 255 + 1 is 0: only what is neither 0 nor 255 gives more than 1.
    wrong = (pixels + np.uint8(1)) > 1
    if wrong.any():
        return Finding((height, width), f"mask holds the value {pixels[wrong][0]}; expected 0 and 255")
    return Finding((height, width), is_blank=not pixels.any())


def _reason(data: bytes, error: Exception) -> str:
    if not data:
        return "empty file"
    if "imagecodecs" in str(error):
        return "compressed in a way that needs the package imagecodecs; expected uncompressed or zlib"
    # Pillow's text holds the address of the object in memory.
    return "no such format" if isinstance(error, Image.UnidentifiedImageError) else str(error).partition("\n")[0]
