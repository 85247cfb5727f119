"""Masks of ignored pixels that `dataset.ignore` names: where those of an image lie, and which images have one."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from functools import lru_cache
from pathlib import Path

from robis.datasets.samples import Sample, Source
from robis.io.names import on_disk


def with_ignored(source: Source, category: str, split: str, samples: Sequence[Sample]) -> list[Sample]:
    """The samples of a split, each with its mask of ignored pixels where there is one."""
    if source.ignore is None:
        return list(samples)
    is_there = lru_cache(maxsize=None)(lambda path: (source.root / path).is_file())

    def ignore_of(sample: Sample) -> str | None:
        path = ignore_path(source, category=category, split=split, name=sample.sample_id)
        return path if is_there(path) else None

    return [replace(sample, ignore=ignore_of(sample)) for sample in samples]


def ignore_path(source: Source, **fields: str) -> str:
    """Where the mask of ignored pixels of an image lies: posix, relative to the root or absolute; see `Source`."""
    path = str(source.ignore)
    for field, value in fields.items():
        path = path.replace(f"{{{field}}}", value)
    file = on_disk(source.root / Path(path).expanduser())
    return file.relative_to(source.root).as_posix() if file.is_relative_to(source.root) else file.as_posix()
