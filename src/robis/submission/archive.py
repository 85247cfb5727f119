"""A .tar.gz whose bytes depend on nothing but the names and contents of its files."""

from __future__ import annotations

import struct
import tarfile
import zlib
from collections import deque
from collections.abc import Iterable
from concurrent.futures import Future, ThreadPoolExecutor
from pathlib import Path
from types import TracebackType
from typing import IO, cast

# float16 maps are mostly noise to deflate: level 6 takes twice the time of 1 and saves two percent.
LEVEL = 1
BLOCK = 2**20
# Magic number, deflate, no flags, time 0, no hint, unknown system (RFC 1952).
HEADER = b"\x1f\x8b\x08\0\0\0\0\0\0\xff"
LAST_BLOCK = b"\x03\0"


class BlockGzip:
    """Writes gzip, its blocks compressed on several threads; the bytes do not depend on how many.

    Each block of 1 MiB is deflated by itself and ends on a byte (a sync flush), so that all together are one
    ordinary gzip member, which every reader takes; several members in a row are not read by all of them.
    """

    def __init__(self, stream: IO[bytes], threads: int) -> None:
        self._stream, self._limit = stream, 2 * threads
        self._pool = ThreadPoolExecutor(max(1, threads))
        self._pending: deque[Future[bytes]] = deque()
        self._buffer = bytearray()
        self._checksum = self._length = 0
        stream.write(HEADER)

    def __enter__(self) -> BlockGzip:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        try:
            if kind is None:
                self._compress(bytes(self._buffer))
                self._write(keep=0)
                self._stream.write(LAST_BLOCK + struct.pack("<II", self._checksum, self._length % 2**32))
        finally:
            self._pool.shutdown(cancel_futures=True)

    def write(self, data: bytes) -> int:
        """Take more bytes."""
        self._buffer += data
        while len(self._buffer) >= BLOCK:
            self._compress(bytes(self._buffer[:BLOCK]))
            del self._buffer[:BLOCK]
        return len(data)

    def _compress(self, block: bytes) -> None:
        self._checksum = zlib.crc32(block, self._checksum)
        self._length += len(block)
        self._pending.append(self._pool.submit(_deflated, block))
        self._write(keep=self._limit)

    def _write(self, keep: int) -> None:
        while len(self._pending) > keep:
            self._stream.write(self._pending.popleft().result())


def _deflated(block: bytes) -> bytes:
    deflate = zlib.compressobj(LEVEL, zlib.DEFLATED, -zlib.MAX_WBITS)
    return deflate.compress(block) + deflate.flush(zlib.Z_SYNC_FLUSH)


def write_archive(files: Iterable[tuple[str, Path]], target: Path, *, threads: int = 1) -> None:
    """Write (name, file) pairs, sorted by name, as a .tar.gz without times, owners and other traces of the machine."""
    with (
        open(target, "wb") as stream,
        BlockGzip(stream, threads) as packed,
        tarfile.open(fileobj=cast(IO[bytes], packed), mode="w|", format=tarfile.PAX_FORMAT, bufsize=BLOCK) as tar,
    ):
        for name, path in sorted(files):
            member = tarfile.TarInfo(name)
            member.mode = 0o644
            with open(path, "rb") as content:
                member.size = path.stat().st_size
                tar.addfile(member, content)
