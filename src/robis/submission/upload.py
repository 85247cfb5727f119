"""What an upload holds, file by file: that of the MVTec AD 2 benchmark (arXiv 2503.21622), or one for practice."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from functools import cached_property
from typing import NamedTuple

from robis.errors import DataError

# Images in each of a category's two private splits.
IMAGES = {
    "can": 321,
    "fabric": 314,
    "fruit_jelly": 255,
    "rice": 277,
    "sheet_metal": 142,
    "vial": 276,
    "wallplugs": 232,
    "walnuts": 228,
}
# Private splits, and the word in the names of their images.
SPLITS = {"test_private": "regular", "test_private_mixed": "mixed"}
MAPS, MASKS = "anomaly_images", "anomaly_images_thresholded"
SUFFIXES = {MAPS: ".tiff", MASKS: ".png"}

Place = tuple[str, str]  # category, split
Size = tuple[int, int]  # height, width in pixels


class File(NamedTuple):
    """One map or mask of an upload; `kind` is MAPS or MASKS."""

    kind: str
    category: str
    split: str
    sample_id: str

    @property
    def name(self) -> str:
        """Path in the upload."""
        return f"{self.kind}/{self.category}/{self.split}/{self.sample_id}{SUFFIXES[self.kind]}"

    @property
    def short_name(self) -> str:
        """File name below the split's folder."""
        return self.sample_id + SUFFIXES[self.kind]

    @property
    def place(self) -> Place:
        """Category and split."""
        return self.category, self.split


@dataclass(frozen=True)
class Upload:
    """What an upload must hold: a map and a mask of each sample, and nothing else.

    Attributes:
        ids: sample ids by category and split.
        sizes: size of each map and mask, where known, by category and split, then by id.
        is_benchmark: whether this is what the server takes; otherwise it is for practice.
    """

    ids: Mapping[Place, tuple[str, ...]]
    sizes: Mapping[Place, Mapping[str, Size]] = field(default_factory=dict)
    is_benchmark: bool = True

    @cached_property
    def files(self) -> dict[str, File]:
        """Every file by its path in the upload, sorted by path."""
        files = [
            File(kind, *place, sample_id) for kind in SUFFIXES for place, ids in self.ids.items() for sample_id in ids
        ]
        return {file.name: file for file in sorted(files, key=lambda file: file.name)}

    @cached_property
    def categories(self) -> list[str]:
        """Categories, sorted."""
        return sorted({category for category, _ in self.ids})

    def splits(self, category: str) -> list[str]:
        """Splits of a category, sorted."""
        return sorted(split for one, split in self.ids if one == category)

    def size(self, file: File) -> Size | None:
        """Size that a map or mask must have; None where it is not known."""
        return self.sizes.get(file.place, {}).get(file.sample_id)


def benchmark_ids() -> dict[Place, tuple[str, ...]]:
    """Sample ids of the benchmark: numbered from 000 in each split."""
    return {
        (category, split): tuple(f"{number:03}_{word}" for number in range(images))
        for category, images in IMAGES.items()
        for split, word in SPLITS.items()
    }


def make_upload(ids: Mapping[Place, Iterable[str]], sizes: Mapping[Place, Mapping[str, Size]] | None = None) -> Upload:
    """The upload of the given samples: the benchmark's, or one for practice if no category is the benchmark's.

    Raises:
        DataError: some of the categories are the benchmark's, but others, splits or samples of it are missing
            or are too many; the message says which.
    """
    names_by_place = {place: tuple(sorted(names)) for place, names in ids.items()}
    if not names_by_place:
        raise DataError(
            "submission: dataset.splits has no private split. Add test_private and test_private_mixed "
            "(layout mvtec_ad_2 has them)."
        )
    if not any(category in IMAGES for category, _ in names_by_place):
        return Upload(names_by_place, sizes or {}, is_benchmark=False)
    if gaps := _gaps(names_by_place):
        lines = "\n".join(f"  {line}" for line in gaps)
        raise DataError(
            f"submission: the server takes all eight categories of MVTec AD 2, both private splits of each and "
            f"all their images, or nothing:\n{lines}\n"
            f"Complete dataset.categories, dataset.splits and the images. Parts can be run one after the other; "
            f"what is done stays."
        )
    return Upload(names_by_place, sizes or {})


def _gaps(found: Mapping[Place, tuple[str, ...]]) -> list[str]:
    """How samples differ from the benchmark's, one line per category or split."""
    lines = []
    present = {category for category, _ in found}
    for (category, split), expected in benchmark_ids().items():
        if category not in present:
            lines.append(f"{category}: missing")
            present.add(category)
        elif (category, split) not in found and any(place[0] == category for place in found):
            lines.append(f"{category}: no {split}")
        elif (category, split) in found:
            names = found[category, split]
            if missing := sorted(set(expected) - set(names)):
                lines.append(f"{category}/{split}: {len(missing)} of {len(expected)} missing: {few(missing)}")
            if extra := sorted(set(names) - set(expected)):
                lines.append(f"{category}/{split}: {len(extra)} that the benchmark does not have: {few(extra)}")
    lines += [f"{category}: no category of the benchmark" for category in sorted(present - set(IMAGES))]
    lines += [f"{c}/{s}: no split of the benchmark" for c, s in sorted(found) if c in IMAGES and s not in SPLITS]
    return lines


def few(names: Iterable[str], limit: int = 5) -> str:
    """The first names in one line, and how many more there are."""
    listed = list(names)
    more = f" and {len(listed) - limit} more" if len(listed) > limit else ""
    return ", ".join(listed[:limit]) + more
