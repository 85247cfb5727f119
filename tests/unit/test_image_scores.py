"""Image scores from maps, from the detector itself, and re-scored."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest

from robis.errors import DataError
from robis.io.maps import write_map, write_mask
from robis.io.samples import IndexedSample, write_samples
from robis.io.tables import write_table
from robis.scoring.image_scores import Scoring, image_score, score_images
from robis.scoring.rscin import rscin

NAMES = ["bad/000", "good/000", "good/001"]


def test_image_score_by_hand() -> None:
    values = np.arange(1000, dtype=np.float16).reshape(20, 50)
    assert image_score(values, 0.0) == 999
    assert image_score(values, 0.01) == np.mean(range(990, 1000))
    assert image_score(values, 1.0) == pytest.approx(499.5)
    assert image_score(np.array([[7]], np.float16), 0.01) == 7


@pytest.fixture
def scored(tmp_path: Path):
    samples = [IndexedSample(name, "test", "x.png", None, None, None, 40, 60) for name in NAMES]
    write_samples(tmp_path / "samples.parquet", samples)
    for n, name in enumerate(NAMES):
        write_map(tmp_path / "maps" / f"{name}.tiff", np.full((10, 15), n, np.float16))
        (tmp_path / "masks" / name).parent.mkdir(parents=True, exist_ok=True)
        write_mask(tmp_path / "masks" / f"{name}.png", np.eye(10, 15) * n > 0)
    tiles = pd.DataFrame({"sample_id": [*NAMES, NAMES[0]], "score": [0.1, 0.2, 0.3, 0.7]})
    write_table(tmp_path / "tiles.parquet", tiles)

    def run(embeddings: Path | None = None, **options: Any) -> dict[str, list]:
        score_images(
            *(tmp_path / name for name in ("samples.parquet", "maps", "masks", "tiles.parquet", "scores.parquet")),
            Scoring(**({"top_fraction": 0.0, "method": "none"} | options)),
            embeddings=embeddings,
        )
        return pd.read_parquet(tmp_path / "scores.parquet").to_dict("list")

    return run


def test_scores_of_the_maps(scored) -> None:
    assert scored() == {
        "sample_id": NAMES,
        "score": [0.0, 1.0, 2.0],
        "rescored": [0.0, 1.0, 2.0],
        "is_anomalous": [False, True, True],
    }


def test_own_scores_are_the_highest_of_the_tiles(scored, tmp_path: Path) -> None:
    assert scored(top_fraction="own")["score"] == [0.7, 0.2, 0.3]
    write_table(tmp_path / "tiles.parquet", pd.DataFrame({"sample_id": NAMES[:2], "score": [0.0, 0.0]}))
    with pytest.raises(
        DataError, match=r"tiles\.parquet: 1 images have no tile, such as good/001\. .*--forcerun infer"
    ):
        scored(top_fraction="own")
    write_table(tmp_path / "tiles.parquet", pd.DataFrame({"sample_id": NAMES}))
    with pytest.raises(DataError, match=r"no column 'score'.*Set score_images\.top_fraction"):
        scored(top_fraction="own")


def test_rescored_by_embeddings_of_a_file(scored, tmp_path: Path) -> None:
    embeddings = np.random.default_rng(0).random((3, 8))
    np.save(tmp_path / "embeddings.npy", embeddings)
    found = scored(method="rscin", neighborhood_sizes=[1, 2], embeddings=tmp_path / "embeddings.npy")
    assert found["rescored"] == rscin(np.array([0.0, 1.0, 2.0]), embeddings, [1, 2]).tolist() != found["score"]
    np.save(tmp_path / "embeddings.npy", embeddings[:2])
    with pytest.raises(DataError, match=r"embeddings\.npy"):
        scored(method="rscin", neighborhood_sizes=[1, 2], embeddings=tmp_path / "embeddings.npy")
