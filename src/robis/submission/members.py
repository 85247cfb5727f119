"""The files of an upload, one after the other, from a folder, a .tar.gz or a .tar; nothing is unpacked."""

from __future__ import annotations

import gzip
import os
import stat
import tarfile
import zlib
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import IO, Self, cast

from robis.errors import DataError
from robis.submission.upload import SUFFIXES

FILE, FOLDER, LINK, DEVICE, TOO_LARGE = "file", "folder", "link", "device, pipe or socket", "file of over 256 MB"
GZIP = b"\x1f\x8b"
BLOCK = 2**20
MAX_BYTES = 2**28
# Bytes that an archive may hold beside the content of its entries: what is read ahead, headers, padding.
ROOM = 2**26
# Reads at the end of an archive, each of which gives nothing, before it counts as cut short.
EMPTY_READS = 8


@dataclass(frozen=True)
class Member:
    """One entry.

    Attributes:
        name: path as stored, with `/`.
        kind: FILE, FOLDER, LINK, DEVICE or TOO_LARGE, which are the words for it.
        read: gives the content; may be called from another thread, and later.
    """

    name: str
    kind: str
    read: Callable[[], bytes] = bytes


class DamagedError(DataError):
    """An archive that cannot be read to its end; the message says from where on. What comes before is known."""


def is_compressed(path: Path) -> bool:
    """Whether a file is gzip's, by its first bytes."""
    with path.open("rb") as stream:
        return stream.read(2) == GZIP


def members(path: Path, wanted: Callable[[str], bool]) -> Iterator[Member]:
    """Every entry of a folder or archive; content is read of those whose name is `wanted`.

    An archive is read once, front to back, and one member at a time is held here.

    Raises:
        DataError: there is no such folder or archive.
        DamagedError: an archive ends too early, holds data behind its end, or has a wrong checksum.
    """
    if path.is_dir():
        return _of_folder(path)
    if not path.is_file():
        raise DataError(f"{path}: no such folder or file. Expected a folder, a .tar.gz or a .tar.")
    return _of_archive(path, wanted)


def _of_folder(root: Path) -> Iterator[Member]:
    # A folder of something else may be large: it is not walked through.
    if not any((folder / kind).is_dir() for folder in (root, *_folders(root)) for kind in SUFFIXES):
        raise DataError(f"{root}: holds no folder {' or '.join(SUFFIXES)}, and no folder in it does.")

    def stop(error: OSError) -> None:
        raise DataError(f"{error.filename}: cannot be read ({error.strerror}).") from error

    for folder, folders, files in os.walk(root, onerror=stop):
        folders.sort()
        for name in sorted([*folders, *files]):
            path = Path(folder, name)
            yield Member(path.relative_to(root).as_posix(), _kind(path.lstat()), path.read_bytes)


def _kind(status: os.stat_result) -> str:
    if stat.S_ISLNK(status.st_mode):
        return LINK
    if stat.S_ISDIR(status.st_mode):
        return FOLDER
    if not stat.S_ISREG(status.st_mode):
        return DEVICE
    return TOO_LARGE if status.st_size > MAX_BYTES else FILE


def _folders(root: Path) -> list[Path]:
    try:
        return [path for path in root.iterdir() if path.is_dir()]
    except OSError as error:
        raise DataError(f"{root}: cannot be read ({error.strerror}).") from error


def _of_archive(path: Path, wanted: Callable[[str], bool]) -> Iterator[Member]:
    count = 0
    try:
        with path.open("rb") as stream:
            # tarfile's own gzip stream compares no checksum and stops at the first of several gzip members.
            # read1 gives all that comes before damage, where read gives nothing of its last block.
            source = _Source(gzip.GzipFile(fileobj=stream).read1 if is_compressed(path) else stream.read)
            with tarfile.open(fileobj=cast(IO[bytes], source), mode="r|", bufsize=BLOCK, tarinfo=_StrictHeader) as tar:
                for info in tar:
                    count += 1
                    member = _member(tar, info, wanted, source)
                    yield member
                    if member.kind == TOO_LARGE:
                        raise DamagedError(f"after {count} entries ({info.name} claims to have {info.size} bytes)")
                _read_to_end(tar)
    except (tarfile.TarError, zlib.error, EOFError, OSError, ValueError, OverflowError) as error:
        if not count:
            raise DataError(f"{path}: not a .tar.gz or .tar ({error}).") from error
        raise DamagedError(f"after {count} entries ({error})") from error


# The two kinds that stand for the end of an archive; typeshed does not know them.
_END = (tarfile.EmptyHeaderError, tarfile.EOFHeaderError)  # type: ignore[attr-defined]


class _StrictHeader(tarfile.TarInfo):
    """A header that is refused where it is damaged; tarfile takes a damaged one for the end of the archive."""

    @classmethod
    def fromtarfile(cls, tar: tarfile.TarFile) -> Self:
        try:
            return super().fromtarfile(tar)
        except tarfile.HeaderError as error:
            if type(error) in _END:
                raise
            raise tarfile.ReadError(str(error)) from error


class _Source:
    """The bytes of an archive, which cost no more time and memory than the entries that are accepted.

    A header may claim any size, and a small compressed archive may hold very much: both end here.
    """

    def __init__(self, read: Callable[[int], bytes]) -> None:
        self._read = read
        self._left = ROOM
        self._empty_reads = 0

    def accept(self, size: int) -> None:
        """Let the content of an entry be read, in bytes."""
        self._left += size

    def read(self, size: int) -> bytes:
        """At most `size` bytes; none at the end. Raises EOFError where reading goes on behind the end."""
        data = self._read(size)
        self._empty_reads = 0 if data else self._empty_reads + 1
        if self._empty_reads > EMPTY_READS:
            raise EOFError("it ends in the middle of an entry")
        self._left -= len(data)
        if self._left < 0:
            raise ValueError(f"over {ROOM} bytes that belong to no expected file")
        return data


def _member(tar: tarfile.TarFile, info: tarfile.TarInfo, wanted: Callable[[str], bool], source: _Source) -> Member:
    if info.isdir():
        return Member(info.name, FOLDER)
    if info.issym() or info.islnk():
        return Member(info.name, LINK)
    if not info.isreg():
        return Member(info.name, DEVICE)
    if info.size > MAX_BYTES:
        return Member(info.name, TOO_LARGE)
    if not wanted(info.name):
        return Member(info.name, FILE)
    source.accept(info.size)
    content = cast(IO[bytes], tar.extractfile(info)).read()
    return Member(info.name, FILE, lambda: content)


def _read_to_end(tar: tarfile.TarFile) -> None:
    """Compare gzip's checksum, and find what lies behind the tar's end or behind a damaged header."""
    stream = cast(IO[bytes], tar.fileobj)
    while block := stream.read(BLOCK):
        if block.strip(b"\0"):
            raise DamagedError("after the last readable entry (data behind the end, or a damaged header)")
