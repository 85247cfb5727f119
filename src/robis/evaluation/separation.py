"""Whether image scores tell anomalous images from normal ones, and how sure that is given their number."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

RESAMPLES = 1000
SEED = 0
# Counts of resampled images that are in memory at a time.
_MOST_COUNTS = 10_000_000


@dataclass(frozen=True)
class Separation:
    """Image AUROC with its 95 % bootstrap interval.

    Attributes:
        auroc: mean over the parts, 0..1; 0.5 is chance.
        low, high: the interval.
        normal, anomalous: images in all parts.
        fewest: images of the smaller class in the smallest part.
        by_part: AUROC of each part.
    """

    auroc: float
    low: float
    high: float
    normal: int
    anomalous: int
    fewest: int
    by_part: tuple[float, ...]


def separation(parts: Sequence[tuple[np.ndarray, np.ndarray]]) -> Separation:
    """How well scores separate, over one or several parts (categories and splits).

    The interval is the stratified percentile bootstrap: normal and anomalous images of every part are drawn with
    replacement, each class as often as it has images, and the mean of the parts' AUROC is computed; the interval
    holds 95 % of the results. The draws are seeded. With fewer than about ten images of a class it is too narrow.

    Args:
        parts: scores of normal and of anomalous images, float (N,) and (A,), none empty; at least one part.
    """
    rng = np.random.default_rng(SEED)
    means = np.mean([resampled_aurocs(normal, anomalous, rng, RESAMPLES) for normal, anomalous in parts], axis=0)
    by_part = tuple(auroc_of(normal, anomalous) for normal, anomalous in parts)
    low, high = np.quantile(means, [0.025, 0.975]).tolist()
    return Separation(
        float(np.mean(by_part)),
        low,
        high,
        normal=sum(len(normal) for normal, _ in parts),
        anomalous=sum(len(anomalous) for _, anomalous in parts),
        fewest=min(min(len(normal), len(anomalous)) for normal, anomalous in parts),
        by_part=by_part,
    )


def auroc_of(normal: np.ndarray, anomalous: np.ndarray) -> float:
    """Probability that an anomalous image scores above a normal one, ties counted half (Mann-Whitney U / (N A))."""
    once = np.ones((1, len(normal)), np.int64), np.ones((1, len(anomalous)), np.int64)
    return float(_weighted_aurocs(np.sort(normal), anomalous, *once)[0])


def resampled_aurocs(normal: np.ndarray, anomalous: np.ndarray, rng: np.random.Generator, times: int) -> np.ndarray:
    """AUROC (times,) of images drawn with replacement, each class by itself, as often as it has images."""
    ordered = np.sort(normal)
    step = max(1, _MOST_COUNTS // (len(normal) + len(anomalous)))
    parts = []
    for first in range(0, times, step):
        size = min(step, times - first)
        # How often each image is drawn.
        drawn = [rng.multinomial(len(each), np.full(len(each), 1 / len(each)), size) for each in (ordered, anomalous)]
        parts.append(_weighted_aurocs(ordered, anomalous, *drawn))
    return np.concatenate(parts)


def _weighted_aurocs(
    ordered: np.ndarray, anomalous: np.ndarray, normal_counts: np.ndarray, anomalous_counts: np.ndarray
) -> np.ndarray:
    """AUROC (R,) of ascending normal and of anomalous scores, each counted (R, N) and (R, A) times."""
    below = np.pad(np.cumsum(normal_counts, axis=1), ((0, 0), (1, 0)))
    left, right = (np.searchsorted(ordered, anomalous, side=side) for side in ("left", "right"))
    # Twice the number of normal images below an anomalous one, ties counted half.
    wins = (below[:, left] + below[:, right]) * anomalous_counts
    return wins.sum(axis=1) / (2.0 * len(ordered) * len(anomalous))
