"""Masks of ignored pixels that `dataset.ignore` names: where those of an image lie, and which images have one."""

from __future__ import annotations

import os
import re
from collections.abc import Collection, Sequence
from dataclasses import replace
from fnmatch import fnmatchcase
from functools import lru_cache
from pathlib import Path

from robis.datasets.folders import images_in, subfolders
from robis.datasets.samples import Sample, Source
from robis.datasets.words import folded
from robis.errors import DataError
from robis.io.names import expanded, on_disk


def with_ignored(source: Source, category: str, split: str, samples: Sequence[Sample]) -> list[Sample]:
    """The samples of a split, each with its mask of ignored pixels where there is one.

    Masks may lie among the images: a sample that is the mask of another one is left out. Raises DataError where an
    image would be its own mask.
    """
    if source.ignore is None:
        return list(samples)
    is_there = lru_cache(maxsize=None)(lambda path: (source.root / path).is_file())

    def ignore_of(sample: Sample) -> str | None:
        path = ignore_path(source, category=category, split=split, name=sample.sample_id)
        return path if is_there(path) else None

    paired = [(sample, ignore_of(sample)) for sample in samples]
    masks = {path for sample, path in paired if path != sample.image}
    paired = [(sample, path) for sample, path in paired if sample.image not in masks]
    for sample, path in paired:
        if path == sample.image:
            raise DataError(
                f"dataset.ignore: {source.ignore!r} takes {sample.image}, an image of {category}/{split}, for its own "
                f"mask. Give the masks another folder or name, as in ignore/{{category}}/{{split}}/{{name}}.png."
            )
    return [replace(sample, ignore=path) for sample, path in paired]


def folder_of_masks(source: Source, splits: Collection[str]) -> str | None:
    """The folder of the root that looks like a category since its masks lie in folders named after splits; or None."""
    if source.ignore is None:
        return None
    # Links stay as they are: a folder of the root may lead anywhere.
    root = Path(os.path.normpath(source.root.absolute()))
    pattern = Path(os.path.normpath(root / expanded(source.ignore)))
    parts = pattern.relative_to(root).parts if pattern.is_relative_to(root) else ()
    if len(parts) <= 2 or folded(parts[1]) not in {"{split}", *map(folded, splits)}:
        return None
    # A category whose masks lie among its images has images in its splits that are no masks.
    mask = glob_pattern(str(pattern))
    folders = subfolders(root / parts[0], lambda name: folded(name) in {*map(folded, splits)})
    files = (file for folder in folders for file in images_in(folder, nested=True))
    return parts[0] if all(fnmatchcase(str(file), mask) for file in files) else None


def glob_pattern(pattern: str) -> str:
    """The paths that `dataset.ignore` may stand for, as a pattern of `fnmatch`."""
    literal = "".join(f"[{character}]" if character in "*?[" else character for character in pattern)
    return re.sub(r"\{(category|split|name)\}", "*", literal)


def ignore_path(source: Source, **fields: str) -> str:
    """Where the mask of ignored pixels of an image lies: posix, relative to the root or absolute; see `Source`."""
    path = str(expanded(str(source.ignore)))
    for field, value in fields.items():
        path = path.replace(f"{{{field}}}", value)
    file = on_disk(source.root / path)
    return file.relative_to(source.root).as_posix() if file.is_relative_to(source.root) else file.as_posix()
