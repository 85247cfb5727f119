"""The stage: which images of a split are judged anomalous, by a limit from held-out normal images."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pandas as pd

from robis.errors import DataError
from robis.io.samples import IndexedSample, read_samples
from robis.io.tables import write_table
from robis.io.threads import threaded
from robis.scoring.image_scores import detector_scores, image_score, plain_scores
from robis.scoring.limits import limit_of
from robis.tiles.files import TileMaps
from robis.tiles.merge import map_maker, scaling_of


@dataclass(frozen=True)
class HeldOut:
    """Normal images that no model has seen.

    Attributes:
        samples: their sample table.
        maps: raw maps of their tiles.
        range_maps: raw maps whose range became 0..255 in the maps of the split that is judged; None: none did.
        scores: table that is written: `sample_id, score`.
        range_table: the tile table of `range_maps`, see `scaling_of`.
    """

    samples: Path
    maps: TileMaps
    range_maps: Path | None
    scores: Path
    range_table: Path | None = None


@dataclass(frozen=True)
class Judging:
    """How images are judged.

    Attributes:
        top_fraction: see `Scoring`.
        allowed_false_alarms: see `limit_of`.
        scale, blend: how the judged split's maps were merged, see `merge_tiles`.
    """

    top_fraction: float | str
    allowed_false_alarms: float
    scale: float
    blend: str


def judge_split(
    samples: Path,
    maps: Path,
    tiles: Path,
    held_out: HeldOut,
    verdicts: Path,
    options: Judging,
    *,
    threads: int = 1,
) -> None:
    """Judge every image of a split by its score, and write the scores of the held-out images too.

    Both are scores before re-scoring, which depends on the other images of a split, and on one scale: the maps of the
    held-out images are merged like those of the split, and brought to the same range.

    Args:
        samples: the sample table.
        maps: folder of anomaly maps.
        tiles: the table of the tile maps.
        held_out: the normal images that the limit is taken from.
        verdicts: table that is written, a row per image: `sample_id, score, limit, margin` (score - limit),
            `is_anomalous` (the margin is above 0), `held_out` and `held_out_above` (the number of held-out images, and
            of those that score above the limit).
        options: how.
        threads: images read at a time.

    Raises:
        DataError: a file is damaged, the detector gives no score of its own, or a score is not finite.
    """
    images = read_samples(samples)
    names = [image.sample_id for image in images]
    scores = np.array(plain_scores(images, maps, tiles, options.top_fraction, threads=threads), np.float64)
    references = _held_out_scores(held_out, options, threads)
    limit = limit_of(references["score"].tolist(), options.allowed_false_alarms)
    columns = {
        "sample_id": names,
        "score": scores,
        "limit": limit.value,
        "margin": scores - limit.value,
        "is_anomalous": scores > limit.value,
        "held_out": limit.images,
        "held_out_above": limit.above,
    }
    write_table(held_out.scores, references)
    write_table(verdicts, pd.DataFrame(columns))


def _held_out_scores(held_out: HeldOut, options: Judging, threads: int) -> pd.DataFrame:
    images = read_samples(held_out.samples)
    if not images:
        raise DataError(f"{held_out.samples}: no images; expected at least one normal image to take the limit from.")
    names = [image.sample_id for image in images]
    if isinstance(options.top_fraction, str):
        scores = detector_scores(held_out.maps.table, names)
    else:
        fraction = options.top_fraction
        scaling = scaling_of(held_out.range_maps, held_out.range_table)
        anomaly_map = map_maker(images, held_out.maps, scaling, scale=options.scale, blend=options.blend)

        def score(image: IndexedSample) -> float:
            merged = anomaly_map(image)
            return image_score(merged, fraction, image.ignored_at(merged.shape))

        scores = list(threaded(score, images, threads))
    return pd.DataFrame({"sample_id": names, "score": scores})
