"""How many bits the images in files of 16 bits really have: cameras of 10, 12 and 14 bits leave the upper ones 0."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from pathlib import Path

import numpy as np

from robis.datasets import problems
from robis.datasets.problems import Problem
from robis.datasets.samples import Sample
from robis.errors import DataError
from robis.io.decoding import WHITE
from robis.io.images import highest_value

# What cameras give.
DEPTHS = (8, 10, 12, 14)
# Images of a split that are decoded to look for their highest value.
LOOKED_AT = 8


def usual_depth(highest: int) -> int | None:
    """The smallest of DEPTHS that holds a value; None where only 16 bits do."""
    return next((depth for depth in DEPTHS if highest < 2**depth), None)


def highest_values(root: Path, samples: Sequence[Sample]) -> dict[str, int]:
    """The highest stored value of some images, evenly spread over the samples, that are PNG or TIFF of 16 bits."""
    places = np.unique(np.linspace(0, len(samples) - 1, min(LOOKED_AT, len(samples))).round().astype(int))
    return dict(_values(root, [samples[place] for place in places.tolist()]))


def _values(root: Path, samples: Iterable[Sample]) -> Iterator[tuple[str, int]]:
    for sample in samples:
        try:
            value = highest_value(root / sample.image)
        # The check of the files says what is wrong.
        except DataError:
            continue
        if value is not None:
            yield sample.image, value


def depth_problems(root: Path, values: Mapping[str, int], bit_depth: int | None) -> list[Problem]:
    """The images with values above white, by `highest_values`."""
    if bit_depth is None:
        return []
    white = 2**bit_depth - 1
    return [
        Problem(problems.TOO_BRIGHT, f"{root / image}: its highest value is {value}; white is {white}")
        for image, value in values.items()
        if value > white
    ]


def depth_remarks(place: str, values: Mapping[str, int], bit_depth: int | None) -> list[Problem]:
    """What to set where the images of a place, category/split, seem to have fewer bits than their files."""
    highest = max(values.values(), default=WHITE)
    depth = usual_depth(highest)
    if bit_depth is not None or depth is None:
        return []
    text = f"{place}: the highest value of {len(values)} images is {highest} of {WHITE}; try dataset.bit_depth: {depth}"
    return [Problem(problems.TOO_DARK, text)]
