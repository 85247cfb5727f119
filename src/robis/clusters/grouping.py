"""Clusters of embeddings, the same whatever the order of the rows and the number of threads."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np
from scipy.cluster.hierarchy import cut_tree, linkage
from scipy.spatial.distance import pdist, squareform

# Largest number of embeddings whose pairwise distances are computed, 36 MB; the others join the nearest center.
MOST_COMPARED = 3000
# Largest number of clusters that is tried.
MOST_CLUSTERS = 12
# With a smaller mean silhouette, all embeddings are one cluster.
LEAST_SILHOUETTE = 0.05
# Directions that differ by less are equal: float16 tokens have 11 bits.
ROUNDING = 1e-3
ROWS_AT_ONCE = 1024


@dataclass(frozen=True, eq=False)
class Clusters:
    """Clusters of R embeddings, numbered from 1, the largest first.

    Attributes:
        labels: int64 (R,), the cluster of each embedding.
        distances: float64 (R,), Euclidean, of the direction of each embedding to the mean direction of its cluster,
            0 to 2.
        silhouette: mean silhouette over the embeddings that were compared; None with less than two clusters.
    """

    labels: np.ndarray
    distances: np.ndarray
    silhouette: float | None

    @property
    def count(self) -> int:
        """Number of clusters."""
        return int(self.labels.max(initial=0))


def cluster(embeddings: np.ndarray, count: int | None = None) -> Clusters:
    """Cluster embeddings by their directions from the mean one, with Ward's linkage.

    The mean direction is what all regions of a product have in common; it hides in what they differ. Ward's clusters
    are of even sizes; average linkage splits off single regions instead.

    Args:
        embeddings: finite float (R, W).
        count: number of clusters, fewer where there are fewer different embeddings; None: the one from 1 to
            `MOST_CLUSTERS` with the highest mean silhouette.
    """
    if not len(embeddings):
        return Clusters(np.zeros(0, np.int64), np.zeros(0), None)
    order = _order(embeddings)
    directions = _directions(embeddings[order])
    compared = np.unique(np.linspace(0, len(order) - 1, min(len(order), MOST_COMPARED)).round().astype(np.int64))
    labels, silhouette = _linked(directions[compared], count)
    centers = _centers(directions[compared], labels)
    if len(compared) < len(order):
        labels = np.argmin(_distances(directions, centers), axis=1)
        centers = _centers(directions, labels)
    distances = _distances(directions, centers)[np.arange(len(order)), labels]
    back = np.argsort(order, kind="stable")
    return Clusters(_by_size(labels)[back], distances[back], silhouette)


def _order(embeddings: np.ndarray) -> np.ndarray:
    """The places (R,) of the rows of embeddings (R, W) in an order that depends on their bytes alone."""
    # Adding 0 turns -0.0 into 0.0.
    rows = np.ascontiguousarray(embeddings.astype(np.float32) + np.float32(0))
    return np.argsort(rows.view(f"V{rows.itemsize * rows.shape[1]}").ravel(), kind="stable")


def _directions(embeddings: np.ndarray) -> np.ndarray:
    """Unit vectors (R, W), float32, of the embeddings' directions from the mean direction; 0 for what equals it."""
    directions = _unit(embeddings.astype(np.float32), 0.0)
    return _unit(directions - directions.mean(0, dtype=np.float64).astype(np.float32), ROUNDING)


def _unit(vectors: np.ndarray, least: float) -> np.ndarray:
    """Vectors (R, W) divided by their lengths; 0 for those not longer than `least`."""
    lengths = np.sqrt(np.square(vectors).sum(1, keepdims=True))
    return np.divide(vectors, lengths, out=np.zeros_like(vectors), where=lengths > least)


def _linked(directions: np.ndarray, count: int | None) -> tuple[np.ndarray, float | None]:
    """Labels (N,) from 0 of directions (N, W), and their mean silhouette; None for a single cluster."""
    different = len(np.unique(directions, axis=0))
    alone = np.zeros(len(directions), np.int64)
    if different < 2 or count == 1:
        return alone, None
    # No BLAS: its sums depend on the number of threads.
    distances = pdist(directions)
    tree = linkage(distances, "ward")
    square = squareform(distances)
    most = min(MOST_CLUSTERS, different, len(directions) - 1)
    counts = range(2, most + 1) if count is None else [min(count, different)]
    tried = [(labels, mean_silhouette(square, labels)) for labels in _cuts(tree, counts)]
    labels, silhouette = max(tried, key=lambda pair: round(pair[1], 9), default=(alone, 0.0))
    if count is None and silhouette < LEAST_SILHOUETTE:
        return alone, None
    return labels, silhouette


def _cuts(tree: np.ndarray, counts: range | list[int]) -> Iterator[np.ndarray]:
    """Labels (N,) from 0 for each of some numbers of clusters."""
    if len(counts):
        yield from cut_tree(tree, list(counts)).T


def mean_silhouette(distances: np.ndarray, labels: np.ndarray) -> float:
    """Mean silhouette (Rousseeuw 1987) of at least two clusters, -1 to 1; a cluster of one counts as 0.

    Args:
        distances: (N, N), symmetric.
        labels: (N,), 0 to the number of clusters without a gap.
    """
    by_label = np.argsort(labels, kind="stable")
    sizes = np.bincount(labels)
    starts = np.cumsum(sizes) - sizes
    sums = np.add.reduceat(distances[:, by_label], starts, axis=1)
    rows = np.arange(len(labels))
    within = sums[rows, labels] / np.maximum(sizes[labels] - 1, 1)
    means = sums / sizes
    means[rows, labels] = np.inf
    nearest = means.min(1)
    longer = np.maximum(within, nearest)
    values = np.divide(nearest - within, longer, out=np.zeros_like(longer), where=longer > 0)
    return float(np.where(sizes[labels] > 1, values, 0.0).mean())


def _centers(directions: np.ndarray, labels: np.ndarray) -> np.ndarray:
    """Mean direction (K, W), float32, of each cluster."""
    means = [directions[labels == label].mean(0, dtype=np.float64) for label in range(labels.max() + 1)]
    return np.stack(means).astype(np.float32)


def _distances(directions: np.ndarray, centers: np.ndarray) -> np.ndarray:
    """Euclidean distances (R, K) of directions (R, W) to centers (K, W)."""
    distances = np.empty((len(directions), len(centers)))
    for start in range(0, len(directions), ROWS_AT_ONCE):
        rows = slice(start, start + ROWS_AT_ONCE)
        for label, center in enumerate(centers):
            distances[rows, label] = np.sqrt(np.square(directions[rows] - center).sum(1))
    return distances


def _by_size(labels: np.ndarray) -> np.ndarray:
    """Labels from 1, the largest cluster first, of the same size the one with the first member."""
    present, firsts, sizes = np.unique(labels, return_index=True, return_counts=True)
    ranks = np.empty(int(present.max()) + 1, np.int64)
    ranks[present[np.lexsort((firsts, -sizes))]] = np.arange(1, len(present) + 1)
    renumbered: np.ndarray = ranks[labels]
    return renumbered
