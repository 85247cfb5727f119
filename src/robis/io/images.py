"""Reading images and masks as they are shown: 8-bit RGB, EXIF rotation applied."""

from __future__ import annotations

import io
import struct
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, BinaryIO

import cv2
import numpy as np
from PIL import Image, TiffImagePlugin, UnidentifiedImageError

from robis.errors import DataError

# Imported where they are used: both are slow to import, and models run without them.
if TYPE_CHECKING:
    pass

IMAGE_SUFFIXES = (".png", ".jpg", ".jpeg", ".bmp", ".tif", ".tiff")

FORMATS = ("PNG", "JPEG", "MPO", "BMP", "DIB", "TIFF", "WEBP")

EXIF_ORIENTATION = 0x0112

EXIF_TRANSPOSED = (5, 6, 7, 8)

# From the stored pixels to the shown ones, by EXIF's orientation.
EXIF_TURNS: dict[int, Callable[[np.ndarray], np.ndarray]] = {
    2: lambda pixels: cv2.flip(pixels, 1),
    3: lambda pixels: cv2.flip(pixels, -1),
    4: lambda pixels: cv2.flip(pixels, 0),
    5: cv2.transpose,
    6: lambda pixels: cv2.rotate(pixels, cv2.ROTATE_90_CLOCKWISE),
    7: lambda pixels: cv2.flip(cv2.transpose(pixels), -1),
    8: lambda pixels: cv2.rotate(pixels, cv2.ROTATE_90_COUNTERCLOCKWISE),
}

TIFF_BEGINNINGS = (b"II*\0", b"MM\0*", b"II+\0", b"MM\0+")

TIFF_SUBFILE_TYPE = 254

TIFF_PIXELS = {2: "signed", 3: "floating-point", 5: "complex", 6: "complex"}

# OpenCV's own limit. Inspection images are large on purpose, but a damaged header may ask for all memory.
MAX_PIXELS = 2**30

Image.MAX_IMAGE_PIXELS = None


def is_image(path: Path) -> bool:
    """Whether the suffix, in any case, is one robis reads; hidden files are not images."""
    return path.suffix.lower() in IMAGE_SUFFIXES and not path.name.startswith(".")


@dataclass(frozen=True)
class _Header:
    """What an image says of itself before its pixels.

    Attributes:
        height, width: size in pixels, as the image is shown.
        orientation: EXIF's, where the decoder does not apply it itself.
        by_pillow: whether Pillow decodes it. OpenCV mixes the alpha of a TIFF into its colors, and is faster with
            compressed pixels only.
        inverted: whether the highest value is black; both see to that themselves unless there are 16 bits.
    """

    height: int
    width: int
    orientation: int = 1
    by_pillow: bool = False
    inverted: bool = False


def image_size(path: str | Path) -> tuple[int, int]:
    """Read (height, width) in pixels from the header alone, as the image is shown (EXIF rotation applied).

    Raises DataError when the file is empty, no image, or of a kind that `read_image` refuses.
    """
    header = _read_header(path, path)
    return header.height, header.width


def read_image(path: str | Path) -> np.ndarray:
    """Read an image as uint8 (H, W, 3) RGB, EXIF rotation applied, transparency dropped.

    Grey images become three equal channels; 16-bit images are scaled by the range of their dtype,
    never by their content. Raises DataError when the file cannot be decoded.
    """
    pixels = _decode(path)
    if pixels.dtype == np.uint16:
        # 65535 / 255 = 257 exactly, so this is the nearest 8-bit value.
        return ((pixels.astype(np.uint32) + 128) // 257).astype(np.uint8)
    return pixels


def read_mask(path: str | Path) -> np.ndarray:
    """Read a mask as bool (H, W): True where any color channel is above 0; alpha is none. Raises DataError."""
    pixels = _decode(path)
    return (pixels[..., 0] | pixels[..., 1] | pixels[..., 2]) > 0


def _read_header(path: str | Path, source: str | Path | BinaryIO) -> _Header:
    try:
        with Image.open(source) as image:
            if image.format not in FORMATS:
                raise DataError(f"{path}: holds {image.format}; expected PNG, JPEG, BMP or TIFF.")
            if image.width * image.height > MAX_PIXELS:
                raise DataError(f"{path}: {image.width} x {image.height} pixels; expected at most 2^30 in all.")
            if isinstance(image, TiffImagePlugin.TiffImageFile):
                return _tiff_header(path, image)
            orientation = _orientation(image)
            size = image.size if orientation in EXIF_TRANSPOSED else image.size[::-1]
            return _Header(*size, orientation=orientation)
    except (OSError, SyntaxError, ValueError, KeyError, TypeError, IndexError, struct.error) as error:
        raise DataError(f"{path}: not a readable image ({_why(path, error)}).") from error


def _orientation(image: Image.Image) -> int:
    try:
        # Not `image.getexif`, which decodes the pixels of a PNG to see what stands behind them.
        found = Image.Image.getexif(image).get(EXIF_ORIENTATION)
    except Exception:  # damaged metadata are no reason to refuse the pixels
        return 1
    return found if isinstance(found, int) and found in EXIF_TURNS else 1


def _tiff_header(path: str | Path, image: TiffImagePlugin.TiffImageFile) -> _Header:
    tags = image.tag_v2
    bits = max(_numbers(tags.get(TiffImagePlugin.BITSPERSAMPLE, 1)))
    kinds = [TIFF_PIXELS[kind] for kind in _numbers(tags.get(TiffImagePlugin.SAMPLEFORMAT, 1)) if kind in TIFF_PIXELS]
    planes = tags.get(TiffImagePlugin.PLANAR_CONFIGURATION, 1) == 2
    inverted = bits == 16 and tags.get(TiffImagePlugin.PHOTOMETRIC_INTERPRETATION) == 0
    compressed = tags.get(TiffImagePlugin.COMPRESSION, 1) != 1
    by_pillow = bits != 16 and not (compressed and image.mode in ("1", "L", "P", "RGB"))
    # Pillow gives the size as the image is shown already.
    width, height = image.size
    if kinds or bits > 16:
        kind = kinds[0] if kinds else "unsigned"
        raise DataError(f"{path}: pixels are {bits}-bit {kind} numbers; expected unsigned ones of 8 or 16 bits.")
    if bits == 16 and len(image.getbands()) > 1 and planes:
        raise DataError(f"{path}: 16-bit colors in separate planes; expected them interleaved. Save it again.")
    if image.is_animated and (pages := _pages(image)) > 1:
        raise DataError(f"{path}: holds {pages} pages; expected one image per file. Save each page as a file.")
    return _Header(height, width, by_pillow=by_pillow, inverted=inverted)


def _pages(image: TiffImagePlugin.TiffImageFile) -> int:
    """Pages of a TIFF that are images of their own, not smaller copies or transparency masks of another."""
    pages = 0
    for page in range(image.n_frames):
        image.seek(page)
        pages += not image.tag_v2.get(TIFF_SUBFILE_TYPE, 0) & 0b101
    return pages


def _numbers(value: Any) -> tuple[int, ...]:
    return value if isinstance(value, tuple) else (value,)


def _decode(path: str | Path) -> np.ndarray:
    """Pixels as uint8 or uint16 (H, W, 3) RGB, as they are shown."""
    try:
        data = Path(path).read_bytes()
    except OSError as error:
        raise DataError(f"{path}: cannot be read ({error.strerror}).") from error
    header = _read_header(path, io.BytesIO(data))
    try:
        pixels = _decode_by_pillow(data) if header.by_pillow else _decode_by_opencv(data, header)
    except (OSError, SyntaxError, ValueError, cv2.error):
        pixels = None
    if pixels is None:
        raise DataError(
            f"{path}: not a readable image (its {header.width} x {header.height} pixels are cut short or damaged). "
            f"Copy the file again, or take it out."
        )
    return pixels


def _decode_by_opencv(data: bytes, header: _Header) -> np.ndarray | None:
    flags = cv2.IMREAD_COLOR | cv2.IMREAD_ANYDEPTH | cv2.IMREAD_IGNORE_ORIENTATION
    pixels = cv2.imdecode(np.frombuffer(data, np.uint8), flags)
    if pixels is None or pixels.dtype not in (np.uint8, np.uint16):
        return None
    pixels = cv2.cvtColor(pixels, cv2.COLOR_BGR2RGB)
    if header.inverted:
        pixels = 65535 - pixels
    return EXIF_TURNS[header.orientation](pixels) if header.orientation in EXIF_TURNS else pixels


def _decode_by_pillow(data: bytes) -> np.ndarray:
    # From memory: Pillow maps a rotated TIFF file of one channel wrongly.
    with Image.open(io.BytesIO(data)) as image:
        if image.mode.startswith("I;16"):
            return np.dstack([np.asarray(image).astype(np.uint16)] * 3)
        return np.array(image.convert("RGB"))


def _why(path: str | Path, error: Exception) -> str:
    path = Path(path)
    if not path.exists():
        return "no such file"
    if path.stat().st_size == 0:
        return "empty file"
    if not isinstance(error, UnidentifiedImageError):
        return str(error)
    with path.open("rb") as stream:
        is_tiff = stream.read(4) in TIFF_BEGINNINGS
    return "a TIFF that is cut short, or not of 8 or 16 bits per channel" if is_tiff else "unknown format"
