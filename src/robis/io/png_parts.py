"""A PNG in parts from the top down: each becomes a PNG of its own, for a decoder of whole files.

A row may be stored as differences from the row above. A part therefore begins with the last row of the part before,
stored as it is. Each channel is filtered by itself, so that alpha, which is not read, may have any value there.
"""

from __future__ import annotations

import struct
import zlib
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import BinaryIO

import numpy as np

SIGNATURE = b"\x89PNG\r\n\x1a\n"
# Color type -> channels; palettes are read whole, since decoded pixels do not tell their indexes.
CHANNELS = {0: 1, 2: 3, 4: 2, 6: 4}
# What may change how pixels are decoded; text, EXIF and the like do not.
KEPT = (b"gAMA", b"cHRM", b"sRGB", b"iCCP", b"cICP", b"sBIT", b"bKGD", b"tRNS")
# Bytes of the file that are read at a time.
PIECE = 1 << 20


def png_parts(path: Path, pixels: int, decode: Callable[[bytes], np.ndarray]) -> Iterator[np.ndarray]:
    """Yield the decoded pixels of a PNG in parts from the top down.

    Interlaced and animated files, palettes, and fewer than 8 bits per channel have no parts.

    Args:
        path: the file.
        pixels: about so many in a part.
        decode: decodes a PNG file as uint8 or uint16 (H, W, 3) RGB.

    Yields:
        uint8 or uint16 (h, W, 3) RGB.

    Raises:
        Exception: the file is damaged; of any type.
    """
    with open(path, "rb") as stream:
        chunks = _chunks(stream)
        before: dict[bytes, bytes] = {}
        for kind, data in chunks:
            if kind == b"IDAT":
                break
            before[kind] = before.get(kind, b"") + data
        width, height, depth, color, *_, interlaced = struct.unpack(">2I5B", before[b"IHDR"])
        if color not in CHANNELS or depth < 8 or interlaced or b"acTL" in before:
            return
        ancillary = {kind: before[kind] for kind in KEPT if kind in before}
        row = np.zeros((width, CHANNELS[color]), ">u2" if depth == 16 else np.uint8)
        colors = 3 if CHANNELS[color] > 2 else 1
        inflated = _Inflated(data, chunks)
        count = max(1, pixels // width)
        for top in range(0, height, count):
            rows = min(count, height - top)
            stored = b"\0" + row.tobytes() + inflated.read(rows * (1 + row.nbytes))
            if top + rows == height:
                inflated.check_end()
            header = struct.pack(">2I5B", width, rows + 1, depth, color, 0, 0, 0)
            decoded = decode(_png(header, ancillary, stored))
            row[:, :colors] = decoded[-1, :, :colors]
            yield decoded[1:]


def _chunks(stream: BinaryIO) -> Iterator[tuple[bytes, bytes]]:
    """Kind and data of each chunk, of a long one in several pieces. Raises ValueError or struct.error: damaged."""
    if stream.read(len(SIGNATURE)) != SIGNATURE:
        raise ValueError("not a PNG")
    while header := stream.read(8):
        length, kind = struct.unpack(">I4s", header)
        checksum = zlib.crc32(kind)
        while True:
            data = stream.read(min(length, PIECE))
            if len(data) < min(length, PIECE):
                raise ValueError("cut short")
            checksum, length = zlib.crc32(data, checksum), length - len(data)
            yield kind, data
            if not length:
                break
        if struct.unpack(">I", stream.read(4))[0] != checksum:
            raise ValueError("damaged")


class _Inflated:
    """The filtered rows, decompressed as they are read."""

    def __init__(self, data: bytes, chunks: Iterator[tuple[bytes, bytes]]) -> None:
        """Take the data of the first IDAT chunk, and the chunks behind it."""
        self._data, self._chunks, self._stream = data, chunks, zlib.decompressobj()

    def read(self, size: int) -> bytes:
        """The next `size` bytes. Raises ValueError or zlib.error: damaged."""
        read = bytearray()
        while len(read) < size:
            more = self._stream.decompress(self._data, size - len(read))
            self._data = self._stream.unconsumed_tail
            read += more
            if not more and not self._data:
                kind, self._data = next(self._chunks, (b"", b""))
                if kind != b"IDAT":
                    raise ValueError("cut short")
        return bytes(read)

    def check_end(self) -> None:
        """Raise ValueError where anything but the end of the file follows what was read."""
        rest, kind = self._stream.decompress(self._data), b""
        for kind, data in self._chunks:
            rest += self._stream.decompress(data) if kind == b"IDAT" else b""
        if rest or kind != b"IEND" or not self._stream.eof:
            raise ValueError("damaged")


def _png(header: bytes, ancillary: dict[bytes, bytes], rows: bytes) -> bytes:
    """A PNG of filtered rows, uncompressed."""
    chunks = {b"IHDR": header, **ancillary, b"IDAT": zlib.compress(rows, 0), b"IEND": b""}
    parts = [SIGNATURE]
    for kind, data in chunks.items():
        parts += [struct.pack(">I", len(data)), kind, data, struct.pack(">I", zlib.crc32(data, zlib.crc32(kind)))]
    return b"".join(parts)
