"""The image score above which an image is judged anomalous, taken from normal images that no model has seen."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np


@dataclass(frozen=True)
class Limit:
    """A limit of the image scores: an image that scores above it is judged anomalous.

    Attributes:
        value: in the units of the scores.
        images: number of held-out normal images.
        above: how many of them score above it.
    """

    value: float
    images: int
    above: int


def limit_of(scores: Sequence[float] | np.ndarray, allowed_false_alarms: float = 0.0) -> Limit:
    """The lowest of the held-out scores above which no more than the allowed fraction of them lies.

    With exchangeable scores, no ties and k scores above it, another normal image of the same kind scores above the
    limit with the probability (k + 1) / (n + 1), n the number of scores: one in n + 1 where nothing is allowed.

    Args:
        scores: of normal images, finite, at least one.
        allowed_false_alarms: 0..1, the fraction that may lie above.
    """
    falling = np.sort(np.asarray(scores, np.float64))[::-1]
    # Not the product alone: 0.1 * 30 is a little more than 3, 0.3 * 10 a little less.
    allowed = int(allowed_false_alarms * len(falling) + 1e-9)
    value = float(falling[min(allowed, len(falling) - 1)])
    return Limit(value, len(falling), int(np.count_nonzero(falling > value)))


@dataclass(frozen=True)
class LabeledScores:
    """Scores of a category and split whose labels are known, on one scale.

    Attributes:
        held_out: float (N,), of the normal images that the limit comes from.
        normal, anomalous: float (N,), of the images of the split.
    """

    held_out: np.ndarray
    normal: np.ndarray
    anomalous: np.ndarray


@dataclass(frozen=True)
class Choice:
    """What a value of `allowed_false_alarms` leads to.

    Attributes:
        allowed: the value.
        caught, flagged: number of anomalous and of normal images that score above the limits.
    """

    allowed: float
    caught: int
    flagged: int


# The values that a user would try: every twentieth up to one half.
ALLOWED = tuple(step / 20 for step in range(11))


def judged_with(parts: Sequence[LabeledScores], allowed: float) -> Choice:
    """What a value of `allowed_false_alarms` leads to on labeled images, each part judged by its own limit."""
    caught = flagged = 0
    for part in parts:
        limit = limit_of(part.held_out, allowed).value
        caught += int(np.count_nonzero(part.anomalous > limit))
        flagged += int(np.count_nonzero(part.normal > limit))
    return Choice(allowed, caught, flagged)


def best_choice(parts: Sequence[LabeledScores]) -> Choice:
    """The value of ALLOWED with the highest `youden`, the smallest of equal ones.

    Args:
        parts: labeled images, at least one normal and one anomalous among them.
    """
    return max((judged_with(parts, allowed) for allowed in ALLOWED), key=lambda choice: youden(choice, parts))


def youden(choice: Choice, parts: Sequence[LabeledScores]) -> float:
    """Youden's index: share of anomalous images that are caught, minus the share of normal ones that are flagged."""
    anomalous, normal = sum(len(part.anomalous) for part in parts), sum(len(part.normal) for part in parts)
    return choice.caught / anomalous - choice.flagged / normal


def chance_of(above: int, images: int, limit: Limit) -> float:
    """The probability that at least `above` of `images` normal images score above a limit from other normal images.

    Exact for exchangeable scores without ties (negative hypergeometric distribution): it happens when at most
    `limit.above` of the held-out images are among the `above + limit.above` highest of all.
    """
    drawn = above + limit.above
    ways = sum(
        math.comb(limit.images, among) * math.comb(images, drawn - among)
        for among in range(min(limit.above, drawn) + 1)
    )
    return ways / math.comb(limit.images + images, drawn)


def in_words(limit: Limit) -> str:
    """What a limit is, such as "the highest of 30 good images"."""
    if not limit.above:
        return f"the highest of {limit.images} good images" if limit.images > 1 else "the only held-out good image"
    return f"{limit.images - limit.above} of {limit.images} good images"
