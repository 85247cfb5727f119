"""Masks of a category by name: paired with images by the path below their folder, never by position."""

from __future__ import annotations

from collections.abc import Iterable
from pathlib import Path
from typing import TypeVar

from robis.datasets.folders import below, images_in
from robis.datasets.words import folded
from robis.errors import DataError
from robis.io.names import composed


class Masks:
    """The mask files below some folders.

    A mask is known by its path below its folder without suffix, such as `crack/000_mask`; a folder of several masks
    of one image by its own path, `crack/000`. Names are compared in composed Unicode; where a name in the same case
    is missing, the only one in another case counts.

    Raises DataError where two files have the same name but for their suffix.
    """

    def __init__(self, folders: Iterable[Path]) -> None:
        self._files: dict[str, Path] = {}
        self._groups: dict[str, list[Path]] = {}
        for folder in folders:
            for mask in images_in(folder, nested=True):
                key = composed(below(mask, folder).rpartition(".")[0])
                if (other := self._files.setdefault(key, mask)) != mask:
                    raise DataError(f"{other} and {mask.name} are masks of the same image. Keep one of them.")
                self._groups.setdefault(key.rpartition("/")[0], []).append(mask)
        self._any_case = _unique_by(self._files)
        self._groups_any_case = _unique_by(self._groups)

    def __bool__(self) -> bool:
        return bool(self._files)

    def find(self, *names: str) -> Path | None:
        """The first of the named masks that there is."""
        for name in names:
            if mask := self._files.get(name) or self._any_case.get(folded(name)):
                return mask
        return None

    def find_group(self, name: str) -> Path | None:
        """The masks in the folder of this name: its path, or the file where there is only one."""
        group = self._groups.get(name) or self._groups_any_case.get(folded(name))
        if not group:
            return None
        return group[0] if len(group) == 1 else group[0].parent


T = TypeVar("T")


def _unique_by(by_name: dict[str, T]) -> dict[str, T]:
    unique: dict[str, T | None] = {}
    for name, value in by_name.items():
        unique[folded(name)] = None if folded(name) in unique else value
    return {name: value for name, value in unique.items() if value is not None}
