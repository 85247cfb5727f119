"""A TIFF in parts from the top down: each becomes a TIFF of its own, for a decoder of whole files.

Strips and tiles are compressed independently, so that a part is a copy of some of them as they are.
"""

from __future__ import annotations

import struct
from collections.abc import Callable, Iterator
from itertools import accumulate
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

if TYPE_CHECKING:
    import tifffile

# None, LZW, JPEG, deflate (two numbers), PackBits, Zstandard.
COMPRESSIONS = (1, 5, 7, 8, 32946, 32773, 50000)
YCBCR = 6
# Tags that say how strips and tiles are decoded; those that depend on the part are written anew.
KEPT = (258, 259, 262, 266, 277, 280, 281, 284, 317, 320, 322, 323, 332, 338, 339, 347, 529, 530, 531, 532)
WIDTH, LENGTH, STRIP_OFFSETS, ROWS_PER_STRIP, STRIP_BYTES, TILE_OFFSETS, TILE_BYTES = 256, 257, 273, 278, 279, 324, 325
SHORTEST_NEW_TYPE = 13  # of BigTIFF and later
LONG = 4

# Type, count and bytes of a tag's value.
Value = tuple[int, int, bytes]


def tiff_parts(path: Path, pixels: int, decode: Callable[[bytes], np.ndarray]) -> Iterator[np.ndarray]:
    """Yield the decoded pixels of a TIFF in parts from the top down.

    Separate planes and rare compressions have no parts. Compressed strips and rows of tiles are not divided.

    Args:
        path: the file.
        pixels: about so many in a part.
        decode: decodes a TIFF file as uint8 or uint16 (H, W, 3) RGB.

    Yields:
        uint8 or uint16 (h, W, 3) RGB.

    Raises:
        Exception: the file is damaged; of any type.
    """
    import tifffile

    with tifffile.TiffFile(path) as file:
        page = file.pages.first
        if not isinstance(page, tifffile.TiffPage) or page.compression not in COMPRESSIONS:
            return
        if (page.planarconfig != 1 and page.samplesperpixel > 1) or page.imagedepth != 1:
            return
        yield from map(decode, _files(page, max(1, pixels // page.imagewidth)))


def _files(page: tifffile.TiffPage, count: int) -> Iterator[bytes]:
    """TIFF files of about `count` rows each."""
    order = page.parent.byteorder
    kept = {code: _value(page, code) for code in KEPT if code in page.tags}
    is_divisible = page.compression == 1 and not page.is_tiled and page.photometric != YCBCR
    step = page.tilelength if page.is_tiled else 1 if is_divisible else min(page.rowsperstrip, page.imagelength)
    count = max(1, count // step) * step
    for top in range(0, page.imagelength, count):
        rows = min(count, page.imagelength - top)
        data = _rows(page, top, rows) if is_divisible else _segments(page, top // step, -(-rows // step))
        sizes = [len(each) for each in data]
        places = list(accumulate(sizes[:-1], initial=8))
        values = {WIDTH: [page.imagewidth], LENGTH: [rows]}
        if page.is_tiled:
            values |= {TILE_OFFSETS: places, TILE_BYTES: sizes}
        else:
            values |= {STRIP_OFFSETS: places, STRIP_BYTES: sizes, ROWS_PER_STRIP: [rows if is_divisible else step]}
        longs = {code: (LONG, len(of), struct.pack(f"{order}{len(of)}I", *of)) for code, of in values.items()}
        yield _tiff(order, kept | longs, b"".join(data))


def _value(page: tifffile.TiffPage, code: int) -> Value:
    tag = page.tags[code]
    if tag.dtype >= SHORTEST_NEW_TYPE:
        raise ValueError(f"tag {code} is of a type of BigTIFF")
    return int(tag.dtype), tag.count, _read(page, tag.valueoffset, tag.valuebytecount)


def _segments(page: tifffile.TiffPage, first: int, count: int) -> list[bytes]:
    """Strips, or rows of tiles, as they are stored. Raises ValueError where one is not there."""
    across = -(-page.imagewidth // page.tilewidth) if page.is_tiled else 1
    numbers = range(first * across, (first + count) * across)
    return [_read(page, page.dataoffsets[number], page.databytecounts[number]) for number in numbers]


def _rows(page: tifffile.TiffPage, top: int, rows: int) -> list[bytes]:
    """Rows of uncompressed strips, as one strip. Raises ValueError where they are not there."""
    bits = page.imagewidth * page.samplesperpixel * page.bitspersample
    size, strip_rows = -(-bits // 8), page.rowsperstrip
    data = []
    for strip in range(top // strip_rows, -(-(top + rows) // strip_rows)):
        first, stop = (max(top, strip * strip_rows), min(top + rows, (strip + 1) * strip_rows))
        skipped = (first - strip * strip_rows) * size
        if skipped + (stop - first) * size > page.databytecounts[strip]:
            raise ValueError("a strip is cut short")
        data.append(_read(page, page.dataoffsets[strip] + skipped, (stop - first) * size))
    return [b"".join(data)]


def _read(page: tifffile.TiffPage, place: int, size: int) -> bytes:
    page.parent.filehandle.seek(place)
    data: bytes = page.parent.filehandle.read(size)
    if not size or len(data) < size:
        raise ValueError("cut short")
    return data


def _tiff(order: str, values: dict[int, Value], data: bytes) -> bytes:
    """A TIFF with these values behind the data, which begins at byte 8."""
    place = 8 + len(data) + len(data) % 2
    behind = place + 2 + 12 * len(values) + 4
    entries, long_values = b"", b""
    for code, (kind, count, value) in sorted(values.items()):
        entry = value.ljust(4, b"\0")
        if len(value) > 4:
            entry = struct.pack(f"{order}I", behind + len(long_values))
            long_values += value.ljust(len(value) + len(value) % 2, b"\0")
        entries += struct.pack(f"{order}HHI", code, kind, count) + entry
    header = (b"II" if order == "<" else b"MM") + struct.pack(f"{order}HI", 42, place)
    directory = struct.pack(f"{order}H", len(values)) + entries + bytes(4)
    return b"".join([header, data, bytes(len(data) % 2), directory, long_values])
