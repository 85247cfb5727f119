"""One anomaly score per image, and its re-scored value."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import numpy as np
import pandas as pd

from robis.errors import DataError, first_few
from robis.io.images import read_mask
from robis.io.maps import read_map
from robis.io.samples import read_samples
from robis.io.tables import read_table, write_table
from robis.io.threads import threaded
from robis.scoring.rscin import read_embeddings, rscin


def image_score(anomaly_map: np.ndarray, top_fraction: float) -> float:
    """Mean of the highest `top_fraction` of the pixels of a map (H, W), at least one; 0 gives the maximum.

    INP-Former's code takes 0.01, SuperADD 0.001.
    """
    values = anomaly_map.ravel().astype(np.float64)
    count = max(1, int(values.size * top_fraction))
    return float(np.partition(values, values.size - count)[-count:].mean())


def score_images(
    samples: Path,
    maps: Path,
    masks: Path,
    tiles: Path,
    table: Path,
    *,
    top_fraction: float | str,
    method: str,
    neighborhood_sizes: Sequence[int] = (),
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
        top_fraction: share of the highest map pixels, or "own": the highest of the own scores of an image's tiles.
        method: "rscin" re-scores over images whose embeddings are similar; "none" leaves `rescored` equal to `score`.
        neighborhood_sizes: sizes of the neighborhoods (rscin).
        embeddings: file of the image embeddings (rscin).
        threads: images read at a time.

    Raises:
        DataError: the detector gives no score of its own, or embeddings do not fit the images.
    """
    names = [sample.sample_id for sample in read_samples(samples)]
    anomalous = list(threaded(lambda name: bool(read_mask(masks / f"{name}.png").any()), names, threads))
    if isinstance(top_fraction, str):
        scores = _own_scores(tiles, names)
    else:
        scores = list(
            threaded(lambda name: image_score(read_map(maps / f"{name}.tiff"), float(top_fraction)), names, threads)
        )
    rescored = scores
    if method == "rscin" and embeddings is not None:
        rescored = rscin(np.array(scores), read_embeddings(embeddings, names), neighborhood_sizes).tolist()
    columns = {"sample_id": names, "score": scores, "rescored": rescored, "is_anomalous": anomalous}
    write_table(table, pd.DataFrame(columns))


def _own_scores(tiles: Path, names: Sequence[str]) -> list[float]:
    rows = read_table(tiles)
    if "score" not in rows:
        raise DataError(
            f"{tiles}: no column 'score'; this detector gives none. Set score_images.top_fraction to a share."
        )
    highest = rows.groupby("sample_id")["score"].max()
    missing = [name for name in names if name not in highest.index]
    if missing:
        raise DataError(
            f"{tiles}: {len(missing)} images have no tile; run `infer` again. Missing:\n{first_few(missing)}"
        )
    return [float(highest[name]) for name in names]
