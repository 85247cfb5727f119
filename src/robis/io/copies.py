"""Copies that a job has of files which the config names, on a machine that may not see those files themselves.

Images and weights are opened by the paths of the config wherever they are read, so that settings, messages and results
are the same with copies and without.
"""

from __future__ import annotations

import os
import shutil
import tarfile
import tempfile
from collections.abc import Iterable, Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path, PurePath

from robis.errors import DataError
from robis.io.atomic import atomic_file
from robis.io.names import expanded

# The copies of the process: of files by their absolute paths, and the folder that stands for the root of all others.
_files: dict[str, Path] = {}
_folders: list[Path] = []


def copy_of(path: str | Path) -> Path:
    """The copy of a file or folder; the path itself where there is none."""
    if _files or _folders:
        place = _absolute(path)
        if place in _files:
            return _files[place]
        for folder in _folders:
            if (copy := _below(folder, place)).exists():
                return copy
    return Path(path)


@contextmanager
def reading_copies(files: Mapping[str, Path], archives: Iterable[Path], root: str) -> Iterator[None]:
    """Read copies of files within the block.

    Args:
        files: path of a file -> its copy.
        archives: of images and masks, see `write_archive`; they are extracted to the temporary folder.
        root: folder that the names in the archives are relative to.

    Raises DataError for a damaged archive.
    """
    with tempfile.TemporaryDirectory(prefix="robis-", ignore_cleanup_errors=True) as temporary:
        folder = Path(temporary)
        for archive in archives:
            _extract(archive, folder, root)
        _folders.append(folder)
        _files.update({_absolute(path): copy for path, copy in files.items()})
        try:
            yield
        finally:
            _folders.remove(folder)
            _files.clear()


def write_archive(archive: Path, root: Path, names: Iterable[str]) -> None:
    """Write files to an uncompressed tar, whose bytes depend on nothing but their names and content.

    Args:
        archive: the tar.
        root: folder that the names are relative to.
        names: posix paths; they may lead out of the root.

    Raises DataError when a file cannot be read.
    """
    with atomic_file(archive) as partial, tarfile.open(partial, "w", format=tarfile.PAX_FORMAT) as tar:
        for name in sorted(set(names)):
            try:
                with (root / name).open("rb") as stream:
                    entry = tarfile.TarInfo(name)
                    entry.size = os.fstat(stream.fileno()).st_size
                    tar.addfile(entry, stream)
            except FileNotFoundError as error:
                raise DataError(f"{root / name}: cannot be read ({error.strerror}). Run robis again.") from error


def _extract(archive: Path, folder: Path, root: str) -> None:
    try:
        with tarfile.open(archive, "r:") as tar:
            for entry in tar:
                target, content = _below(folder, _absolute(Path(root, entry.name))), tar.extractfile(entry)
                if content is not None:
                    target.parent.mkdir(parents=True, exist_ok=True)
                    with target.open("wb") as stream:
                        shutil.copyfileobj(content, stream, 1 << 20)
    except tarfile.TarError as error:
        raise DataError(f"{archive}: not a readable archive ({error}). Delete it and run robis again.") from error


def _absolute(path: str | PurePath) -> str:
    return os.path.normpath(expanded(path).absolute())


def _below(folder: Path, place: str) -> Path:
    """The place of an absolute path in a folder that stands for the root of all."""
    return folder / Path(place).relative_to(Path(place).anchor)
