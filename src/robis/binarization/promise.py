"""A threshold with a promise: at most a share of normal images gets a mask, with a stated confidence.

Take n normal images that no model has seen. The peak of an image is the lowest threshold at which its mask is empty.
With the k-th smallest peak as the threshold, the share of all normal images of the same kind that get a mask is at most
`rate` with a probability of P(Bin(n, 1 - rate) <= k - 1) or more, whatever the distribution of the peaks (Wilks 1941,
"Determination of sample sizes for setting tolerance limits"). Equal peaks only make it safer, since masks hold what is
*above* the threshold.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from robis.errors import DataError
from robis.io.tables import read_table

# Of the table of thresholds; null without a promise.
COLUMNS = {
    "promised_rate": "float64",
    "promised_confidence": "float64",
    "held_out": "Int64",
    "held_out_masked": "Int64",
}
# 1 - 0.95 is a little more than 0.05: the last digits of a probability decide nothing.
ROUNDING = 1e-9
MOST = 0.5  # the largest rate that a config may set


@dataclass(frozen=True)
class Promise:
    """At most `rate` of the normal images get a mask, with `confidence`, both in 0..1.

    Attributes:
        rate, confidence: what is promised.
        images: number of held-out normal images behind it.
        masked: how many of them have a mask at the threshold.
    """

    rate: float
    confidence: float
    images: int
    masked: int

    def in_words(self) -> str:
        """The promise and what is behind it, without a full stop."""
        return (
            f"at most {100 * self.rate:.4g} % of good images get a mask, with {100 * self.confidence:.4g} % confidence "
            f"({self.images} held-out good images, {self.masked} of them with a mask)"
        )

    def columns(self) -> dict[str, float | int]:
        """Its values by the names of COLUMNS."""
        return dict(zip(COLUMNS, (self.rate, self.confidence, self.images, self.masked), strict=True))


def read_promise(thresholds: Path) -> Promise | None:
    """The promise of a table of thresholds; None without one. Raises DataError when the table is damaged."""
    table = read_table(thresholds, stage="binarize")
    if not set(COLUMNS) <= set(table) or table.empty or table["promised_rate"].isna().any():
        return None
    rate, confidence, images, masked = (table[name].iloc[0] for name in COLUMNS)
    return Promise(float(rate), float(confidence), int(images), int(masked))


def promises_in_words(promises: Iterable[tuple[str, Promise | None]]) -> list[str]:
    """A sentence for each promise, with the names of the parts that it is made for; nothing where there is none."""
    names: dict[str, list[str]] = {}
    for name, promise in promises:
        if promise:
            names.setdefault(promise.in_words(), []).append(name)
    return [f"Promise for {', '.join(parts)}: {words}." for words, parts in names.items()]


def kept_threshold(peaks: np.ndarray, rate: float, confidence: float) -> tuple[float, Promise]:
    """The lowest threshold that keeps a promise, and the promise.

    Args:
        peaks: (N,) of held-out normal images, each the lowest threshold at which the image's mask is empty.
        rate: above 0 and below 1, the share of normal images that may get a mask.
        confidence: above 0 and below 1.

    Raises:
        DataError: there are too few images.
    """
    rank = rank_of(len(peaks), rate, confidence)
    if rank is None:
        raise DataError(f"binarize.rate: {too_few(len(peaks), rate, confidence)}.")
    threshold = float(np.sort(peaks)[rank - 1])
    return threshold, Promise(rate, confidence, len(peaks), int(np.count_nonzero(peaks > threshold)))


def rank_of(images: int, rate: float, confidence: float) -> int | None:
    """The smallest k with P(Bin(images, 1 - rate) <= k - 1) >= confidence; None with too few images.

    The same in other words: at most images - k peaks lie above the threshold, and the probability that so few images
    are among the `rate` highest is at most 1 - confidence.
    """
    above, total = -1, 0.0
    for probability in _binomial(images, rate):
        total += probability
        if total > (1 - confidence) * (1 + ROUNDING):
            break
        above += 1
    return images - above if above >= 0 else None


def _binomial(images: int, rate: float) -> Iterator[float]:
    """P(Bin(images, rate) = m) for m = 0, 1, ..., images."""
    for number in range(images + 1):
        ways = math.lgamma(images + 1) - math.lgamma(number + 1) - math.lgamma(images - number + 1)
        yield math.exp(ways + number * math.log(rate) + (images - number) * math.log1p(-rate))


def images_needed(rate: float, confidence: float) -> int:
    """The smallest number of images that a promise needs: n with (1 - rate)^n <= 1 - confidence."""
    return max(1, math.ceil(math.log(1 - confidence) / math.log1p(-rate) - ROUNDING))


def lowest_rate(images: int, confidence: float) -> float:
    """The lowest rate that so many images can promise, rounded up to three digits; 1 without images."""
    if images == 0:
        return 1.0
    exact = 1 - (1 - confidence) ** (1 / images)
    digits = 2 - math.floor(math.log10(exact))
    return math.ceil(exact * 10**digits) / 10**digits


def too_few(images: int, rate: float, confidence: float) -> str:
    """Say how many images a promise needs, and what the present number can promise, without a full stop."""
    lowest = lowest_rate(images, confidence)
    allowed = f"enough for a rate of {lowest:g} or more" if lowest <= MOST else "too few for any rate"
    return (
        f"{rate:g} with binarize.confidence {confidence:g} needs {images_needed(rate, confidence)} held-out normal "
        f"images; found {images}, {allowed}"
    )
