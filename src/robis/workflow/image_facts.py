"""What a plan knows of the images beside their names: sizes, and widths of defects in the masks.

Sizes come from the headers of the files. Both are remembered beside the fingerprints, so that only the first plan of a
data set opens all of its files.
"""

from __future__ import annotations

from collections.abc import Callable
from contextlib import suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from robis.datasets.defects import mask_widths
from robis.datasets.layouts import list_samples
from robis.datasets.samples import LEARNED, Sample, Source, sample_files
from robis.errors import DataError
from robis.io.images import image_size
from robis.workflow import results
from robis.workflow.remembered import remembered

Place = tuple[str, str]


@dataclass
class ImageFacts:
    """Facts about the images of a data set; what cannot be read is left out, for `index` names it.

    Attributes:
        source: the data set.
        results: the folder results/NAME, where facts are remembered.
        splits: the splits that the config inspects.
        remembers: whether facts are written there.
    """

    source: Source
    results: Path
    splits: list[str]
    remembers: bool = True
    _samples: dict[Place, list[Sample]] = field(default_factory=dict)
    _sizes: dict[Place, list[tuple[int, int]]] = field(default_factory=dict)
    _sides: dict[str, int | None] = field(default_factory=dict)
    _widths: dict[str, list[int]] = field(default_factory=dict)

    def samples(self, category: str, split: str) -> list[Sample]:
        """Samples of a split, nothing held out. Raises DataError."""
        key = (category, split)
        if key not in self._samples:
            self._samples[key] = list_samples(self.source, category, split)
        return self._samples[key]

    def sizes(self, category: str) -> list[tuple[int, int]]:
        """Sizes (height, width) of the images of a category, in the splits that are inspected or learned from."""
        return [size for split in (*LEARNED, *self.splits) for size in self._sizes_of(category, split)]

    def shortest_side(self, category: str) -> int | None:
        """The shortest side among these images in pixels; None where there are none."""
        if category not in self._sides:
            self._sides[category] = min((min(size) for size in self.sizes(category)), default=None)
        return self._sides[category]

    def defect_widths(self, category: str) -> list[int]:
        """Widths of the defects in the masks of the inspected splits, ascending; see `robis.datasets.defects`."""
        if category not in self._widths:
            widths = [width for split in self.splits for width in self._widths_of(category, split)]
            self._widths[category] = sorted(widths)
        return self._widths[category]

    def _sizes_of(self, category: str, split: str) -> list[tuple[int, int]]:
        key = (category, split)
        if key not in self._sizes:
            names = [sample.image for sample in self._listed(*key)]
            facts = self._remembered(names, results.IMAGE_SIZES, key, _size_or_none)
            self._sizes[key] = [(size[0], size[1]) for size in facts if size]
        return self._sizes[key]

    def _widths_of(self, category: str, split: str) -> list[int]:
        names = [
            name for sample in self._listed(category, split) for name in sample_files(self.source.root, sample)[1:]
        ]
        facts = self._remembered(names, results.DEFECT_WIDTHS, (category, split), _widths_or_none)
        return [width for widths in facts for width in widths or ()]

    def _listed(self, category: str, split: str) -> list[Sample]:
        with suppress(DataError):
            return self.samples(category, split)
        return []

    def _remembered(self, names: list[str], pattern: str, key: Place, measure: Callable[[Path], Any]) -> list[Any]:
        root = self.source.root
        there = [name for name in names if (root / name).is_file()]
        memory = results.place(pattern, self.results, category=key[0], split=key[1])
        return list(remembered(root, there, memory, measure, writes=self.remembers).values()) if there else []


def _size_or_none(path: Path) -> tuple[int, int] | None:
    with suppress(DataError):
        return image_size(path)
    return None


def _widths_or_none(path: Path) -> list[int] | None:
    with suppress(DataError):
        return mask_widths(path)
    return None
