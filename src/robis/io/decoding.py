"""Decoding image files to the pixels that they show, whole or in parts from the top down."""

from __future__ import annotations

import io
import os
from collections.abc import Callable, Iterator
from contextlib import suppress
from functools import partial
from pathlib import Path

import cv2
import numpy as np
from PIL import Image

from robis.errors import DataError
from robis.io.copies import copy_of
from robis.io.image_headers import Header, read_header
from robis.io.png_parts import png_parts

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

# From so many pixels on, a file is read in parts where its format allows. A PNG takes a third more CPU time in parts.
LARGE_PIXELS, LARGE_PNG_PIXELS = 2**24, 2**26
# About so many pixels in a part.
PART_PIXELS = 2**21
# Pixels whose values are converted at a time.
BLOCK_PIXELS = 2**16

WHITE = 65535  # of 16 bits
FLAGS = cv2.IMREAD_COLOR | cv2.IMREAD_ANYDEPTH | cv2.IMREAD_IGNORE_ORIENTATION
JPEG_BEGIN, JPEG_END = b"\xff\xd8", b"\xff\xd9"


def decoded(path: str | Path) -> tuple[Header, Iterator[np.ndarray]]:
    """Read an image file.

    Of a large PNG or TIFF, memory holds one part at a time: a few rows, or as many as are compressed together. Small
    images, turned ones and those of other formats are a single part.

    Returns:
        The header; the parts from the top down, uint8 or uint16 (h, width, 3) RGB, decoded as they are asked for.

    Raises:
        DataError: the file cannot be decoded, also while parts are.
    """
    try:
        with copy_of(path).open("rb") as stream:
            header = read_header(path, stream)
    except OSError as error:
        raise DataError(f"{path}: cannot be read ({error.strerror}).") from error
    return header, _parts(Path(path), header)


def joined(parts: Iterator[np.ndarray], height: int) -> np.ndarray:
    """The array (height, ...) of which these are the parts, in memory for it and one part."""
    first = next(parts)
    if len(first) == height:
        return first
    whole = np.empty((height, *first.shape[1:]), first.dtype)
    whole[: len(first)] = first
    row = len(first)
    for part in parts:
        whole[row : row + len(part)] = part
        row += len(part)
    return whole


def blocks(pixels: np.ndarray) -> Iterator[slice]:
    """Rows of an image (H, W, 3), a few at a time, so that what is computed of them takes little memory."""
    step = max(1, BLOCK_PIXELS // max(1, pixels.shape[1]))
    return (slice(top, top + step) for top in range(0, len(pixels), step))


def _parts(path: Path, header: Header) -> Iterator[np.ndarray]:
    row = 0
    if header.parts and _is_large(header, LARGE_PNG_PIXELS if header.parts is png_parts else LARGE_PIXELS):
        # Parts are files, which the decoder of whole files decodes: both are the same to the bit. What decoders raise
        # for damaged ones has no common type; reading the whole file says what is wrong.
        with suppress(Exception):
            for part in header.parts(copy_of(path), PART_PIXELS, partial(_decode_data, header=header)):
                row += len(part)
                yield part
    if row < header.height:
        yield _decode(path, header)[row:]


def _is_large(header: Header, pixels: int) -> bool:
    return header.height * header.width >= pixels


def _decode(path: Path, header: Header) -> np.ndarray:
    """Decode a whole image as it is shown, uint8 or uint16 (H, W, 3) RGB. Raises DataError."""
    file = copy_of(path)
    try:
        pixels = _decode_large(file, header) if _is_large(header, LARGE_PIXELS) and not header.by_pillow else None
        return _decode_data(file.read_bytes(), header) if pixels is None else pixels
    # What decoders raise for damaged files has no common type.
    except Exception as error:
        raise DataError(
            f"{path}: not a readable image (its {header.width} x {header.height} pixels are cut short or damaged). "
            f"Copy the file again, or take it out."
        ) from error


def _decode_data(data: bytes, header: Header) -> np.ndarray:
    """Decode a file, or a part of one that is a file of its own. Raises Exception: of any type, it is damaged."""
    if header.by_pillow:
        return _decode_by_pillow(data)
    return _as_shown(cv2.imdecode(np.frombuffer(data, np.uint8), FLAGS), header)


def _decode_large(path: Path, header: Header) -> np.ndarray | None:
    """Decode by OpenCV without the copies that `imdecode` takes, of the file and of the pixels; None: not possible.

    A JPEG that is cut short would be gray from there on: only one that ends as it should is read so.
    """
    with open(path, "rb") as stream:
        begin = stream.read(2)
        stream.seek(-2, os.SEEK_END)
        if begin == JPEG_BEGIN and stream.read(2) != JPEG_END:
            return None
    try:
        pixels = cv2.imread(str(path), None, FLAGS)
    # OpenCV before 4.11 takes no array; on some systems it does not open all names.
    except (cv2.error, TypeError):
        return None
    return None if pixels is None else _as_shown(pixels, header)


def _as_shown(pixels: np.ndarray | None, header: Header) -> np.ndarray:
    """What OpenCV decodes, as RGB and turned; changed in place where it is not turned. Raises ValueError."""
    if pixels is None or pixels.dtype not in (np.uint8, np.uint16):
        raise ValueError("OpenCV does not decode it as 8 or 16 bits")
    for rows in blocks(pixels):
        pixels[rows] = cv2.cvtColor(pixels[rows], cv2.COLOR_BGR2RGB)
    if header.inverted:
        np.subtract(WHITE, pixels, out=pixels)
    return EXIF_TURNS[header.orientation](pixels) if header.orientation in EXIF_TURNS else pixels


def _decode_by_pillow(data: bytes) -> np.ndarray:
    # From memory: Pillow maps a rotated TIFF file of one channel wrongly.
    with Image.open(io.BytesIO(data)) as image:
        if image.mode.startswith("I"):
            return np.dstack([np.asarray(image).astype(np.uint16)] * 3)
        if image.mode == "La":
            return np.array(image.convert("LA").convert("RGB"))
        # `convert` copies an RGB image, too.
        return np.array(image if image.mode == "RGB" else image.convert("RGB"))
