"""One anomaly score per image, and its re-scored value."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from robis.arrays.float16 import FINITE_VALUES, finite_values, histogram
from robis.errors import DataError
from robis.io.damage import damaged
from robis.io.maps import read_map, read_written_mask
from robis.io.samples import IndexedSample, read_samples
from robis.io.tables import make_table, read_table, write_table
from robis.io.threads import threaded
from robis.scoring.rscin import read_embeddings, rscin
from robis.tiles.ignored import contributing_rows

# Pixels from which on values are counted instead of sorted, which takes a fiftieth of the memory.
LARGE_PIXELS = 2**20


def image_score(anomaly_map: np.ndarray, top_fraction: float, ignored: np.ndarray | None = None) -> float:
    """Mean of the highest `top_fraction` of the pixels of a map (H, W), at least one; 0 gives the maximum.

    INP-Former's code uses 0.01, SuperADD 0.001. Ignored pixels, bool (H, W), are none of them.
    """
    if anomaly_map.size >= LARGE_PIXELS and anomaly_map.dtype == np.float16:
        bits = np.ascontiguousarray(anomaly_map).view(np.uint16)
        if bits.max() < FINITE_VALUES:
            return _score_of_counts(histogram(bits, ignored), top_fraction)
    kept = anomaly_map.ravel() if ignored is None else anomaly_map[~ignored]
    values = kept.astype(np.float64)
    count = max(1, int(values.size * top_fraction))
    return float(np.partition(values, values.size - count)[-count:].mean())


def _score_of_counts(counts: np.ndarray, top_fraction: float) -> float:
    """The same from the number of pixels per float16 value: sums of these are exact in float64."""
    count = max(1, int(counts.sum() * top_fraction))
    taken = np.diff(np.minimum(np.cumsum(counts[::-1]), count), prepend=0)
    return float(np.dot(taken, finite_values()[::-1].astype(np.float64)) / count)


@dataclass(frozen=True)
class Scoring:
    """How images are scored.

    Attributes:
        top_fraction: fraction of the highest map pixels that are averaged, see `image_score`; or "own": the highest of
            the scores that the detector gives the tiles of an image.
        method: "rscin" re-scores over images whose embeddings are similar; "none" leaves `rescored` equal to `score`.
        neighborhood_sizes: sizes of the neighborhoods, see `rscin`.
    """

    top_fraction: float | str
    method: str
    neighborhood_sizes: Sequence[int] = ()


def score_images(
    samples: Path,
    maps: Path,
    masks: Path,
    tiles: Path,
    table: Path,
    options: Scoring,
    *,
    embeddings: Path | None = None,
    threads: int = 1,
) -> None:
    """Write `sample_id, score, rescored, is_anomalous` for every image of a split.

    An image is anomalous when its final mask has a pixel.

    Args:
        samples: the sample table.
        maps, masks: folders of anomaly maps and final masks.
        tiles: the table of the tile maps, with the detector's own `score` of each tile where it gives one.
        table: what is written.
        options: how.
        embeddings: file of the image embeddings (rscin).
        threads: images read at a time.

    Raises:
        DataError: a file is damaged, the detector gives no score of its own, a score is not finite, or the embeddings
            do not fit the images.
    """
    images = read_samples(samples)
    names = [image.sample_id for image in images]
    anomalous = list(threaded(lambda name: _has_defect(masks / f"{name}.png"), names, threads))
    scores = plain_scores(images, maps, tiles, options.top_fraction, threads=threads)
    rescored = scores
    if options.method == "rscin" and embeddings is not None:
        # Either some run's table of tile maps, or a file of the user's.
        made_by = "infer" if embeddings.parent.parent.name == tiles.parent.parent.name else None
        vectors = read_embeddings(embeddings, names, stage=made_by)
        rescored = rscin(np.array(scores), vectors, options.neighborhood_sizes).tolist()
    columns = {"sample_id": names, "score": scores, "rescored": rescored, "is_anomalous": anomalous}
    write_table(table, make_table(columns))


def plain_scores(
    images: Sequence[IndexedSample], maps: Path, tiles: Path, top_fraction: float | str, *, threads: int = 1
) -> list[float]:
    """The score of each image before re-scoring; see `score_images` for the arguments and errors."""
    if isinstance(top_fraction, str):
        return detector_scores(tiles, [image.sample_id for image in images])
    return list(threaded(lambda image: _map_score(image, maps, top_fraction), images, threads))


def _has_defect(mask: Path) -> bool:
    return bool(read_written_mask(mask, stage="refine").any())


def _map_score(image: IndexedSample, maps: Path, top_fraction: float) -> float:
    file = maps / f"{image.sample_id}.tiff"
    anomaly_map = read_map(file)
    score = image_score(anomaly_map, top_fraction, image.ignored_at(anomaly_map.shape))
    if not np.isfinite(score):
        raise damaged(file, f"its score is {score}, since it holds NaN or infinite values", "merge")
    return score


def detector_scores(tiles: Path, names: Sequence[str]) -> list[float]:
    """The highest of the scores that the detector gives the tiles of each image. Raises DataError."""
    rows = read_table(tiles, stage="infer", columns={"sample_id": "text"})
    rows = rows[contributing_rows(rows)]
    if "score" not in rows:
        raise DataError(
            f"{tiles}: no column 'score'; this detector gives none. Set score_images.top_fraction to a number."
        )
    highest = rows.groupby("sample_id")["score"].max()
    missing = [name for name in names if name not in highest.index]
    if missing:
        problem = f"{len(missing)} images have no tile, such as {missing[0]}"
        raise damaged(tiles, problem, "infer")
    scores = [float(highest[name]) for name in names]
    if not np.isfinite(scores).all():
        broken = names[int(np.argmin(np.isfinite(scores)))]
        raise damaged(tiles, f"the score of {broken} is not a finite number", "infer")
    return scores
