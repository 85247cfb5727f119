"""Reading images and masks as they are shown: 8-bit RGB, EXIF rotation applied."""

from __future__ import annotations

import io
import logging
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path
from typing import Any, BinaryIO

import cv2
import numpy as np
from PIL import Image, TiffImagePlugin, UnidentifiedImageError, WebPImagePlugin

from robis.errors import DataError
from robis.io.png_parts import png_parts
from robis.io.signatures import content_kind
from robis.io.tiff_parts import tiff_parts

logger = logging.getLogger(__name__)

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

IMAGE_SUFFIXES = tuple(suffix for suffixes in FORMATS.values() for suffix in suffixes)

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

TIFF_SUBFILE_TYPE = 254

# JPEG, in its old and its new form, JPEG 2000 and WebP.
TIFF_LOSSY = (6, 7, 33003, 33005, 34712, 50001)

TIFF_PIXELS = {2: "signed", 3: "floating-point", 5: "complex", 6: "complex"}

# OpenCV's own limit. Inspection images are large on purpose, but a damaged header may ask for all memory.
MAX_PIXELS = 2**30

# From so many pixels on, an image is read in parts where its format allows; about so many pixels in a part.
LARGE_PIXELS, PART_PIXELS = 2**24, 2**21
# Pixels whose values are converted at a time.
BLOCK_PIXELS = 2**16

WHITE = 65535  # of 16 bits
DEEP_SUFFIXES = (*FORMATS["PNG"], *FORMATS[TiffImagePlugin.TiffImageFile.format])

Image.MAX_IMAGE_PIXELS = None


def is_image(name: str) -> bool:
    """Whether a file's suffix, in any case, is one that robis reads; hidden files are not images."""
    stem, _, suffix = name.rpartition(".")
    return stem[:1] not in ("", ".") and f".{suffix}".lower() in IMAGE_SUFFIXES


@dataclass(frozen=True)
class _Header:
    """What an image says of itself before its pixels.

    Attributes:
        height, width: size in pixels, as the image is shown.
        orientation: EXIF's, where the decoder does not apply it itself.
        by_pillow: whether Pillow decodes it. OpenCV mixes the alpha of a TIFF into its colors, is faster with
            compressed pixels only, takes no notice of the highest value of a PNM, and does not read DIB.
        inverted: whether the highest value is black; both see to that themselves unless there are 16 bits.
        lossy: whether the pixels were compressed with loss.
        parts: what reads the file in parts from the top down; None: it is read whole.
    """

    height: int
    width: int
    orientation: int = 1
    by_pillow: bool = False
    inverted: bool = False
    lossy: bool = False
    parts: Callable[[Path, int, Callable[[bytes], np.ndarray]], Iterator[np.ndarray]] | None = None


def image_size(path: str | Path) -> tuple[int, int]:
    """Read (height, width) in pixels from the header alone, as the image is shown (EXIF rotation applied).

    Raises DataError when the file is empty, no image, or of a kind that `read_image` refuses.
    """
    header = _read_header(path, path)
    return header.height, header.width


def read_image(path: str | Path, *, bit_depth: int | None = None) -> np.ndarray:
    """Read an image as uint8 (H, W, 3) RGB, EXIF rotation applied, transparency dropped.

    Grey images become three equal channels. 16-bit images are scaled by their range, never by their content.

    Args:
        path: the file.
        bit_depth: number of bits that PNG and TIFF files of 16 bits really hold, as with 12-bit cameras; white is
            2^bit_depth - 1. None: the range of the file. Files of 8 bits, and PNM files, which say what is white, do
            not depend on it.

    Raises:
        DataError: the file cannot be decoded, or holds values above white.
    """
    (height, _), parts = image_parts(path, bit_depth=bit_depth)
    return joined(parts, height)


def joined(parts: Iterator[np.ndarray], height: int) -> np.ndarray:
    """The image (height, W, 3) of which these are the parts, each released as soon as it is copied."""
    first = next(parts)
    if len(first) == height:
        return first
    image = np.empty((height, *first.shape[1:]), first.dtype)
    image[: len(first)] = first
    row = len(first)
    for part in parts:
        image[row : row + len(part)] = part
        row += len(part)
    return image


def image_parts(path: str | Path, *, bit_depth: int | None = None) -> tuple[tuple[int, int], Iterator[np.ndarray]]:
    """Read an image as `read_image` does, in parts from the top down.

    Of a large PNG or TIFF, memory holds one part at a time: a few rows, or as many as are compressed together. Small
    images, turned ones and those of other formats are a single part.

    Args:
        path: the file.
        bit_depth: see `read_image`.

    Returns:
        Height and width; the parts, uint8 (h, width, 3) RGB, which are decoded as they are asked for.

    Raises:
        DataError: as `read_image`, also while parts are decoded.
    """
    with _opened(path) as stream:
        header = _read_header(path, stream)
    return (header.height, header.width), _parts(path, header, bit_depth)


def _parts(path: str | Path, header: _Header, bit_depth: int | None) -> Iterator[np.ndarray]:
    row = 0
    if header.parts and header.height * header.width >= LARGE_PIXELS:
        # The decoder of whole files also decodes the parts, which are files: parts and whole are the same to the bit.
        parts = header.parts(Path(path), PART_PIXELS, partial(_decode_data, header=header))
        try:
            for part in parts:
                pixels = _in_8_bits(path, part, header, bit_depth)
                row += len(part)
                yield pixels
        # What decoders raise for damaged files has no common type. Reading the whole file says what is wrong.
        except Exception:
            logger.debug("%s: read whole from row %d on.", path, row, exc_info=True)
    if row < header.height:
        yield _in_8_bits(path, _decode(path, header)[0], header, bit_depth)[row:]


def _in_8_bits(path: str | Path, pixels: np.ndarray, header: _Header, bit_depth: int | None) -> np.ndarray:
    """Decoded pixels as uint8, see `read_image`."""
    if pixels.dtype != np.uint16:
        return pixels
    if bit_depth is None or header.by_pillow:
        return _to_8_bits(pixels, WHITE)
    white = 2**bit_depth - 1
    stored = WHITE - pixels if header.inverted else pixels
    if (highest := int(stored.max(initial=0))) > white:
        raise DataError(
            f"{path}: its highest value is {highest}; dataset.bit_depth: {bit_depth} allows values up to {white}. Set "
            f"it to the number of bits that the camera gives ({highest.bit_length()} or more)."
        )
    return _to_8_bits(white - stored if header.inverted else stored, white)


def _to_8_bits(values: np.ndarray, white: int) -> np.ndarray:
    """The nearest uint8 values of uint16 ones from 0 to `white`, halves rounded up."""
    pixels = np.empty(values.shape, np.uint8)
    for rows in _blocks(values):
        pixels[rows] = (2 * 255 * values[rows].astype(np.uint32) + white) // (2 * white)
    return pixels


def _blocks(pixels: np.ndarray) -> Iterator[slice]:
    """Rows of an image (H, W, 3), a few at a time, so that what is computed of them takes little memory."""
    step = max(1, BLOCK_PIXELS // max(1, pixels.shape[1]))
    return (slice(top, top + step) for top in range(0, len(pixels), step))


def highest_value(path: str | Path) -> int | None:
    """The highest stored value of a PNG or TIFF of 16 bits; None for other files. Raises DataError."""
    if Path(path).suffix.lower() not in DEEP_SUFFIXES:
        return None
    pixels, header = _decode(path)
    if pixels.dtype != np.uint16 or header.by_pillow:
        return None
    return int((WHITE - pixels if header.inverted else pixels).max(initial=0))


def read_mask(path: str | Path) -> np.ndarray:
    """Read a mask as bool (H, W): True where any color channel is above 0; alpha is none.

    The path of a folder stands for all masks in it, joined: True where any of them is. Raises DataError.
    """
    return _join([(file, _marked(_decode(file)[0])) for file in mask_files(path)])


@dataclass(frozen=True)
class MaskContent:
    """A decoded mask, and what shows whether it is one.

    Attributes:
        marked: as `read_mask` gives it.
        levels: number of different values above 0 in one file, in the channel that has the most.
        lossy: whether a file was compressed with loss.
    """

    marked: np.ndarray
    levels: int
    lossy: bool


def read_mask_content(path: str | Path) -> MaskContent:
    """Read a mask as `read_mask` does, and how it was saved. Raises DataError."""
    masks, levels, lossy = [], 0, False
    for file in mask_files(path):
        pixels, header = _decode(file)
        masks.append((file, _marked(pixels)))
        levels, lossy = max(levels, _levels(pixels[masks[-1][1]])), lossy or header.lossy
    return MaskContent(_join(masks), levels, lossy)


def mask_files(path: str | Path) -> list[Path]:
    """List the files of a mask: the file itself, or the images of a folder by name. Raises DataError for none."""
    path = Path(path)
    if not path.is_dir():
        return [path]
    if files := sorted(file for file in path.iterdir() if is_image(file.name)):
        return files
    raise DataError(f"{path}: holds no mask; expected at least one image in the folder.")


def _marked(pixels: np.ndarray) -> np.ndarray:
    return (pixels[..., 0] | pixels[..., 1] | pixels[..., 2]) > 0


def _levels(values: np.ndarray) -> int:
    """Number of different values above 0 in pixels (N, 3), in the channel that has the most."""
    if not values.size:
        return 0
    return max(int(np.count_nonzero(np.bincount(values[:, channel])[1:])) for channel in range(3))


def _join(masks: Sequence[tuple[Path, np.ndarray]]) -> np.ndarray:
    """Mark what any of the masks (file, pixels) of an image marks. Raises DataError when they differ in size."""
    first, joined = masks[0]
    for file, marked in masks[1:]:
        if marked.shape != joined.shape:
            raise DataError(
                f"{file}: {marked.shape[1]} x {marked.shape[0]} pixels; {first.name}, a mask of the same image, has "
                f"{joined.shape[1]} x {joined.shape[0]}. Make both the same."
            )
        joined = joined | marked
    return joined


def _read_header(path: str | Path, source: str | Path | BinaryIO) -> _Header:
    try:
        with Image.open(source, formats=list(FORMATS)) as image:
            return _header_of(path, image)
    except DataError:
        raise
    # Pillow's parsers raise whatever damaged bytes lead them to.
    except Exception as error:
        raise DataError(f"{path}: not a readable image ({_why(path, error)}).") from error


def _header_of(path: str | Path, image: Image.Image) -> _Header:
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
    return _Header(height, width, orientation, image.format in ("PPM", "DIB"), lossy=lossy, parts=parts)


def _orientation(image: Image.Image) -> int:
    try:
        # Not `image.getexif`, which decodes the pixels of a PNG to see what stands behind them.
        orientation = Image.Image.getexif(image).get(EXIF_ORIENTATION)
    except Exception:  # damaged metadata are no reason to refuse the pixels
        return 1
    return orientation if isinstance(orientation, int) and orientation in EXIF_TURNS else 1


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
    lossy = tags.get(TiffImagePlugin.COMPRESSION, 1) in TIFF_LOSSY
    parts = tiff_parts if _orientation(image) == 1 else None
    return _Header(height, width, by_pillow=by_pillow, inverted=inverted, lossy=lossy, parts=parts)


def _pages(image: TiffImagePlugin.TiffImageFile) -> int:
    """Pages of a TIFF that are images of their own, not smaller copies or transparency masks of another."""
    pages = 0
    for page in range(image.n_frames):
        image.seek(page)
        pages += not image.tag_v2.get(TIFF_SUBFILE_TYPE, 0) & 0b101
    return pages


def _numbers(value: Any) -> tuple[int, ...]:
    return value if isinstance(value, tuple) else (value,)


def _decode(path: str | Path, header: _Header | None = None) -> tuple[np.ndarray, _Header]:
    """Decode an image as uint8 or uint16 (H, W, 3) RGB, as it is shown, with its header, which is read without `header`.

    Raises DataError when the file cannot be decoded.
    """
    with _opened(path) as stream:
        header = header or _read_header(path, stream)
        stream.seek(0)
        data = stream.read()
    try:
        pixels = _decode_data(data, header)
    # What decoders raise for damaged files has no common type.
    except Exception as error:
        raise DataError(
            f"{path}: not a readable image (its {header.width} x {header.height} pixels are cut short or damaged). "
            f"Copy the file again, or take it out."
        ) from error
    return pixels, replace(header, lossy=header.lossy or _is_lossy_webp(data))


def _opened(path: str | Path) -> BinaryIO:
    try:
        return open(path, "rb")
    except OSError as error:
        raise DataError(f"{path}: cannot be read ({error.strerror}).") from error


def _decode_data(data: bytes, header: _Header) -> np.ndarray:
    """Decode a file, or a part of one that is a file of its own. Raises Exception: of any type, it is damaged."""
    return _decode_by_pillow(data) if header.by_pillow else _decode_by_opencv(data, header)


def _is_lossy_webp(data: bytes) -> bool:
    """Whether the chunk of the pixels, behind those of metadata and alpha, is the lossy one."""
    if data[:4] != b"RIFF" or data[8:12] != b"WEBP":
        return False
    place = 12
    while place + 8 <= len(data) and data[place : place + 4] not in (b"VP8 ", b"VP8L"):
        size = int.from_bytes(data[place + 4 : place + 8], "little")
        place += 8 + size + size % 2
    return data[place : place + 4] == b"VP8 "


def _decode_by_opencv(data: bytes, header: _Header) -> np.ndarray:
    flags = cv2.IMREAD_COLOR | cv2.IMREAD_ANYDEPTH | cv2.IMREAD_IGNORE_ORIENTATION
    pixels = cv2.imdecode(np.frombuffer(data, np.uint8), flags)
    if pixels is None or pixels.dtype not in (np.uint8, np.uint16):
        raise ValueError("OpenCV does not decode it as 8 or 16 bits")
    for rows in _blocks(pixels):
        pixels[rows] = cv2.cvtColor(pixels[rows], cv2.COLOR_BGR2RGB)
    if header.inverted:
        np.subtract(WHITE, pixels, out=pixels)
    return EXIF_TURNS[header.orientation](pixels) if header.orientation in EXIF_TURNS else pixels


def _decode_by_pillow(data: bytes) -> np.ndarray:
    # From memory: Pillow maps a rotated TIFF file of one channel wrongly.
    with Image.open(io.BytesIO(data)) as image:
        if image.mode.startswith("I"):
            return np.dstack([np.asarray(image).astype(np.uint16)] * 3)
        # `convert` copies an RGB image, too.
        return np.array(image if image.mode == "RGB" else image.convert("RGB"))


def _why(path: str | Path, error: Exception) -> str:
    path = Path(path)
    if not path.exists():
        return "no such file"
    if path.stat().st_size == 0:
        return "empty file"
    if not isinstance(error, UnidentifiedImageError):
        return str(error) or type(error).__name__
    kind = content_kind(path)
    if kind == "TIFF":
        return "a TIFF that is cut short, or not of 8 or 16 bits per channel"
    return f"holds {kind}; expected {FORMAT_NAMES}" if kind else "unknown format"
