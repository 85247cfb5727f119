"""Reading images and masks as they are shown: 8-bit RGB, EXIF rotation applied."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from robis.errors import DataError
from robis.io.copies import copy_of
from robis.io.decoding import WHITE, blocks, decoded, joined
from robis.io.image_headers import FORMATS, Header, is_lossy_webp, read_header

IMAGE_SUFFIXES = tuple(suffix for suffixes in FORMATS.values() for suffix in suffixes)

DEEP_SUFFIXES = (*FORMATS["PNG"], *FORMATS["TIFF"])


def is_image(name: str) -> bool:
    """Whether a file's suffix, in any case, is one that robis reads; hidden files are not images."""
    stem, _, suffix = name.rpartition(".")
    return stem[:1] not in ("", ".") and f".{suffix}".lower() in IMAGE_SUFFIXES


def image_size(path: str | Path) -> tuple[int, int]:
    """Read (height, width) in pixels from the header alone, as the image is shown (EXIF rotation applied).

    Raises DataError when the file is empty, no image, or of a kind that `read_image` refuses.
    """
    header = read_header(path, copy_of(path))
    return header.height, header.width


def read_image(path: str | Path, *, bit_depth: int | None = None) -> np.ndarray:
    """Read an image as uint8 (H, W, 3) RGB, EXIF rotation applied, transparency dropped.

    Grey images become three equal channels. 16-bit images are scaled by their range, never by their content.

    Args:
        path: the file.
        bit_depth: number of bits that PNG and TIFF files of 16 bits really hold, as with 12-bit cameras; white is
            2^bit_depth - 1. None: the range of the file. Files of 8 bits, and those that say what is white (PNM, TIFF
            of 12 bits), do not depend on it.

    Raises:
        DataError: the file cannot be decoded, or holds values above white.
    """
    (height, _), parts = image_parts(path, bit_depth=bit_depth)
    return joined(parts, height)


def image_parts(path: str | Path, *, bit_depth: int | None = None) -> tuple[tuple[int, int], Iterator[np.ndarray]]:
    """Read an image as `read_image` does, in parts from the top down, see `decoded`.

    Returns:
        Height and width; the parts, uint8 (h, width, 3) RGB, decoded as they are asked for.

    Raises:
        DataError: as `read_image`, also while parts are decoded.
    """
    header, parts = decoded(path)
    return (header.height, header.width), (_in_8_bits(path, part, header, bit_depth) for part in parts)


def _in_8_bits(path: str | Path, pixels: np.ndarray, header: Header, bit_depth: int | None) -> np.ndarray:
    """Decoded pixels as uint8, see `read_image`."""
    if pixels.dtype != np.uint16:
        return pixels
    if bit_depth is None or header.by_pillow:
        return _to_8_bits(pixels, header.white)
    white = 2**bit_depth - 1
    stored = WHITE - pixels if header.inverted else pixels
    if int(stored.max(initial=0)) > white:
        highest = highest_value(path) or 0
        raise DataError(
            f"{path}: its highest value is {highest}; dataset.bit_depth: {bit_depth} allows values up to {white}. Set "
            f"it to the number of bits that the camera gives ({highest.bit_length()} or more)."
        )
    return _to_8_bits(white - stored if header.inverted else stored, white)


def _to_8_bits(values: np.ndarray, white: int) -> np.ndarray:
    """The nearest uint8 values of uint16 ones from 0 to `white`, halves rounded up."""
    pixels = np.empty(values.shape, np.uint8)
    for rows in blocks(values):
        pixels[rows] = (2 * 255 * values[rows].astype(np.uint32) + white) // (2 * white)
    return pixels


def highest_value(path: str | Path) -> int | None:
    """The highest stored value of a PNG or TIFF of 16 bits; None for other files. Raises DataError."""
    if Path(path).suffix.lower() not in DEEP_SUFFIXES:
        return None
    header, parts = decoded(path)
    if header.by_pillow:
        return None
    highest = None
    for part in parts:
        if part.dtype != np.uint16:
            return None
        highest = max(highest or 0, int((WHITE - part if header.inverted else part).max(initial=0)))
    return highest


def read_mask(path: str | Path) -> np.ndarray:
    """Read a mask as bool (H, W): True where any color channel is above 0; alpha is none.

    The path of a folder stands for all masks in it, joined: True where any of them is. Raises DataError.
    """
    return _join([(file, _read_mask(file)) for file in mask_files(path)])


def _read_mask(file: Path) -> np.ndarray:
    header, parts = decoded(file)
    return joined(map(_marked, parts), header.height)


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
        header, parts = decoded(file)
        present = np.zeros((3, WHITE + 1), bool)
        masks.append((file, joined((_marked(part, present) for part in parts), header.height)))
        levels = max(levels, int(np.count_nonzero(present[:, 1:], axis=1).max()))
        lossy = lossy or header.lossy or is_lossy_webp(file)
    return MaskContent(_join(masks), levels, lossy)


def mask_files(path: str | Path) -> list[Path]:
    """List the files of a mask: the file itself, or the images of a folder by name. Raises DataError for none."""
    path = Path(path)
    folder = copy_of(path)
    if not folder.is_dir():
        return [path]
    if names := sorted(file.name for file in folder.iterdir() if is_image(file.name)):
        return [path / name for name in names]
    raise DataError(f"{path}: holds no mask; expected at least one image in the folder.")


def _marked(pixels: np.ndarray, present: np.ndarray | None = None) -> np.ndarray:
    """Where pixels (h, W, 3) of a mask are not black, bool (h, W); `present`, bool (3, 65536), gets their values."""
    marked = np.empty(pixels.shape[:2], bool)
    for rows in blocks(pixels):
        block = pixels[rows]
        marked[rows] = (block[..., 0] | block[..., 1] | block[..., 2]) > 0
        if present is not None:
            for channel, values in enumerate(block[marked[rows]].T):
                present[channel, values] = True
    return marked


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
