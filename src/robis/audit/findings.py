"""What speaks against an image, in words, and the order in which a person should look at the images."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from itertools import product

import numpy as np

from robis.audit.copies import Pair
from robis.audit.measures import Measures
from robis.audit.outliers import FAR, robust_z
from robis.audit.unlike import Unlikeness
from robis.datasets.samples import LEARNED

# Kinds of findings, the most severe first.
KINDS = ("leak", "unlike", "size", "mode", "exposure", "blur", "copy")
# With fewer images no usual value is known.
FEWEST = 8
# Most images agree in a size or mode where so many do.
MOST = 0.9
# Differences that matter whatever the others' spread is: of brightness in gray values, of clipped pixels and of
# sharpness as shares, of unlikeness as distance.
LEAST_BRIGHTNESS, LEAST_CLIPPED, LEAST_SHARPNESS, LEAST_UNLIKE = 10.0, 0.02, 0.05, 0.01


@dataclass(frozen=True)
class Audited:
    """An image and what was measured of it.

    Attributes:
        image: posix path below the root of the data set.
        split: its split.
        measures: of its pixels.
        unlike: how unlike the others it is; None for images that are inspected and not learned from.
    """

    image: str
    split: str
    measures: Measures
    unlike: Unlikeness | None = None


@dataclass
class Finding:
    """What the audit says of an image: kind of finding -> reason in words, and its closest copy, if any."""

    reasons: dict[str, str] = field(default_factory=dict)
    copy: Audited | None = None
    distance: float | None = None


def find(images: Sequence[Audited], pairs: Sequence[Pair]) -> dict[int, Finding]:
    """Findings of the images to learn from, by their numbers in `images`.

    Args:
        images: those to learn from, and those that are inspected, which are only compared as copies.
        pairs: copies among them by their numbers, the closest first.
    """
    learned = [number for number, image in enumerate(images) if image.split in LEARNED]
    findings = {number: Finding() for number in learned}
    for pair in [*_same_in_other_splits(images, pairs), *pairs]:
        _add_pair(images, pair, findings)
    measured = [images[number] for number in learned]
    for kind, reasons in _outliers(measured).items():
        for number, reason in zip(learned, reasons, strict=True):
            if reason:
                findings[number].reasons[kind] = reason
    return findings


def _same_in_other_splits(images: Sequence[Audited], pairs: Sequence[Pair]) -> Iterator[Pair]:
    """Each of the images with the same pixels, paired with the first of them in every other split."""
    same: dict[int, set[int]] = {}
    for pair in pairs:
        if images[pair.first].measures.digest == images[pair.second].measures.digest:
            same.setdefault(pair.first, {pair.first}).add(pair.second)
    for group in same.values():
        first_of: dict[str, int] = {}
        for number in sorted(group):
            first_of.setdefault(images[number].split, number)
        for number, other in product(sorted(group), first_of.values()):
            if images[number].split != images[other].split:
                yield Pair(min(number, other), max(number, other), 0.0)


def order(images: Sequence[Audited], findings: Mapping[int, Finding]) -> list[int]:
    """Numbers of the images in the order to look at them: the most severe finding first, then the least alike."""

    def key(number: int) -> tuple[int, int, float, str]:
        kinds = [KINDS.index(kind) for kind in findings[number].reasons]
        unlike = images[number].unlike
        score = unlike.score if unlike else 0.0
        return min(kinds, default=len(KINDS)), -len(kinds), -score, images[number].image

    return sorted(findings, key=key)


def _add_pair(images: Sequence[Audited], pair: Pair, findings: Mapping[int, Finding]) -> None:
    """Note a pair with the image to take out: of train before validation, then the later one; inspected ones stay."""
    importance = {"train": 0, "validation": 1}
    numbers = sorted((pair.second, pair.first), key=lambda number: importance.get(images[number].split, 2))
    here, other = images[numbers[0]], images[numbers[1]]
    if here.split not in LEARNED:
        return
    finding = findings[numbers[0]]
    if finding.copy is None:
        finding.copy, finding.distance = other, pair.distance
    kind = "copy" if here.split == other.split else "leak"
    is_same = here.measures.digest == other.measures.digest
    what = "same pixels as" if is_same else f"near copy (distance {pair.distance:.2g}) of"
    leaks = f", which is in {other.split}" if kind == "leak" else ""
    finding.reasons.setdefault(kind, f"{what} {other.image}{leaks}")


def _outliers(images: Sequence[Audited]) -> dict[str, list[str | None]]:
    """Kind -> a reason per image, None for images that are as usual."""
    reasons: dict[str, list[str | None]] = {
        "size": _rare([f"{i.measures.width} x {i.measures.height} pixels" for i in images]),
        "mode": _rare([f"mode {i.measures.mode}" for i in images]),
    }
    if len(images) < FEWEST:
        return reasons
    return reasons | {
        "unlike": _unlike([image.unlike.score if image.unlike else 0.0 for image in images]),
        "exposure": _exposure([image.measures for image in images]),
        "blur": _blurred([image.measures.sharpness for image in images]),
        "size": [first or second for first, second in zip(reasons["size"], _sizes(images), strict=True)],
    }


def _unlike(scores: Sequence[float]) -> list[str | None]:
    values = np.array(scores)
    far = _far(values, LEAST_UNLIKE, upper_only=True)
    low, high = np.percentile(values[~far], (5, 95))
    return [
        f"unlike the others: {value:.2f}, most others {low:.2f} to {high:.2f}; look at the marked place"
        if is_far
        else None
        for value, is_far in zip(values, far, strict=True)
    ]


def _exposure(measures: Sequence[Measures]) -> list[str | None]:
    brightness = _far([m.brightness for m in measures], LEAST_BRIGHTNESS)
    dark = _far([m.dark for m in measures], LEAST_CLIPPED, upper_only=True)
    bright = _far([m.bright for m in measures], LEAST_CLIPPED, upper_only=True)
    usual = np.median([m.brightness for m in measures])
    reasons = []
    for n, m in enumerate(measures):
        parts = []
        if brightness[n]:
            word = "dark" if m.brightness < usual else "bright"
            parts.append(f"{word}: mean gray value {m.brightness:.0f}, median of all {usual:.0f}")
        if dark[n]:
            parts.append(f"{100 * m.dark:.1f} % of the pixels are black")
        if bright[n]:
            parts.append(f"{100 * m.bright:.1f} % of the pixels are white")
        reasons.append(", ".join(parts) or None)
    return reasons


def _blurred(sharpness: Sequence[float]) -> list[str | None]:
    values = np.array(sharpness)
    far = _far(values, LEAST_SHARPNESS) & (values < np.median(values))
    low, high = np.percentile(values[~far], (5, 95))
    return [
        f"blurred: sharpness {value:.2f}, most others {low:.2f} to {high:.2f}" if is_far else None
        for value, is_far in zip(values, far, strict=True)
    ]


def _sizes(images: Sequence[Audited]) -> list[str | None]:
    """Sizes far from the usual one, where images have many."""
    width, height = (np.array([getattr(i.measures, side) for i in images], float) for side in ("width", "height"))
    far = np.abs(robust_z(np.log(width * height))) > FAR
    far |= np.abs(robust_z(np.log(width / height))) > FAR
    common = Counter(zip(width, height, strict=True)).most_common(1)[0][1]
    if common >= MOST * len(images):
        return [None] * len(images)
    return [
        f"{w:.0f} x {h:.0f} pixels: far from the usual size or shape" if is_far else None
        for w, h, is_far in zip(width, height, far, strict=True)
    ]


def _far(values: Sequence[float] | np.ndarray, least: float, *, upper_only: bool = False) -> np.ndarray:
    """Which values are outliers and differ by at least `least` from the median."""
    values = np.asarray(values, float)
    away = values - np.median(values)
    z = robust_z(values)
    if not upper_only:
        away, z = np.abs(away), np.abs(z)
    return (z > FAR) & (away >= least)


def _rare(texts: Sequence[str]) -> list[str | None]:
    """A reason for each text that differs from what nearly all have."""
    common, count = Counter(texts).most_common(1)[0]
    if count < MOST * len(texts):
        return [None] * len(texts)
    of_all = f"{count} of {len(texts)} have {common.removeprefix('mode ')}"
    return [None if text == common else f"{text}; {of_all}" for text in texts]


def summary(images: Sequence[Audited], findings: Mapping[int, Finding], limit: int = 5) -> Iterator[str]:
    """Lines for the log: how many images have findings, and the first of them."""
    flagged = [number for number in order(images, findings) if findings[number].reasons]
    yield f"{len(flagged)} of {len(findings)} images to learn from have findings"
    for number in flagged[:limit]:
        yield f"  {images[number].image}: {in_words(findings[number])}"


def in_words(finding: Finding) -> str:
    """All reasons, the most severe first; empty without any."""
    by_severity: Callable[[str], int] = KINDS.index
    return "; ".join(finding.reasons[kind] for kind in sorted(finding.reasons, key=by_severity))
