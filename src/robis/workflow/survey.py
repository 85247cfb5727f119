"""What a folder of images holds, as far as settings depend on it."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import cv2
import numpy as np

from robis.datasets.depth import highest_values, usual_depth
from robis.datasets.guess import Guess
from robis.datasets.layouts import inspected_splits, list_categories, list_samples
from robis.datasets.samples import ANOMALOUS, NORMAL, Sample, Source
from robis.errors import DataError
from robis.workflow.choosing import Category, without_training
from robis.workflow.image_facts import ImageFacts

# Images of a category that are opened to see whether they are gray, and of how many bits.
LOOKED_AT = 5


@dataclass(frozen=True)
class Survey:
    """What a folder holds.

    Attributes:
        guess: its layout.
        splits: those to inspect that have images.
        categories: sizes of the images by category.
        labels: number of images to inspect by label; None for unknown ones.
        pixels: what the images are, in words.
        warnings: what to know about them.
        bit_depth: of the images in files of 16 bits; None: they use the whole range, or there are none.
    """

    guess: Guess
    splits: tuple[str, ...]
    categories: tuple[Category, ...]
    labels: Counter[str | None]
    pixels: str
    warnings: tuple[str, ...]
    bit_depth: int | None = None


def look(guess: Guess, source: Source) -> Survey:
    """Look at the images of a folder: names, headers, masks, and the pixels of a few.

    Categories without images to inspect are left out, and those without images to learn from where others have some.
    """
    everything = list(guess.categories) or list_categories(source)
    splits = [split for split in inspected_splits(source) if any(list_samples(source, n, split) for n in everything)]
    inspected = [name for name in everything if all(list_samples(source, name, split) for split in splits)]
    if not splits or not inspected:
        raise DataError(f"{guess.root}: no images to inspect. Expected some in {', '.join(inspected_splits(source))}.")
    learned = [name for name in inspected if list_samples(source, name, "train")]
    categories = learned or inspected
    depths = {name: _depth(source, name) for name in categories}
    shared = shared_depth(depths)
    warnings = [
        *_left_out(everything, inspected, f"has no images in {' or '.join(splits)}"),
        *_left_out(inspected, categories, f"has no images in train; detectors: [{without_training()}] needs none"),
        *_dark(depths, shared),
        *(text for name in categories for split in splits for text in _without_masks(source, name, split)),
    ]
    if categories != everything:
        guess = replace(guess, categories=tuple(categories))
    surveyed = tuple(_category(source, name, splits) for name in categories)
    samples = [sample for name in categories for split in splits for sample in list_samples(source, name, split)]
    labels, kinds = Counter(sample.label for sample in samples), _kinds(source, categories)
    return Survey(guess, tuple(splits), surveyed, labels, kinds, tuple(warnings), shared)


def _left_out(before: Sequence[str], after: Sequence[str], reason: str) -> list[str]:
    return [f"{name}: left out, since it {reason}." for name in before if name not in after]


def _without_masks(source: Source, name: str, split: str) -> list[str]:
    """Say that some defective images of a split have masks and others none: the first job would refuse them."""
    masks = [sample.mask for sample in list_samples(source, name, split) if sample.label == ANOMALOUS]
    count = masks.count(None)
    if count in (0, len(masks)):
        return []
    return [
        f"{name}: {count} of {len(masks)} defective images in {split} {'has' if count == 1 else 'have'} no mask. A run "
        f"needs masks of all or none. `robis data check` lists the images."
    ]


def _category(source: Source, name: str, splits: list[str]) -> Category:
    train = ImageFacts(source, Path(), [], remembers=False).sizes(name)
    facts = ImageFacts(source, Path(), splits, remembers=False)
    has_validation = bool(list_samples(source, name, "validation"))
    test = facts.sizes(name)[len(train) :]
    if not test:
        raise DataError(f"{source.root}: no image of {name} can be read. `robis data check` lists what is wrong.")
    return Category(name, train, test, facts.defect_widths(name), has_validation)


def _kinds(source: Source, categories: Sequence[str]) -> str:
    """What the first images of each category are, in words."""
    kinds: set[str] = set()
    for name in categories:
        samples = [*list_samples(source, name, "train"), *_first_inspected(source, name)][:LOOKED_AT]
        images = [image for sample in samples if (image := _as_stored(source.root / sample.image)) is not None]
        kinds |= {_kind(image) for image in images}
    return " and ".join(sorted(kinds)) or "of unknown kind"


def _depth(source: Source, name: str) -> int | None:
    """Bits of a category's images in files of 16 bits; None where it has none."""
    samples = [*list_samples(source, name, "train"), *_first_inspected(source, name)]
    values = highest_values(source.root, samples)
    return (usual_depth(max(values.values())) or 16) if values else None


def shared_depth(depths: Mapping[str, int | None]) -> int | None:
    """The bits that the images of all categories have; None where only the range of the file holds them, or no file."""
    most = max((depth for depth in depths.values() if depth), default=16)
    return most if most < 16 else None


def _dark(depths: Mapping[str, int | None], shared: int | None) -> list[str]:
    """Which categories look dark beside those that need more bits."""
    return [
        f"{name}: the 16-bit images have {depth} bits and those of other categories {shared or 16}, so they look dark. "
        f"Run them alone, with dataset.bit_depth: {depth}."
        for name, depth in depths.items()
        if depth and depth < (shared or 16)
    ]


def _first_inspected(source: Source, name: str) -> list[Sample]:
    return [sample for split in inspected_splits(source) for sample in list_samples(source, name, split)]


def _as_stored(path: Path) -> np.ndarray | None:
    return cv2.imread(str(path), cv2.IMREAD_UNCHANGED)


def _kind(image: np.ndarray) -> str:
    return f"{'gray' if image.ndim == 2 else 'color'}, {8 * image.dtype.itemsize} bits"


def summary(survey: Survey) -> str:
    """What a folder holds, in one line."""
    train, test = (sum(len(getattr(category, part)) for category in survey.categories) for part in ("train", "test"))
    known = [f"{survey.labels[label]} {word}" for label, word in _WORDS if survey.labels[label]]
    count = len(survey.categories)
    masks = sum(len(category.widths) for category in survey.categories)
    with_masks = f" with {masks} marked defects" if masks else ""
    return (
        f"{count} categor{'y' if count == 1 else 'ies'}, {train} images to learn from, {test} to inspect "
        f"({', '.join(known)}){with_masks}, {_size_text(survey.categories)}, {survey.pixels}"
    )


_WORDS = ((NORMAL, "good"), (ANOMALOUS, "defective"), (None, "unlabeled"))


def _size_text(categories: Sequence[Category]) -> str:
    sizes = sorted({size for category in categories for size in category.sizes}, key=lambda size: size[0] * size[1])
    (height, width), (most_height, most_width) = sizes[0], sizes[-1]
    least = f"{width} x {height} px"
    return least if len(sizes) == 1 else f"{least} to {most_width} x {most_height} px"
