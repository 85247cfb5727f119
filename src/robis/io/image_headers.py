"""What image files say of themselves before their pixels: size, orientation, and how they are decoded."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any, BinaryIO

import numpy as np
from PIL import Image, PngImagePlugin, TiffImagePlugin, UnidentifiedImageError, WebPImagePlugin

from robis.errors import DataError
from robis.io.copies import copy_of
from robis.io.png_parts import png_parts
from robis.io.signatures import IMAGES, content_kind
from robis.io.tiff_parts import tiff_parts

# By the formats' names in Pillow; no other of its decoders ever sees a file. A photograph of several (MPO) is a JPEG.
FORMATS: dict[str, tuple[str, ...]] = {
    "PNG": (".png",),
    "JPEG": (".jpg", ".jpeg", ".jpe", ".jfif"),
    "BMP": (".bmp",),
    "DIB": (".dib",),
    TiffImagePlugin.TiffImageFile.format: (".tif", ".tiff"),
    WebPImagePlugin.WebPImageFile.format: (".webp",),
    "PPM": (".pgm", ".ppm", ".pbm", ".pnm"),
}
FORMAT_NAMES = "PNG, JPEG, BMP, TIFF, WebP or PNM"

EXIF_ORIENTATION = 0x0112

EXIF_TRANSPOSED = (5, 6, 7, 8)

# The other orientations; 1 is upright.
TURNED = (2, 3, 4, 5, 6, 7, 8)

TIFF_SUBFILE_TYPE = 254
# Its bits of smaller copies and of transparency masks.
NO_IMAGE = 0b101

# JPEG, in its old and its new form, JPEG 2000 and WebP.
TIFF_LOSSY = (6, 7, 33003, 33005, 34712, 50001)

TIFF_PIXELS = {2: "signed", 3: "floating-point", 5: "complex", 6: "complex"}

# TIFF compressions that OpenCV decodes: none, CCITT, LZW, JPEG, deflate (two numbers), PackBits.
BY_OPENCV = (1, 2, 3, 4, 5, 7, 8, 32946, 32773)

# OpenCV's own limit. Inspection images are large on purpose, but a damaged header may ask for all memory.
MAX_PIXELS = 2**30

Image.MAX_IMAGE_PIXELS = None
# Bytes of a PNG's text and color profile, which are not used: above Pillow's own limits a sound image would be refused.
PngImagePlugin.MAX_TEXT_CHUNK, PngImagePlugin.MAX_TEXT_MEMORY = 2**26, 2**28


@dataclass(frozen=True)
class Header:
    """What an image says of itself before its pixels.

    Attributes:
        height, width: size in pixels, as the image is shown.
        orientation: EXIF's, where the decoder does not apply it itself.
        by_pillow: whether Pillow decodes it. OpenCV mixes the alpha of a TIFF into its colors, is faster with
            compressed pixels only, takes no notice of the highest value of a PNM, and does not read DIB.
        white: highest value of the pixels that Pillow decodes as 16 bits.
        inverted: whether the highest value is black; both see to that themselves unless there are 16 bits.
        lossy: whether the pixels were compressed with loss.
        parts: what reads the file in parts from the top down; None: it is read whole.
    """

    height: int
    width: int
    orientation: int = 1
    by_pillow: bool = False
    white: int = 65535
    inverted: bool = False
    lossy: bool = False
    parts: Callable[[Path, int, Callable[[bytes], np.ndarray]], Iterator[np.ndarray]] | None = None


def read_header(path: str | Path, source: str | Path | BinaryIO) -> Header:
    """Read the header of `source`, the file or its bytes; `path` names it in messages.

    Raises DataError when it is empty, no image, or of a kind that is not read.
    """
    try:
        with Image.open(source, formats=list(FORMATS)) as image:
            return _header_of(path, image)
    except DataError:
        raise
    # Pillow's parsers raise whatever damaged bytes lead them to.
    except Exception as error:
        raise DataError(f"{path}: not a readable image ({_why(path, error)}).") from error


def _header_of(path: str | Path, image: Image.Image) -> Header:
    if image.width * image.height > MAX_PIXELS:
        raise DataError(f"{path}: {image.width} x {image.height} pixels; expected at most 2^30 in all.")
    if isinstance(image, TiffImagePlugin.TiffImageFile):
        return _tiff_header(path, image)
    # A photograph may bring smaller copies of itself (MPO); other files of several images are films.
    if image.format != "MPO" and (frames := getattr(image, "n_frames", 1)) > 1:
        raise DataError(f"{path}: holds {frames} frames; expected one image per file. Save each frame as a file.")
    orientation = _orientation(image)
    height, width = image.size if orientation in EXIF_TRANSPOSED else image.size[::-1]
    lossy = image.format in ("JPEG", "MPO")
    parts = png_parts if image.format == "PNG" and orientation == 1 else None
    by_pillow = image.format in ("PPM", "DIB") or _has_5_bits(image)
    return Header(height, width, orientation, by_pillow, lossy=lossy, parts=parts)


def _has_5_bits(image: Image.Image) -> bool:
    """Whether an image is a BMP of 5 or 6 bits per channel, whose white OpenCV takes for a light gray."""
    return image.format == "BMP" and any("BGR;1" in str(tile[3]) for tile in getattr(image, "tile", ()))


def _orientation(image: Image.Image) -> int:
    try:
        # Not `image.getexif`, which decodes the pixels of a PNG to see what stands behind them.
        orientation = Image.Image.getexif(image).get(EXIF_ORIENTATION)
    except Exception:  # damaged metadata are no reason to refuse the pixels
        return 1
    return orientation if isinstance(orientation, int) and orientation in TURNED else 1


def _tiff_header(path: str | Path, image: TiffImagePlugin.TiffImageFile) -> Header:
    tags = image.tag_v2
    bits = max(_numbers(tags.get(TiffImagePlugin.BITSPERSAMPLE, 1)))
    kinds = [TIFF_PIXELS[kind] for kind in _numbers(tags.get(TiffImagePlugin.SAMPLEFORMAT, 1)) if kind in TIFF_PIXELS]
    planes = tags.get(TiffImagePlugin.PLANAR_CONFIGURATION, 1) == 2
    inverted = bits == 16 and tags.get(TiffImagePlugin.PHOTOMETRIC_INTERPRETATION) == 0
    compression = tags.get(TiffImagePlugin.COMPRESSION, 1)
    by_opencv = compression in BY_OPENCV and compression != 1 and bits in (1, 8)
    by_opencv = by_opencv and image.mode in ("1", "L", "P", "RGB")
    # Pillow gives the size as the image is shown already.
    width, height = image.size
    if kinds or bits > 16:
        kind = kinds[0] if kinds else "unsigned"
        raise DataError(f"{path}: pixels are {bits}-bit {kind} numbers; expected unsigned ones of 8 or 16 bits.")
    if bits == 16 and len(image.getbands()) > 1 and planes:
        raise DataError(f"{path}: 16-bit colors in separate planes; expected them interleaved. Save it again.")
    if bits == 16 and image.mode == "CMYK":
        raise DataError(f"{path}: 16-bit CMYK; expected CMYK of 8 bits, or RGB. Save it again.")
    if bits == 16 and compression not in BY_OPENCV:
        name = TiffImagePlugin.COMPRESSION_INFO.get(compression, compression)
        raise DataError(f"{path}: 16-bit pixels compressed by {name}; expected LZW, deflate or none. Save it again.")
    # Of the first page: counting pages goes to the last one.
    parts = tiff_parts if _orientation(image) == 1 else None
    if image.is_animated:
        if tags.get(TIFF_SUBFILE_TYPE, 0) & NO_IMAGE:
            raise DataError(f"{path}: its first page is a smaller copy or a mask of another; save that page alone.")
        if (pages := _pages(image)) > 1:
            raise DataError(f"{path}: holds {pages} pages; expected one image per file. Save each page as a file.")
    return Header(
        height,
        width,
        by_pillow=bits != 16 and not by_opencv,
        # Pillow gives 12 bits as they are stored.
        white=2**bits - 1 if 8 < bits < 16 else 65535,
        inverted=inverted,
        lossy=compression in TIFF_LOSSY,
        parts=parts,
    )


def _pages(image: TiffImagePlugin.TiffImageFile) -> int:
    """Pages of a TIFF that are images of their own, not smaller copies or transparency masks of another."""
    pages = 0
    for page in range(image.n_frames):
        image.seek(page)
        pages += not image.tag_v2.get(TIFF_SUBFILE_TYPE, 0) & NO_IMAGE
    return pages


def _numbers(value: Any) -> tuple[int, ...]:
    return value if isinstance(value, tuple) else (value,)


def is_lossy_webp(path: Path) -> bool:
    """Whether a file is a WebP whose pixels, behind chunks of metadata and alpha, are compressed with loss."""
    with copy_of(path).open("rb") as stream:
        begin = stream.read(12)
        if begin[:4] != b"RIFF" or begin[8:] != b"WEBP":
            return False
        while len(chunk := stream.read(8)) == 8 and chunk[:4] not in (b"VP8 ", b"VP8L"):
            size = int.from_bytes(chunk[4:], "little")
            stream.seek(size + size % 2, os.SEEK_CUR)
        return chunk[:4] == b"VP8 "


def _why(path: str | Path, error: Exception) -> str:
    path = copy_of(path)
    if not path.exists():
        return "no such file"
    if path.stat().st_size == 0:
        return "empty file"
    kind = content_kind(path)
    if kind in IMAGES and kind != "TIFF" and isinstance(error, UnidentifiedImageError):
        return f"a {kind} whose header is cut short or damaged"
    # A KeyError means a compression that Pillow does not know.
    if kind == "TIFF" and isinstance(error, UnidentifiedImageError | KeyError):
        return _tiff_kind(path)
    if not isinstance(error, UnidentifiedImageError):
        return str(error) or type(error).__name__
    return f"holds {kind}; expected {FORMAT_NAMES}" if kind else "unknown format"


def _tiff_kind(path: Path) -> str:
    """What a TIFF is that Pillow does not know."""
    import tifffile

    try:
        with tifffile.TiffFile(path) as file:
            page = file.pages.first
            channels, bits = page.samplesperpixel, max(_numbers(page.bitspersample))
            kind = TIFF_PIXELS.get(page.sampleformat, "unsigned")
            order = "big-endian" if file.byteorder == ">" else "little-endian"
            names = ", ".join(str(getattr(value, "name", value)) for value in (page.photometric, page.compression))
            big = "BigTIFF" if file.is_bigtiff else "TIFF"
    # tifffile raises whatever damaged bytes lead it to.
    except Exception:
        return "a TIFF that is cut short or damaged"
    numbers = f"{channels} channel{'s' * (channels > 1)} of {bits}-bit {kind} numbers"
    return f"a {order} {big} of {numbers} ({names}), which robis cannot read, or which is cut short; save it as PNG"
