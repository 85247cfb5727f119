"""Image scores, and a submission that refuses what the server would."""

from __future__ import annotations

import tarfile
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
import tifffile
from PIL import Image

from robis.datasets.table import IndexedSample, write_samples
from robis.errors import DataError
from robis.files import write_map, write_mask
from robis.image_scores import image_score, score_images
from robis.submission import Part, pack


def test_image_score_by_hand() -> None:
    values = np.arange(1000, dtype=np.float16).reshape(20, 50)
    assert image_score(values, 0.0) == 999
    assert image_score(values, 0.01) == np.mean(range(990, 1000))
    assert image_score(values, 1.0) == pytest.approx(499.5)
    assert image_score(np.array([[7]], np.float16), 0.01) == 7


SCALES = {"can/test_private": 0.25}


@pytest.fixture
def part(tmp_path: Path) -> Part:
    samples = [IndexedSample(f"{n:03}_regular", "test_private", "x.png", None, None, None, 40, 60) for n in range(2)]
    table = tmp_path / "samples" / "can" / "test_private.parquet"
    table.parent.mkdir(parents=True)
    write_samples(table, samples)
    for n, sample in enumerate(samples):
        write_map(tmp_path / "maps" / f"{sample.sample_id}.tiff", np.full((10, 15), n, np.float16))
        (tmp_path / "masks").mkdir(exist_ok=True)
        write_mask(tmp_path / "masks" / f"{sample.sample_id}.png", np.eye(10, 15) * n > 0)
    return Part.of_files(str(table), str(tmp_path / "maps"), str(tmp_path / "masks"))


def test_scores_table(part: Part, tmp_path: Path) -> None:
    score_images(part.samples, part.maps, part.masks, tmp_path / "scores.parquet", top_share=0.0)
    table = pd.read_parquet(tmp_path / "scores.parquet")
    assert table.to_dict("list") == {
        "sample_id": ["000_regular", "001_regular"],
        "score": [0.0, 1.0],
        "rescored": [0.0, 1.0],
        "is_anomalous": [False, True],
    }


def test_archive_holds_exactly_what_the_server_wants(part: Part, tmp_path: Path) -> None:
    archive = tmp_path / "submission.tar.gz"
    pack([part], archive, scales=SCALES)
    with tarfile.open(archive) as tar:
        assert tar.getnames() == [
            "anomaly_images/can/test_private/000_regular.tiff",
            "anomaly_images/can/test_private/001_regular.tiff",
            "anomaly_images_thresholded/can/test_private/000_regular.png",
            "anomaly_images_thresholded/can/test_private/001_regular.png",
        ]
        tar.extractall(tmp_path / "out", filter="data")
    found = tifffile.imread(tmp_path / "out" / "anomaly_images/can/test_private/001_regular.tiff")
    assert found.dtype == np.float16
    assert (found == 1).all()
    first = archive.read_bytes()
    pack([part], archive, scales=SCALES, threads=2)
    assert archive.read_bytes() == first


@pytest.mark.parametrize(
    ("name", "content", "message"),
    [
        ("maps/000_regular.tiff", None, r"000_regular\.tiff: not a readable TIFF"),
        (
            "maps/000_regular.tiff",
            np.zeros((10, 15), np.float32),
            r"tiff: float32 of shape \(10, 15\); expected float16",
        ),
        ("maps/000_regular.tiff", np.full((10, 15), np.nan, np.float16), r"tiff: holds values that are not finite"),
        ("maps/000_regular.tiff", np.zeros((40, 60), np.float16), r"60 x 40 pixels; expected 15 x 10 pixels"),
        ("masks/001_regular.png", None, r"001_regular\.png: not a readable PNG"),
        ("masks/001_regular.png", np.zeros((10, 15, 3), np.uint8), r"png: mode RGB; expected one 8-bit channel"),
        ("masks/001_regular.png", np.ones((10, 15), np.uint8), r"png: holds the value 1; expected 0 and 255"),
        ("masks/001_regular.png", np.zeros((10, 16), np.uint8), r"16 x 10 pixels; expected 15 x 10 pixels"),
    ],
)
def test_damage_is_refused_by_name(part: Part, tmp_path: Path, name: str, content, message: str) -> None:
    file = tmp_path / name
    file.unlink()
    if content is not None and file.suffix == ".tiff":
        tifffile.imwrite(file, content)
    elif content is not None:
        Image.fromarray(content).save(file)
    with pytest.raises(DataError, match=message):
        pack([part], tmp_path / "submission.tar.gz", scales=SCALES)
    assert not list(tmp_path.glob("*submission*"))


def test_no_private_split_is_an_error(tmp_path: Path) -> None:
    with pytest.raises(DataError, match=r"Add test_private to dataset\.splits"):
        pack([], tmp_path / "submission.tar.gz", scales=SCALES)
