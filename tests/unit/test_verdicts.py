"""Limits from held-out images, who is judged anomalous by them, and how sure the numbers are."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest
from scipy import stats
from sklearn.metrics import roc_auc_score

from robis.errors import DataError
from robis.evaluation.separation import auroc_of, resampled_aurocs, separation
from robis.io.arrays import atomic_array
from robis.io.images import read_mask
from robis.io.maps import read_map, write_map, write_mask
from robis.io.samples import IndexedSample, write_samples
from robis.io.tables import write_table
from robis.refinement.methods import Refining
from robis.refinement.stage import refine_split
from robis.report.verdicts import Marked
from robis.scoring.judge import HeldOut, Judging, judge_split
from robis.scoring.limits import Limit, chance_of, in_words, limit_of
from robis.tiles.files import TileMaps
from robis.tiles.merge import merge_split

SCORES = [3.0, 1.0, 2.0, 5.0, 4.0, 0.0, 9.0, 7.0, 8.0, 6.0]


@pytest.mark.parametrize(
    ("allowed", "value", "above"), [(0.0, 9.0, 0), (0.05, 9.0, 0), (0.1, 8.0, 1), (0.3, 6.0, 3), (0.5, 4.0, 5)]
)
def test_the_limit_leaves_the_allowed_fraction_above_it(allowed: float, value: float, above: int) -> None:
    assert limit_of(SCORES, allowed) == Limit(value, 10, above)


def test_a_single_image_and_equal_scores_give_a_limit() -> None:
    assert limit_of([2.5]) == limit_of([2.5], 0.5) == Limit(2.5, 1, 0)
    assert limit_of([1.0, 1.0, 1.0, 0.0], 0.5) == Limit(1.0, 4, 0), "none is above a limit that three share"


def test_limits_in_words() -> None:
    assert in_words(Limit(9.0, 30, 0)) == "the highest of 30 good images"
    assert in_words(Limit(9.0, 30, 2)) == "28 of 30 good images"
    assert in_words(Limit(9.0, 1, 0)) == "the only held-out good image"


def test_chance_by_hand() -> None:
    # 2 of 2 images above both held-out ones: one of the 6 ways to order two of each.
    assert chance_of(2, 2, Limit(0.0, 2, 0)) == pytest.approx(1 / 6)
    # A single image above the highest of 30: one of 31 places.
    assert chance_of(1, 1, Limit(0.0, 30, 0)) == pytest.approx(1 / 31)
    assert chance_of(1, 1, Limit(0.0, 30, 2)) == pytest.approx(3 / 31)
    assert chance_of(0, 5, Limit(0.0, 30, 2)) == 1.0


@pytest.mark.parametrize(("flagged", "images", "held_out", "above"), [(12, 40, 30, 0), (12, 40, 30, 3), (3, 25, 7, 1)])
def test_chance_is_the_negative_hypergeometric_one(flagged: int, images: int, held_out: int, above: int) -> None:
    expected = stats.nhypergeom.sf(flagged - 1, images + held_out, images, above + 1)
    assert chance_of(flagged, images, Limit(0.0, held_out, above)) == pytest.approx(expected, rel=1e-9)


def test_auroc_with_ties_is_that_of_scikit_learn(rng: np.random.Generator) -> None:
    normal, anomalous = rng.integers(0, 9, 37).astype(float), rng.integers(3, 12, 23).astype(float)
    labels = [0] * 37 + [1] * 23
    assert auroc_of(normal, anomalous) == pytest.approx(roc_auc_score(labels, [*normal, *anomalous]))
    assert auroc_of(np.array([1.0, 2.0]), np.array([2.0])) == 0.75, "above one, level with the other"


def test_the_interval_is_the_percentile_bootstrap(rng: np.random.Generator) -> None:
    """Of SciPy, within the spread of their draws."""
    normal, anomalous = rng.normal(size=30), rng.normal(1.0, size=40)

    def auroc(some: np.ndarray, others: np.ndarray, axis: int = -1) -> np.ndarray:
        return (others[..., None, :] > some[..., :, None]).mean((-1, -2))

    expected = stats.bootstrap((normal, anomalous), auroc, n_resamples=4000, method="percentile", rng=1)
    measured = separation([(normal, anomalous)])
    assert measured.auroc == pytest.approx(float(auroc(normal, anomalous)))
    assert (measured.low, measured.high) == pytest.approx(tuple(expected.confidence_interval), abs=0.015)
    assert separation([(normal, anomalous)]) == measured, "seeded"


def test_all_draws_of_a_tiny_example_are_there() -> None:
    """Two normal images (0, 2) and one anomalous (1): 2, 1 or none of the draws of the normal ones lie below."""
    drawn = resampled_aurocs(np.array([2.0, 0.0]), np.array([1.0]), np.random.default_rng(0), 4000)
    values, counts = np.unique(drawn, return_counts=True)
    assert values.tolist() == [0.0, 0.5, 1.0]
    assert counts / 4000 == pytest.approx([0.25, 0.5, 0.25], abs=0.03)


def test_several_categories_are_averaged_each_by_itself() -> None:
    """One that separates and one that is turned around: 0.5 for certain, although the pooled scores separate."""
    apart = (np.array([0.0, 1.0]), np.array([2.0, 3.0]))
    turned = (np.array([102.0, 103.0]), np.array([100.0, 101.0]))
    measured = separation([apart, turned])
    assert (measured.auroc, measured.low, measured.high) == (0.5, 0.5, 0.5)
    assert measured.by_part == (1.0, 0.0)
    assert (measured.normal, measured.anomalous, measured.fewest) == (4, 4, 2)


def write_split(folder: Path, split: str, levels: list[float]) -> tuple[Path, TileMaps]:
    """Images of one tile of 4 x 4 pixels, whose raw map is flat but for one pixel."""
    maps = TileMaps(folder / f"{split}.npy", folder / f"{split}_tiles.parquet")
    names = [f"{split}{n}" for n in range(len(levels))]
    with atomic_array(maps.maps, np.float32, (len(levels), 4, 4)) as values:
        values[:] = 1.0
        values[:, 1, 2] = levels
    place = {"row": 0, "col": 0, "x": 0, "y": 0, "width": 4, "height": 4}
    tiles = {"tile": range(len(levels)), "sample_id": names, **place, "score": np.array(levels) / 10}
    write_table(maps.table, pd.DataFrame(tiles))
    samples = [IndexedSample(name, split, f"{name}.png", None, None, None, 4, 4) for name in names]
    write_samples(folder / f"{split}_samples.parquet", samples)
    return folder / f"{split}_samples.parquet", maps


@pytest.fixture
def judged(tmp_path: Path):
    """Judge images with raw maxima of 3, 6 and 11 by held-out ones with 5 and 6."""
    samples, maps = write_split(tmp_path, "test", [3.0, 6.0, 11.0])
    held_out_samples, held_out_maps = write_split(tmp_path, "validation", [5.0, 6.0])

    def run(range_maps: Path | None = maps.maps, **options: Any) -> tuple[dict[str, list], dict[str, list]]:
        merge_split(samples, maps, range_maps, tmp_path / "maps", scale=1.0, blend="mean")
        held_out = HeldOut(held_out_samples, held_out_maps, range_maps, tmp_path / "held_out.parquet")
        values = {"top_fraction": 0.0, "allowed_false_alarms": 0.0, "scale": 1.0, "blend": "mean"} | options
        places = (samples, tmp_path / "maps", maps.table, held_out, tmp_path / "verdicts.parquet")
        judge_split(*places, Judging(**values))
        return tuple(pd.read_parquet(tmp_path / f"{name}.parquet").to_dict("list") for name in ("verdicts", "held_out"))

    return run


def test_without_a_range_scores_are_raw_values(judged) -> None:
    verdicts, held_out = judged(None)
    assert held_out["score"] == [5.0, 6.0] and verdicts["score"] == [3.0, 6.0, 11.0]
    assert verdicts["is_anomalous"] == [False, False, True]


def test_held_out_images_are_scored_on_the_scale_of_the_split(judged, tmp_path: Path) -> None:
    """Its range is 1 to 11, so that 5 and 6 become 102 and 127.5; a score as high as the limit is not above it."""
    verdicts, held_out = judged()
    assert held_out == {"sample_id": ["validation0", "validation1"], "score": [102.0, 127.5]}
    assert verdicts["score"] == [51.0, 127.5, 255.0]
    assert read_map(tmp_path / "maps" / "test1.tiff").max() == 127.5
    assert verdicts["limit"] == [127.5] * 3
    assert verdicts["margin"] == [-76.5, 0.0, 127.5]
    assert verdicts["is_anomalous"] == [False, False, True]
    assert (verdicts["held_out"], verdicts["held_out_above"]) == ([2] * 3, [0] * 3)
    verdicts, _ = judged(allowed_false_alarms=0.5)
    assert verdicts["is_anomalous"] == [False, True, True]
    assert verdicts["held_out_above"] == [1] * 3


def test_scores_of_the_detector_itself_are_compared_as_they_are(judged) -> None:
    verdicts, held_out = judged(top_fraction="own")
    assert held_out["score"] == [0.5, 0.6]
    assert verdicts["score"] == pytest.approx([0.3, 0.6, 1.1])
    assert verdicts["is_anomalous"] == [False, False, True]


def test_without_held_out_images_there_is_no_limit(judged, tmp_path: Path) -> None:
    write_samples(tmp_path / "validation_samples.parquet", [])
    with pytest.raises(DataError, match="no images; expected at least one normal image to take the limit from"):
        judged()


def test_masks_of_images_judged_normal_are_emptied_on_request(judged, tmp_path: Path) -> None:
    judged()
    for name in ("test0", "test1", "test2"):
        write_mask(tmp_path / "coarse" / f"{name}.png", np.eye(4, dtype=bool))
    places = (tmp_path / "test_samples.parquet", tmp_path, tmp_path / "coarse", tmp_path / "final")
    for verdicts, marked in ((None, [True] * 3), (tmp_path / "verdicts.parquet", [False, False, True])):
        refine_split(*places, Refining("none"), verdicts=verdicts)
        masks = [read_mask(tmp_path / "final" / f"test{n}.png") for n in range(3)]
        assert [bool(mask.any()) for mask in masks] == marked


def test_what_a_mask_marks_by_hand(tmp_path: Path) -> None:
    """A speck and a block of 2 x 3 pixels in a mask of 10 x 20, of an image of 25 x 40."""
    mask = np.zeros((10, 20), bool)
    mask[0, 0] = mask[4:6, 7:10] = True
    values = np.zeros((10, 20), np.float16)
    values[0, 0], values[5, 9], values[9, 19] = 200, 90, 250
    write_map(tmp_path / "map.tiff", values)
    marked = Marked.of(mask, 25, 40, lambda: read_map(tmp_path / "map.tiff"))
    assert marked == Marked(area=7 / 200, regions=2, boxes=((14, 10, 6, 5), (0, 0, 2, 3)), peak=90.0)
    assert Marked.of(mask & False, 25, 40, lambda: values) == Marked(0.0, 0)


def test_a_box_covers_every_pixel_that_a_mask_of_another_size_touches() -> None:
    """Mask pixels 1 and 2 of 3 span 3.33 to 10 of 10 image pixels."""
    mask = np.array([[False, True, True]])
    assert Marked.of(mask, 7, 10).box == (3, 0, 7, 7)
