"""How well clusters agree with known kinds: purity and mutual information, beside what no skill would reach."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

# Random assignments that the values by chance are the mean of.
SHUFFLES = 100


@dataclass(frozen=True)
class Agreement:
    """Clusters of R items beside their kinds.

    Attributes:
        items: R.
        kinds: number of kinds.
        purity: fraction of items that are of the most frequent kind of their cluster (Manning, Raghavan and Schütze,
            Introduction to Information Retrieval, section 16.3), 0 to 1; more clusters make it larger.
        nmi: mutual information divided by the mean of the two entropies (same place), 0 to 1.
        largest_kind: purity of a single cluster, the fraction of items of the most frequent kind.
        purity_by_chance, nmi_by_chance: means where items are assigned at random to clusters of the same sizes.
    """

    items: int
    kinds: int
    purity: float
    nmi: float
    largest_kind: float
    purity_by_chance: float
    nmi_by_chance: float


def agreement(clusters: Sequence[int], kinds: Sequence[str]) -> Agreement | None:
    """Compare the cluster of each item with its kind; None with less than two kinds, which tell nothing apart."""
    _, columns = np.unique(np.asarray(kinds, str), return_inverse=True)
    _, rows = np.unique(np.asarray(clusters, np.int64), return_inverse=True)
    if not len(columns) or not columns.any():
        return None
    table = _counts(rows, columns)
    # From the sizes alone, so that the order of the items does not matter.
    items_of, kinds_of = (np.repeat(np.arange(len(sizes)), sizes) for sizes in (table.sum(1), table.sum(0)))
    random = np.random.default_rng(0)
    by_chance = [_counts(items_of, random.permutation(kinds_of)) for _ in range(SHUFFLES)]
    return Agreement(
        items=len(columns),
        kinds=table.shape[1],
        purity=purity(table),
        nmi=normalized_mutual_information(table),
        largest_kind=float(table.sum(0).max() / table.sum()),
        purity_by_chance=float(np.mean([purity(counts) for counts in by_chance])),
        nmi_by_chance=float(np.mean([normalized_mutual_information(counts) for counts in by_chance])),
    )


def _counts(rows: np.ndarray, columns: np.ndarray) -> np.ndarray:
    """Number of items per cluster and kind, int64 (K, D)."""
    counts = np.zeros((rows.max() + 1, columns.max() + 1), np.int64)
    np.add.at(counts, (rows, columns), 1)
    return counts


def purity(counts: np.ndarray) -> float:
    """Purity of clusters (K) of kinds (D), given the number of items of each, (K, D)."""
    return float(counts.max(1).sum() / counts.sum())


def normalized_mutual_information(counts: np.ndarray) -> float:
    """Mutual information of clusters (K) and kinds (D) over the mean of their entropies, given counts (K, D)."""
    joint = counts / counts.sum()
    clusters, kinds = joint.sum(1, keepdims=True), joint.sum(0, keepdims=True)
    filled = joint > 0
    information = float((joint[filled] * np.log((joint / (clusters * kinds))[filled])).sum())
    mean = (_entropy(clusters) + _entropy(kinds)) / 2
    return max(0.0, information / mean) if mean > 0 else 1.0


def _entropy(shares: np.ndarray) -> float:
    return float(-(shares[shares > 0] * np.log(shares[shares > 0])).sum())
