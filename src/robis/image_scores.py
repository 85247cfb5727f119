"""One anomaly score per image, from its map."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pandas as pd

from robis.datasets.table import read_samples
from robis.files import read_map, read_mask, threaded, write_table


def image_score(anomaly_map: np.ndarray, top_share: float) -> float:
    """Mean of the highest `top_share` of the pixels of a map (H, W), at least one; 0 gives the maximum.

    INP-Former's code takes 0.01, MuSc the maximum, SuperADD 0.001.
    """
    values = anomaly_map.ravel().astype(np.float64)
    count = max(1, int(values.size * top_share))
    return float(np.partition(values, values.size - count)[-count:].mean())


def score_images(samples: Path, maps: Path, masks: Path, table: Path, *, top_share: float, threads: int = 1) -> None:
    """Write `sample_id, score, rescored, is_anomalous` for every image of a split.

    `rescored` equals `score` unless a re-scoring method is configured; an image is anomalous when its
    final mask has a pixel.
    """

    def row(sample_id: str) -> tuple[str, float, float, bool]:
        score = image_score(read_map(maps / f"{sample_id}.tiff"), top_share)
        return sample_id, score, score, bool(read_mask(masks / f"{sample_id}.png").any())

    rows = list(threaded(row, [sample.sample_id for sample in read_samples(samples)], threads))
    write_table(table, pd.DataFrame(rows, columns=["sample_id", "score", "rescored", "is_anomalous"]))
