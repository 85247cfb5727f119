"""Thresholds that promise a rate of flagged good images: the order statistic, its coverage, and what says so."""

from __future__ import annotations

import shutil
from pathlib import Path

import cv2
import numpy as np
import pandas as pd
import pytest
from scipy.stats import binom

from robis.binarization.maps import binarize
from robis.binarization.promise import (
    Promise,
    images_needed,
    kept_threshold,
    lowest_rate,
    promises_in_words,
    rank_of,
    read_promise,
    too_few,
)
from robis.binarization.stage import Calibration, Thresholding
from robis.binarization.statistics import MapStatistics
from robis.detectors.settings import parse
from robis.errors import ConfigError, DataError, RobisError
from robis.report.quality import Judged, statement
from robis.workflow.checks import check_plan
from robis.workflow.project import Project
from tests.unit.test_binarization import run, write_maps
from tests.unit.test_stages import root  # noqa: F401

PLAIN = Thresholding("rate", erosion_size=1, rate=0.5, confidence=0.5)


def test_the_order_statistic_worked_by_hand() -> None:
    # 0.99^299 = 0.04954 and 0.99^298 = 0.05004; 0.95^59 = 0.04849 and 0.95^58 = 0.05105.
    assert (rank_of(299, 0.01, 0.95), rank_of(298, 0.01, 0.95)) == (299, None)
    assert (rank_of(59, 0.05, 0.95), rank_of(58, 0.05, 0.95)) == (59, None)
    # P(Bin(3, 1/2) <= 1) = (1 + 3) / 8, exactly the confidence.
    assert (rank_of(3, 0.5, 0.5), rank_of(3, 0.5, 0.51)) == (2, 3)
    assert rank_of(0, 0.5, 0.5) is None


@pytest.mark.parametrize("rate", [0.01, 0.05, 0.1, 0.37, 0.5])
@pytest.mark.parametrize("confidence", [0.5, 0.8, 0.95, 0.999])
def test_the_order_statistic_is_that_of_the_binomial_distribution(rate: float, confidence: float) -> None:
    for images in [*range(1, 120), 299, 473, 2000, 100_000]:
        ranks = np.arange(1, images + 1)
        holds = binom.cdf(ranks - 1, images, 1 - rate) >= confidence - 1e-12
        expected = int(ranks[holds][0]) if holds.any() else None
        assert rank_of(images, rate, confidence) == expected, images


@pytest.mark.parametrize(("rate", "confidence", "images"), [(0.01, 0.95, 299), (0.05, 0.95, 59), (0.5, 0.75, 2)])
def test_the_number_of_images_that_a_promise_needs(rate: float, confidence: float, images: int) -> None:
    assert images_needed(rate, confidence) == images
    assert rank_of(images, rate, confidence) == images
    assert rank_of(images - 1, rate, confidence) is None


def test_the_lowest_rate_of_a_number_of_images_works_and_a_lower_one_does_not() -> None:
    assert lowest_rate(24, 0.95) == 0.118  # 1 - 0.05^(1/24) = 0.1173
    for images in (1, 2, 24, 59, 60, 298, 5000):
        rate = lowest_rate(images, 0.95)
        assert rank_of(images, rate, 0.95) == images
        assert rank_of(images, rate * 0.98, 0.95) is None
    assert too_few(24, 0.05, 0.95) == (
        "0.05 with binarize.confidence 0.95 needs 59 held-out normal images; found 24, enough for a rate of 0.118 or "
        "more"
    )
    assert too_few(3, 0.05, 0.95).endswith("found 3, too few for any rate")  # 1 - 0.05^(1/3) = 0.63


@pytest.mark.parametrize(("images", "rate", "confidence"), [(59, 0.05, 0.95), (100, 0.1, 0.9), (40, 0.3, 0.8)])
def test_the_promise_holds_as_often_as_it_says(images: int, rate: float, confidence: float) -> None:
    """2,000 draws of held-out images with uniform peaks, of which 1 - threshold lie above a threshold."""
    peaks = np.random.default_rng(images).random((2000, images))
    shares = 1 - np.array([kept_threshold(drawn, rate, confidence)[0] for drawn in peaks])
    coverage = float(np.mean(shares <= rate))
    exact = binom.cdf((rank_of(images, rate, confidence) or 0) - 1, images, 1 - rate)
    noise = 4 * np.sqrt(exact * (1 - exact) / 2000)
    assert exact >= confidence
    assert confidence - noise < coverage < exact + noise


def test_the_promise_holds_for_equal_peaks() -> None:
    """Peaks 0..9, equally probable: (9 - threshold) / 10 of the images lie above a threshold."""
    peaks = np.random.default_rng(0).integers(0, 10, (2000, 30))
    kept = [kept_threshold(drawn, 0.2, 0.9) for drawn in peaks]
    shares = (9 - np.array([threshold for threshold, _ in kept])) / 10
    assert np.mean(shares <= 0.2 + 1e-9) >= 0.9
    for drawn, (threshold, promise) in zip(peaks[:50], kept, strict=False):
        assert promise.masked == np.count_nonzero(drawn > threshold) <= 30 - (rank_of(30, 0.2, 0.9) or 0)


@pytest.mark.parametrize("size", [1, 2, 3, 6])
def test_a_peak_is_the_lowest_threshold_that_empties_the_mask(size: int, rng: np.random.Generator) -> None:
    """Every value of the map is tried as a threshold of the mask, which is eroded after it."""
    for shape in [(1, 1), (5, 7), (12, 9), (3, 30)]:
        values = (rng.integers(0, 40, shape) / 8).astype(np.float16)
        block = np.ones((size, size), np.uint8)
        levels = [0.0, *np.unique(values).tolist()]
        empty = [level for level in levels if not cv2.erode((values > level).astype(np.uint8), block).any()]
        assert MapStatistics.of_maps([values], erosion_size=size).peaks.tolist() == [min(empty)]


def test_masks_of_held_out_images_are_empty_but_for_those_allowed(rng: np.random.Generator) -> None:
    maps = [cv2.GaussianBlur(rng.random((40, 30)).astype(np.float32) * 99, (0, 0), 2) for _ in range(50)]
    for size in (1, 2, 6):
        options = Thresholding("rate", erosion_size=size, rate=0.2, confidence=0.9)
        masks = binarize(maps, options, maps)
        assert sum(bool(coarse.mask.any()) for coarse in masks) == 50 - (rank_of(50, 0.2, 0.9) or 0) == 5


def test_the_stage_writes_the_promise_beside_the_masks(tmp_path: Path) -> None:
    """Three held-out maps with peaks 3, 5 and 9; the second is the threshold, and what equals it is normal."""
    held_out = write_maps(tmp_path / "validation", {str(peak): np.diag([0, peak]) for peak in (3, 9, 5)})
    maps = write_maps(tmp_path / "maps", {"equal": np.diag([5, 1]), "above": np.diag([5, 5.5])})
    rows, masks = run(tmp_path, maps, held_out, method="rate", erosion_size=1, rate=0.5, confidence=0.5)
    assert rows["threshold"].tolist() == [5, 5]
    assert {name: mask.tolist() for name, mask in masks.items()} == {
        "above": [[0, 0], [0, 255]],
        "equal": [[0, 0], [0, 0]],
    }
    promise = Promise(0.5, 0.5, images=3, masked=1)
    assert read_promise(tmp_path / "out" / "thresholds.parquet") == promise
    words = (
        "at most 50 % of good images get a mask, with 50 % confidence (3 held-out good images, 1 of them with a mask)"
    )
    assert promise.in_words() == words
    assert promises_in_words([("a/test", promise), ("b/test", None), ("c/test", promise)]) == [
        f"Promise for a/test, c/test: {words}."
    ]


def test_other_methods_promise_nothing(tmp_path: Path) -> None:
    maps = write_maps(tmp_path / "maps", {"a": np.diag([1, 2]), "b": np.diag([3, 4])})
    run(tmp_path, maps, method="percentile")
    assert read_promise(tmp_path / "out" / "thresholds.parquet") is None
    earlier = tmp_path / "earlier.parquet"
    pd.DataFrame({"sample_id": ["a"], "threshold": [1.0]}).to_parquet(earlier)
    assert read_promise(earlier) is None, "written before there were promises"


def test_too_few_maps_and_none_are_refused() -> None:
    maps = [np.eye(3) * peak for peak in range(1, 6)]
    with pytest.raises(DataError, match=r"binarize\.rate: 0\.01 with binarize\.confidence 0\.95 needs 299 .* found 5"):
        binarize(maps, Thresholding("rate", erosion_size=1), maps)
    with pytest.raises(
        DataError, match="reference: found None; method 'rate' takes its threshold from maps of held-out"
    ):
        binarize(maps, PLAIN)


def test_a_calibration_survives_the_manifest_of_a_pack() -> None:
    from pydantic import TypeAdapter

    statistics = MapStatistics.of_maps([np.full((2, 2), peak, np.float16) for peak in (0.1, 0.2, 0.3)])
    calibration = Calibration.of(statistics, PLAIN)
    adapter = TypeAdapter(Calibration)
    assert adapter.validate_json(adapter.dump_json(calibration)) == calibration
    assert calibration.rate == float(np.float16(0.2))


def planned(root: Path, tmp_path: Path, binarize: dict, **values: dict) -> Project:  # noqa: F811
    dataset = {"root": str(root)} | values.pop("dataset", {})
    base = {"dataset": dataset, "refine": {"method": "none"}, "rescore": {"method": "none"}}
    return Project(parse(base | {"binarize": {"method": "rate"} | binarize} | values), tmp_path / "results")


def test_a_promise_takes_its_maps_from_held_out_images(root: Path, tmp_path: Path) -> None:  # noqa: F811
    enough = planned(root, tmp_path, {"rate": 0.5, "confidence": 0.6})
    check_plan(enough)
    job = {"detector": "inp_former", "category": "nut", "split": "test_public"}
    assert enough.reference_split("binarize.calibrate", **job) == "validation"
    assert enough.reference_split("merge.normalize", **job) == "validation"
    shutil.rmtree(root / "nut" / "validation")
    held_out = planned(root, tmp_path, {"rate": 0.5, "confidence": 0.5})
    assert held_out.hold_out("nut") and not held_out.hold_out("bolt")
    check_plan(held_out)
    other = Project(parse({"dataset": {"root": str(root)}}), tmp_path / "results")
    assert other.effective(**job).binarize.calibrate == "split"


def test_too_few_held_out_images_are_told_while_planning(root: Path, tmp_path: Path) -> None:  # noqa: F811
    with pytest.raises(ConfigError) as refused:
        check_plan(planned(root, tmp_path, {"rate": 0.2, "confidence": 0.6}))
    # 0.8^5 = 0.328 <= 0.4 < 0.8^4 = 0.41; 1 - 0.4^(1/2) = 0.3675
    needs = (
        "0.2 with binarize.confidence 0.6 needs 5 held-out normal images; found 2, enough for a rate of 0.368 or more"
    )
    assert str(refused.value).splitlines() == [
        "binarize.rate: too few held-out normal images:",
        f"  bolt: {needs}",
        f"  nut: {needs}",
        "Set a rate that the images allow, or add normal images.",
    ]


def test_a_number_to_hold_out_is_proposed_where_it_suffices(root: Path, tmp_path: Path) -> None:  # noqa: F811
    for category in ("nut", "bolt"):
        for number in range(2, 12):
            source = root / category / "train" / "good" / "0.png"
            (source.parent / f"{number}.png").write_bytes(source.read_bytes() + bytes([number]))
    binarize = {"rate": 0.2, "confidence": 0.6}
    with pytest.raises(ConfigError, match=r"dataset\.hold_out_every: 2 holds out enough training images\.$"):
        check_plan(planned(root, tmp_path, binarize))
    check_plan(planned(root, tmp_path, binarize, dataset={"hold_out_every": 2}))


@pytest.mark.parametrize(
    ("values", "message"),
    [
        ({"binarize": {"calibrate": "split"}}, r"binarize\.calibrate: found 'split'; binarize\.method: rate takes its"),
        ({"detectors": ["musc"]}, r"binarize\.method: found 'rate'; musc compares the images of a split"),
        ({"binarize": {"rate": 4}}, r"binarize\.rate: .*The step in gray levels is binarize\.threshold_step"),
    ],
)
def test_what_cannot_be_promised_is_refused(root: Path, tmp_path: Path, values: dict, message: str) -> None:  # noqa: F811
    with pytest.raises(RobisError, match=message):
        check_plan(planned(root, tmp_path, values.pop("binarize", {}), **values))


def test_the_report_names_the_promise() -> None:
    promise = Promise(0.05, 0.95, images=60, masked=0)
    part = Judged("nut/test", ["judged normal"], [None], np.zeros(1), None, promise=promise)
    assert statement("superadd", [part]).details[-1] == (
        "Promise for nut/test: at most 5 % of good images get a mask, with 95 % confidence (60 held-out good images, 0 "
        "of them with a mask)."
    )
