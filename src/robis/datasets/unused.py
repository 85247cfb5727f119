"""Files that look like images or masks and that the layout does not use, each with the reason."""

from __future__ import annotations

from collections.abc import Collection, Iterable, Iterator, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

from robis.datasets import problems
from robis.datasets.folders import entries, subfolder, walk
from robis.datasets.layouts import LAYOUTS, Listed, category_folder, list_splits
from robis.datasets.problems import Problem
from robis.datasets.samples import Sample, Source, read_files, sample_files
from robis.datasets.words import is_hidden
from robis.errors import DataError
from robis.io.images import IMAGE_SUFFIXES, is_image
from robis.io.names import composed, shown
from robis.io.signatures import IMAGES, content_kind

# Other suffixes of images, and of arrays that people save masks as.
OTHER_IMAGES = (
    *(".gif", ".apng", ".avif", ".heic", ".heif", ".jxl", ".jp2", ".j2k", ".jpx", ".pfm", ".pam", ".svg"),
    *(".exr", ".hdr", ".dds", ".tga", ".psd", ".pcx", ".dcm", ".fits", ".npy", ".npz"),
    *(".raw", ".dng", ".cr2", ".cr3", ".nef", ".arw", ".orf", ".rw2"),
)


@dataclass(frozen=True)
class _Unused:
    """A file by its path below the root, and why its name rules it out; empty where its place does."""

    path: str
    reason: str


def unused_in_dataset(source: Source, categories: Sequence[str], samples: Iterable[Sample]) -> list[Problem]:
    """List all files below the root that look like images or masks and are none of these samples' files."""
    used = {composed(name) for sample in samples for name in read_files(source.root, sample)}
    masks = [folder for category in categories for folder in LAYOUTS[source.layout].mask_folders(source, category)]
    unreadable: list[OSError] = []
    # Where the root is a whole computer or home, only the folders that hold some of the images are looked at.
    is_vast = source.root.resolve() in (Path(source.root.resolve().anchor), Path.home())
    folders = _folders_of(source.root, used) if is_vast else walk(source.root, unreadable)
    unused = [*_unused(source.root, folders, used), *_unread(source.root, unreadable)]
    return _problems(source, source.root, unused, used, masks)


def unused_beside(source: Source, category: str, split: str, samples: Listed) -> list[Problem]:
    """List the files that look like images or masks, are not used, and may have been meant for a split.

    These are the files of the category's folder, those in the folders of other splits left out. Where a table lists the
    images, they are the files in the folders of the split's own images and masks. `samples` are those of the
    category by split; where a split could not be listed, what is used is not known, and nothing is reported.
    """
    layout, root = LAYOUTS[source.layout], source.root
    if layout.listed_files:
        ignores = {composed(sample.ignore) for listed in samples.values() for sample in listed if sample.ignore}
        used = layout.listed_files(source) | ignores
        folders = _folders_of(root, [name for sample in samples[split] for name in sample_files(root, sample)])
        return _problems(source, root, list(_unused(root, folders, used)), used, ())
    if len(samples) < len(list_splits(source)):
        return []
    used = {composed(name) for listed in samples.values() for sample in listed for name in read_files(root, sample)}
    folder = category_folder(source, category)
    others = [subfolder(folder, other) for other in samples if other != split]
    unreadable: list[OSError] = []
    outside = (place for place in walk(folder, unreadable) if not any(place.is_relative_to(other) for other in others))
    unused = [*_unused(root, outside, used), *_unread(root, unreadable)]
    return _problems(source, folder, unused, used, layout.mask_folders(source, category))


def _folders_of(root: Path, names: Iterable[str]) -> list[Path]:
    """Folders below the root that hold the named files, sorted."""
    folders = {(root / name).parent for name in names}
    return sorted(folder for folder in folders if folder.is_relative_to(root))


def _unused(root: Path, folders: Iterable[Path], used: Collection[str]) -> Iterator[_Unused]:
    for folder in folders:
        place = folder.relative_to(root).as_posix()
        try:
            listing = sorted(entries(folder), key=lambda entry: entry.name)
        except DataError:
            yield _Unused(place, "cannot be listed")
            continue
        for entry in listing:
            path = entry.name if place == "." else f"{place}/{entry.name}"
            if not is_hidden(entry.name) and composed(path) not in used and entry.is_file():
                reason = _why_no_image(folder / entry.name)
                if reason is not None:
                    yield _Unused(path, reason)


def _unread(root: Path, errors: Iterable[OSError]) -> Iterator[_Unused]:
    for error in errors:
        yield _Unused(Path(error.filename).relative_to(root).as_posix(), f"cannot be read ({error.strerror})")


def _why_no_image(path: Path) -> str | None:
    """Why a file that looks like an image cannot be one by its name; None where it does not look like one."""
    if is_image(path.name):
        return ""
    suffix = path.suffix.lower()
    if suffix in OTHER_IMAGES:
        return f"{suffix} files are not read; save it as PNG"
    if f".{suffix.strip(' .~')}" in IMAGE_SUFFIXES or content_kind(path) in IMAGES:
        return f"the suffix {suffix!r} is not that of an image" if suffix else "the name has no suffix"
    return None


def _problems(
    source: Source, base: Path, unused: Sequence[_Unused], used: Collection[str], masks: Collection[Path]
) -> list[Problem]:
    """Say what is wrong with each file; those of a folder below `base` that nothing is read from are one problem."""
    layout, root = LAYOUTS[source.layout], source.root
    reads = f"Layout {source.layout!r} reads {layout.reads}"
    unread = replace(problems.UNREAD_FOLDER, cure=f"{reads}. {problems.UNREAD_FOLDER.cure}")
    unused_image = replace(problems.UNUSED_IMAGE, cure=f"{reads}. {problems.UNUSED_IMAGE.cure}")
    read_folders = {folder for path in used for folder in _parents(path)}
    level = len(base.relative_to(root).parts)
    remarks: list[Problem] = []
    folders: dict[str, list[str]] = {}
    for file in unused:
        path = root / file.path
        if not file.reason and any(path.is_relative_to(folder) for folder in masks):
            remarks.append(Problem(problems.UNPAIRED_MASK, shown(path)))
            continue
        tops = [folder for folder in _parents(file.path) if folder.count("/") >= level]
        top = next((folder for folder in tops if composed(folder) not in read_folders), None)
        if top is None:
            remarks.append(Problem(unused_image, f"{shown(path)}: {file.reason}" if file.reason else shown(path)))
        else:
            folders.setdefault(top, []).append(shown(path))
    for folder, paths in folders.items():
        number = f"{len(paths)} file{'s' * (len(paths) > 1)}"
        remarks.append(Problem(unread, f"{shown(root / folder)}: {number}, such as {paths[0]}", files=tuple(paths)))
    return remarks


def _parents(path: str) -> list[str]:
    """Folders of a path below the root, the outermost first."""
    parts = path.split("/")[:-1]
    return ["/".join(parts[: n + 1]) for n in range(len(parts))]
