"""What hits and misses say, as numbers and as a sentence."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Literal

from robis.detectability.hit_miss import HitMiss, Logistic, proven_size

# How a result was come by: a fitted curve; counting alone, as no curve can be fitted; or there is none.
Method = Literal["logistic", "counting", "none"]
PERCENT = "with 90 % probability (95 % confidence)"


@dataclass(frozen=True)
class Detectability:
    """The sizes that are found of one kind of defect.

    Attributes:
        data: hits and misses.
        curve: the fitted curve; None where none can be fitted.
        method: how a90_95 was come by.
        a50, a90: sizes that are found with a probability of 0.5 and 0.9, in pixels; None without a rising curve.
        a90_95: the upper bound of a90 at 95 % confidence, at least the smallest size tried; None for none.
    """

    data: HitMiss
    curve: Logistic | None
    method: Method
    a50: float | None
    a90: float | None
    a90_95: float | None

    @classmethod
    def of(cls, data: HitMiss) -> Detectability:
        """Analyze hits and misses."""
        if data.is_separated:
            proven = None if _falls(data) else proven_size(data)
            return cls(data, None, "none" if proven is None else "counting", None, None, proven)
        curve = Logistic(data)
        if curve.slope <= 0:
            return cls(data, curve, "none", None, None, None)
        bound = curve.size_bound(0.9)
        a90_95 = None if bound is None else max(bound, float(data.sizes[0]))
        method: Method = "none" if bound is None else "logistic"
        return cls(data, curve, method, curve.size_at(0.5), curve.size_at(0.9), a90_95)


def sentence(result: Detectability, what: str, pixel_size: float | None = None) -> str:
    """What is found, in a sentence.

    Args:
        result: the analysis.
        what: the defects in plural, such as "stains".
        pixel_size: millimeters per pixel; None where it is not known.
    """
    data = result.data

    def size(pixels: float) -> str:
        return size_in_words(pixels, pixel_size)

    smallest, largest = data.sizes[0], data.sizes[-1]
    detected, tried = int(data.hits.sum()), int(data.hits.sum() + data.misses.sum())
    count = f"{detected} of {tried} found"
    if not detected:
        return f"finds none of {tried} {what} of up to {size(largest)}; try larger sizes or more contrast."
    if _falls(data) or (result.curve and result.curve.slope <= 0):
        return f"finds large {what} no more often than small ones ({count}); no size can be promised."
    if result.curve is None:
        return _counted(result, what, pixel_size)
    if result.a90_95 is None:
        return f"no size of {what} can be promised: hits rise too little with the size ({count}); try more per size."
    if result.a90_95 > largest:
        return (
            f"no size of {what} up to {size(largest)} can be promised; the curve reaches 90 % at about "
            f"{size(result.a90 or 0)}, at 95 % confidence by {size(result.a90_95)}; try larger sizes."
        )
    ending = ", the smallest size tried" if result.a90_95 <= smallest else ""
    return f"finds {what} of {size(result.a90_95)} {PERCENT}{ending}."


def _counted(result: Detectability, what: str, pixel_size: float | None) -> str:
    """Where no curve can be fitted, since one size parts hits from misses."""
    data = result.data

    def size(pixels: float) -> str:
        return size_in_words(pixels, pixel_size)

    hit, missed = data.sizes[data.hits > 0], data.sizes[data.misses > 0]
    proven = "" if result.a90_95 is None else f"; those of {size(result.a90_95)} {PERCENT}"
    if not len(missed):
        return f"finds all {data.hits.sum()} {what}, down to {size(hit[0])}{proven}; try smaller sizes for the limit."
    surely = data.sizes[data.sizes > missed[-1]]
    if not len(surely):
        return f"finds some {what} of {size(hit[0])} and none smaller; try larger sizes."
    return (
        f"finds all {what} of {size(surely[0])} and larger, and misses {'some' if hit[0] == missed[-1] else 'all'} of "
        f"{size(missed[-1])}{proven}; try sizes between for a curve."
    )


def size_in_words(pixels: float, pixel_size: float | None = None) -> str:
    """A size in pixels, rounded up, and in millimeters where the size of a pixel is known."""
    digits = 1 if pixels < 10 else 0
    rounded = math.ceil(round(pixels * 10**digits, 6)) / 10**digits
    text = f"{rounded:g} px"
    return f"{text} ({rounded * pixel_size:.3g} mm)" if pixel_size else text


def _falls(data: HitMiss) -> bool:
    """Whether only smaller defects are found and larger ones missed."""
    hit, missed = data.sizes[data.hits > 0], data.sizes[data.misses > 0]
    return bool(len(hit) and len(missed) and hit.max() <= missed.min() and missed.max() > hit.min())
