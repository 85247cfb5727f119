"""Binarization: MEBin against a plain written-out version, statistics against NumPy, the stage on files."""

from __future__ import annotations

import itertools
import warnings
from pathlib import Path
from typing import Any

import cv2
import numba
import numpy as np
import pandas as pd
import pytest
import tifffile
from scipy.ndimage import binary_closing, binary_fill_holes, gaussian_filter
from skimage.measure import label

from robis.binarization import mebin
from robis.binarization.closing import close_and_fill
from robis.binarization.mebin import estimate
from robis.binarization.stage import METHODS, SplitMaps, Thresholding, binarize_split
from robis.binarization.statistics import MapStatistics
from robis.errors import ConfigError, DataError
from robis.io.samples import IndexedSample, write_samples

KERNEL = np.ones((6, 6), np.uint8)
SHAPES = [(1, 1), (3, 7), (5, 5), (6, 6), (1, 40), (31, 47), (64, 64), (80, 61)]


def blobs(rng: np.random.Generator, shape: tuple[int, int], sigma: float, top: float) -> np.ndarray:
    noise = gaussian_filter(rng.normal(size=shape), sigma)
    spread = np.ptp(noise)
    return ((noise - noise.min()) / (spread if spread else 1) * top).astype(np.float16)


def split_of_maps(seed: int) -> list[np.ndarray]:
    """40 maps of mixed kinds and sizes; the smallest of their maxima differs from split to split."""
    rng = np.random.default_rng(seed)
    lowest = [0.0, 3.0, 40.0, 77.3, 120.0][seed % 5]
    maps = []
    for index in range(40):
        shape = SHAPES[rng.integers(len(SHAPES))]
        top = rng.uniform(lowest, 255)
        kind = index % 8
        if kind < 3:
            amap = blobs(rng, shape, rng.uniform(1, 8), top)
        elif kind == 3:  # few values, so that thresholds fall on many equal pixels
            amap = np.round(blobs(rng, shape, 3, 5)) * np.float16(top / 5)
        elif kind == 4:  # flat
            amap = np.full(shape, top, np.float16)
        elif kind == 5:  # rough: the number of regions changes at every threshold
            amap = cv2.dilate((rng.random((64, 64)) * top).astype(np.float32), KERNEL).astype(np.float16)
        elif kind == 6:  # a few separate bumps of different height on a zero background
            amap = np.zeros((70, 90), np.float16)
            for row, column in rng.integers(8, 60, size=(4, 2)):
                amap[row : row + 12, column : column + 12] = rng.uniform(0.3, 1) * top
        else:
            amap = np.zeros(shape, np.float16)
        if amap.max() < lowest:
            amap[0, 0] = lowest
        maps.append(amap)
    maps[0] = np.minimum(maps[0], np.float16(lowest))
    return maps


def plain_mebin(
    amap: np.ndarray, low: np.float16, high: np.float16, threshold_step: int, min_interval: int
) -> tuple[int, int, list[int], np.ndarray]:
    """Spec section 5, word by word: threshold, defects, counts, mask."""
    counts = []
    if high > low:
        scaled = ((amap - low) / (high - low)) * 255
        assert scaled.dtype == np.float16
        scaled[amap < low] = 0
    else:
        scaled = np.zeros_like(amap)
    levels = list(range(255, 0, -threshold_step))
    for level in levels:
        binary = cv2.erode((scaled > level).astype(np.uint8) * 255, KERNEL, iterations=1)
        counts.append(cv2.connectedComponents(binary, connectivity=8)[0] - 1)
    runs = []  # (count, length, index of the last threshold), in the order met
    position = 0
    for count, group in itertools.groupby(counts):
        length = len(list(group))
        position += length
        if count != 0 and length >= min_interval:
            runs.append((count, length, position - 1))
    if not runs:
        return 255, 0, counts, np.zeros(amap.shape, np.uint8)
    most = max(length for _, length, _ in runs)
    order_met = list(dict.fromkeys(count for count, _, _ in runs))
    winner = next(c for c in order_met if any(run[0] == c and run[1] == most for run in runs))
    last = [run for run in runs if run[0] == winner and run[1] == most][-1][2]
    threshold = int(levels[last] * (high - low) / 255 + low)
    return threshold, winner, counts, cv2.erode((amap > threshold).astype(np.uint8) * 255, KERNEL)


def our_counts(amap: np.ndarray, low: np.float16, high: np.float16, threshold_step: int) -> list[int]:
    levels = mebin.eroded(mebin.level_table(low, high, threshold_step)[amap.view(np.uint16)], 6)
    return mebin.component_counts(levels, len(mebin.thresholds(threshold_step))).tolist()


def write_maps(folder: Path, maps: dict[str, np.ndarray]) -> Path:
    for sample_id, amap in maps.items():
        path = folder / f"{sample_id}.tiff"
        path.parent.mkdir(parents=True, exist_ok=True)
        # Not by `write_map`, which refuses values that are not finite.
        tifffile.imwrite(path, np.asarray(amap, np.float16))
    return folder


FOLDERS = ("maps", "calibration")


def with_samples(table: Path, maps: Path) -> SplitMaps:
    """The maps of a folder with a sample table that lists them."""
    ids = sorted(path.relative_to(maps).with_suffix("").as_posix() for path in maps.rglob("*.tiff"))
    samples = table.with_name(f"{table.name}_{maps.name}.parquet")
    write_samples(samples, [IndexedSample(name, "test", f"{name}.png", None, None, None, 8, 8) for name in ids])
    return SplitMaps(samples, maps)


def run(
    tmp_path: Path, maps: Path, calibration: Path | None = None, name: str = "out", **options: Any
) -> tuple[pd.DataFrame, dict[str, np.ndarray]]:
    masks, table = tmp_path / name / "masks", tmp_path / name / "thresholds.parquet"
    threads = options.pop("threads", 1)
    split, reference = (with_samples(tmp_path / name, folder) for folder in (maps, calibration or maps))
    binarize_split(split, reference, masks, table, Thresholding(**options), threads=threads)
    rows = pd.read_parquet(table)
    images = {
        path.relative_to(masks).with_suffix("").as_posix(): np.asarray(cv2.imread(str(path), cv2.IMREAD_UNCHANGED))
        for path in masks.rglob("*.png")
    }
    return rows, images


@pytest.mark.parametrize(
    ("seed", "threshold_step", "min_interval"), [*((s, 4, 4) for s in range(5)), (5, 1, 9), (6, 7, 2)]
)
def test_mebin_is_bit_identical_with_the_plain_procedure(
    tmp_path: Path, seed: int, threshold_step: int, min_interval: int
) -> None:
    maps = split_of_maps(seed)
    high, low = max(m.max() for m in maps), min(m.max() for m in maps)
    folder = write_maps(tmp_path / "maps", {f"{i:03d}": amap for i, amap in enumerate(maps)})
    rows, masks = run(tmp_path, folder, method="mebin", threshold_step=threshold_step, min_interval=min_interval)
    found = []
    for index, amap in enumerate(maps):
        threshold, defects, counts, mask = plain_mebin(amap, low, high, threshold_step, min_interval)
        row = rows.iloc[index]
        assert our_counts(amap, low, high, threshold_step) == counts, index
        assert (row.sample_id, row.threshold, row.mebin, row.defects) == (
            f"{index:03d}",
            threshold,
            threshold,
            defects,
        )
        np.testing.assert_array_equal(masks[row.sample_id], mask)
        found.append(defects)
    assert 0 in found and 1 in found and max(found) > 1


@pytest.mark.parametrize(
    ("counts", "expected"),  # count, first and last index
    [
        ([0] * 10, None),
        ([1, 1, 1, 2, 2, 2, 3, 3, 3], None),  # all runs too short
        ([0, 0, 1, 1, 1, 1, 2], (1, 2, 5)),
        ([2, 2, 2, 2, 1, 1, 1, 1, 1], (1, 4, 8)),  # the longer run
        ([3, 3, 3, 3, 0, 1, 1, 1, 1], (3, 0, 3)),  # counts tie: the one met first
        ([5] * 4 + [2] * 6 + [5] * 6, (5, 10, 15)),  # 5 was met first and reaches the same length later
        ([1] * 4 + [2] + [1] * 5 + [0] + [1] * 5, (1, 11, 15)),  # one count: longest run, last on ties
        ([1] * 6 + [2] + [1] * 5, (1, 0, 5)),
        ([7] * 4, (7, 0, 3)),
    ],
)
def test_stable_interval_worked_by_hand(counts: list[int], expected: tuple[int, int, int] | None) -> None:
    interval = mebin.stable_interval(counts, 4)
    assert (interval and (interval.count, interval.first, interval.last)) == expected


def test_threshold_is_rounded_to_float16_at_each_step_and_then_down() -> None:
    # 179 * 252 = 45108 -> 45120 (steps of 32); / 255 = 176.94 -> 177 (steps of 1/8); + 3 = 180.
    # In float64 it would be 179.89, rounded down to 179.
    assert mebin.map_threshold(179, np.float16(3), np.float16(255)) == 180
    assert mebin.map_threshold(255, np.float16(3), np.float16(254.5)) == 254


def test_threshold_of_maps_beyond_255_does_not_overflow() -> None:
    # 243 * 990 does not fit float16; 243 * 990 / 255 + 10 = 953.4...
    assert mebin.map_threshold(243, np.float16(10), np.float16(1000)) == 953


@pytest.mark.parametrize("shape", [(1, 1), (1, 30), (30, 1), (2, 2), (17, 23), (48, 40)])
@pytest.mark.parametrize("depth", [1, 3, 64, 255])
def test_component_counts_agree_with_scikit_image(shape: tuple[int, int], depth: int) -> None:
    rng = np.random.default_rng(depth)
    for sigma in (0, 1, 2.5):
        image = gaussian_filter(rng.random(shape), sigma)
        levels = np.round((image - image.min()) / (np.ptp(image) or 1) * depth).astype(np.uint8)
        expected = [label(levels >= depth - k, connectivity=2).max() for k in range(depth)]
        assert mebin.component_counts(levels, depth).tolist() == expected
        assert mebin.labeled_counts(levels, depth).tolist() == expected


def test_works_without_a_folder_to_cache_compiled_code_in(monkeypatch: pytest.MonkeyPatch) -> None:
    real = numba.njit

    def refuse_cache(cache: bool = False, **options: Any) -> Any:
        if cache:
            raise RuntimeError("cannot cache function: no locator available")
        return real(**options)

    monkeypatch.setattr(numba, "njit", refuse_cache)
    mebin._compiled.cache_clear()
    try:
        levels = np.array([[2, 0, 1], [0, 0, 1], [2, 1, 1]], np.uint8)
        # Highest threshold: two single pixels; next: the ring of ones joins the lower one only.
        assert mebin.component_counts(levels, 2).tolist() == [2, 2]
    finally:
        mebin._compiled.cache_clear()


def test_a_split_of_one_maximum_has_no_mebin_defect_and_no_warning() -> None:
    amap = blobs(np.random.default_rng(0), (40, 40), 4, 200)
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        found = estimate(amap, amap.max(), amap.max())
        flat = estimate(np.full((9, 9), 7, np.float16), np.float16(7), np.float16(7))
        beyond = estimate(np.full((9, 9), 60000, np.float16), np.float16(0.5), np.float16(1))
    assert (found.threshold, found.defects, found.stable_first, found.stable_last) == (255, 0, None, None)
    assert (flat.threshold, flat.defects) == (255, 0)
    assert (beyond.defects, beyond.stable_first, beyond.stable_last) == (1, 255, 3)


def test_no_stable_interval_gives_an_empty_mask_for_maps_beyond_255(tmp_path: Path) -> None:
    amap = np.zeros((20, 20), np.float16)
    amap[5:15, 5:15] = 900
    rows, masks = run(tmp_path, write_maps(tmp_path / "maps", {"a": amap}), method="mebin")
    assert rows.threshold[0] == 900 and rows.defects[0] == 0
    assert rows.stable_first.isna()[0] and rows.stable_last.isna()[0]
    assert masks["a"].max() == 0


def some_maps(count: int = 6) -> list[np.ndarray]:
    rng = np.random.default_rng(3)
    return [blobs(rng, (30 + i, 25), 2, 30 + 40 * i) for i in range(count)]


def test_statistics_agree_with_numpy_on_all_pixels_together(tmp_path: Path) -> None:
    maps = [*some_maps(), np.full((4, 4), 900, np.float16), np.full((2, 2), -0.0, np.float16)]
    paths = sorted(write_maps(tmp_path, {str(i): m for i, m in enumerate(maps)}).rglob("*.tiff"))
    pixels = np.concatenate([m.ravel() for m in maps]).astype(np.float64)
    for threads in (1, 2):
        statistics = MapStatistics.of(paths, threads)
        mean, std = statistics.mean_std()
        assert mean.dtype == std.dtype == np.float32
        assert (mean, std) == (np.float32(pixels.mean()), np.float32(pixels.std()))
        for percent in (0, 0.1, 5, 33.3, 50, 77.7, 95, 99.99, 100):
            assert statistics.percentile(percent) == np.percentile(pixels, percent)
        assert statistics.highest_max == 900 and statistics.lowest_max == 0
        assert statistics.pixels.sum() == pixels.size


def test_statistics_of_a_flat_set_are_exact(tmp_path: Path) -> None:
    write_maps(tmp_path, {"a": np.full((33, 31), 0.1, np.float16), "b": np.full((7, 3), 0.1, np.float16)})
    statistics = MapStatistics.of(tmp_path.glob("*.tiff"))
    assert statistics.mean_std() == (np.float32(np.float16(0.1)), 0)
    assert statistics.percentile(95) == np.float16(0.1)


def test_mean_std_takes_its_threshold_from_the_calibration_folder(tmp_path: Path) -> None:
    calibration = np.zeros((10, 10), np.float16)
    calibration[:5] = 10  # mean 5, std 5: t = 5 + 3 * 5 = 20
    big = np.zeros((40, 30), np.float16)
    big[10:20, 10:20] = 25
    big[25:35, 10:20] = 20  # not above 20
    maps = write_maps(tmp_path / "maps", {"bad/001": big, "000": np.full((12, 9), 20, np.float16)})
    validation = write_maps(tmp_path / "validation", {"v": calibration})
    before = {path: path.read_bytes() for path in tmp_path.rglob("*.tiff")}
    rows, masks = run(tmp_path, maps, validation, method="mean_std")

    assert list(rows.columns) == [
        "sample_id",
        "method",
        "threshold",
        "mean_std",
        "mebin",
        "defects",
        "stable_first",
        "stable_last",
        "area",
        "promised_rate",
        "promised_confidence",
        "held_out",
        "held_out_masked",
    ]
    assert rows.sample_id.tolist() == ["000", "bad/001"] and set(rows.method) == {"mean_std"}
    assert rows.threshold.tolist() == rows.mean_std.tolist() == [20, 20]
    assert rows[["mebin", "stable_first", "stable_last"]].isna().all(axis=None)
    # A 6 x 6 window with OpenCV's anchor reaches 3 pixels back and 2 ahead: 13..17 stay of 10..19.
    expected = np.zeros((40, 30), np.uint8)
    expected[13:18, 13:18] = 255
    assert masks["bad/001"].dtype == np.uint8
    np.testing.assert_array_equal(masks["bad/001"], expected)
    np.testing.assert_array_equal(masks["000"], np.zeros((12, 9)))
    assert rows.defects.tolist() == [0, 1] and rows.area.tolist() == [0, 25 / 1200]
    assert before == {path: path.read_bytes() for path in tmp_path.rglob("*.tiff")}

    itself, _ = run(tmp_path, maps, name="itself", method="mean_std", std_factor=1.0)
    pixels = np.concatenate([big.ravel(), np.full(108, 20)]).astype(np.float64)
    assert itself.threshold[0] == pytest.approx(pixels.mean() + pixels.std(), rel=1e-6)


def test_thresholds_between_float16_values_are_compared_in_float32(tmp_path: Path) -> None:
    amap = np.full((4, 4), 2050, np.float16)
    amap[:2] = 2052  # mean 2051, which float16 would round to 2052
    rows, masks = run(
        tmp_path, write_maps(tmp_path / "maps", {"a": amap}), method="mean_std", std_factor=0.0, erosion_size=1
    )
    assert rows.threshold[0] == 2051
    np.testing.assert_array_equal(masks["a"], np.where(amap == 2052, 255, 0))


def test_percentile_does_not_erode(tmp_path: Path) -> None:
    calibration = np.arange(1, 102, dtype=np.float16)[None]  # its 95th percentile is 96
    amap = np.zeros((8, 8), np.float16)
    amap[2, 3] = 137
    amap[6, 6] = 136
    maps = write_maps(tmp_path / "maps", {"a": amap})
    rows, masks = run(tmp_path, maps, write_maps(tmp_path / "val", {"v": calibration}), method="percentile")
    assert rows.threshold[0] == np.float32(1.421 * 96)  # 136.416
    assert np.argwhere(masks["a"]).tolist() == [[2, 3]]
    assert rows.defects[0] == 1 and rows[["mean_std", "mebin"]].isna().all(axis=None)


def test_robis_is_the_union_of_mebin_and_mean_std(tmp_path: Path) -> None:
    rng = np.random.default_rng(8)
    maps = {f"{i}": blobs(rng, (60, 50), rng.uniform(2, 6), rng.uniform(60, 255)) for i in range(12)}
    folder = write_maps(tmp_path / "maps", maps)
    results = {method: run(tmp_path, folder, name=method, method=method) for method in ("mean_std", "mebin", "robis")}
    rows, masks = results["robis"]
    for sample_id in maps:
        union = results["mebin"][1][sample_id] | results["mean_std"][1][sample_id]
        np.testing.assert_array_equal(masks[sample_id], union)
    assert rows.threshold.equals(rows[["mean_std", "mebin"]].min(axis=1))
    assert (rows.mebin < rows.mean_std).any() and (rows.mebin > rows.mean_std).any()
    assert rows.defects.equals(results["mebin"][0].defects)
    assert rows.stable_first.equals(results["mebin"][0].stable_first)
    known = rows.dropna(subset=["stable_first"])
    assert ((known.stable_first - known.stable_last) >= 12).all() and len(known) > 3

    threaded, threaded_masks = run(tmp_path, folder, name="threads", method="robis", threads=2)
    pd.testing.assert_frame_equal(threaded, rows)
    assert all(np.array_equal(threaded_masks[sample_id], masks[sample_id]) for sample_id in masks)


def test_flat_splits_give_empty_masks_with_every_method(tmp_path: Path) -> None:
    folder = write_maps(tmp_path / "maps", {str(i): np.full((20, 20), 33.3, np.float16) for i in range(3)})
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        for method in METHODS:
            rows, masks = run(tmp_path, folder, name=method, method=method, rate=0.5, confidence=0.5)
            assert rows.area.eq(0).all() and not any(mask.any() for mask in masks.values())


def test_flat_maps_of_another_split_are_refused(tmp_path: Path) -> None:
    maps = write_maps(tmp_path / "test", {"a": np.eye(20)})
    flat = write_maps(tmp_path / "validation", {str(i): np.full((20, 20), 33.3) for i in range(3)})
    for method in METHODS:
        with pytest.raises(
            DataError, match=r"the split validation have the same value.*set binarize\.calibrate and merge"
        ):
            run(tmp_path, maps, flat, method=method)
    assert not (tmp_path / "out").exists()


def test_maps_of_another_split_with_one_maximum_give_mebin_no_threshold(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    maps = write_maps(tmp_path / "test", {"a": np.eye(20) * 200})
    validation = write_maps(tmp_path / "validation", {"a": np.eye(20)})
    with pytest.raises(DataError, match=r"validation all have the same maximum, 1, .* use another binarize\.method"):
        run(tmp_path, maps, validation, method="mebin")
    _, with_mebin = run(tmp_path, maps, validation, "robis", method="robis")
    assert "until then robis is mean_std alone" in caplog.text
    _, without = run(tmp_path, maps, validation, "mean_std", method="mean_std")
    np.testing.assert_array_equal(with_mebin["a"], without["a"])


@pytest.mark.parametrize("value", [np.nan, np.inf, -1.0])
@pytest.mark.parametrize("where", ["maps", "calibration"])
def test_a_pixel_that_is_no_score_names_the_file_and_leaves_no_output(tmp_path: Path, value: float, where: str) -> None:
    for folder in ("maps", "calibration"):
        write_maps(tmp_path / folder, {"a": np.eye(5, 4), "crack/b": np.ones((5, 4))})
    broken = np.ones((5, 4), np.float16)
    broken[3, 2] = value
    write_maps(tmp_path / where, {"crack/b": broken})
    with pytest.raises(DataError, match=r"crack/b\.tiff: 1 of 20 pixels .* row 3, column 2; expected finite"):
        run(tmp_path, tmp_path / "maps", tmp_path / "calibration", method="robis")
    assert not list((tmp_path / "out").rglob("*.p*"))


@pytest.mark.parametrize("folder", ["maps", "calibration"])
def test_a_lost_map_is_named(tmp_path: Path, folder: str) -> None:
    both = {name: write_maps(tmp_path / name, {"a": np.ones((5, 4)), "b/c": np.eye(5)}) for name in FOLDERS}
    split, reference = (with_samples(tmp_path / "out", maps) for maps in both.values())
    (tmp_path / folder / "b" / "c.tiff").unlink()
    message = rf"{folder}: no anomaly map for 1 of 2 samples \(b/c\.tiff is the first\)\. .*--forcerun merge`"
    with pytest.raises(DataError, match=message):
        binarize_split(split, reference, tmp_path / "masks", tmp_path / "t.parquet", Thresholding("mebin"))
    assert not (tmp_path / "masks").exists()


def test_statistics_of_nothing_are_refused() -> None:
    with pytest.raises(DataError, match="No anomaly maps"):
        MapStatistics.of([])


def test_an_unknown_method_lists_the_valid_ones(tmp_path: Path) -> None:
    with pytest.raises(
        ConfigError, match=r"binarize\.method: .*'mebn'.*mean_std, mebin, rate, robis.*Did you mean 'mebin'"
    ):
        run(tmp_path, tmp_path, method="mebn")


def test_masks_of_an_earlier_run_do_not_stay(tmp_path: Path) -> None:
    folder = write_maps(tmp_path / "maps", {"a": np.ones((5, 4)), "b": np.ones((5, 4))})
    assert set(run(tmp_path, folder, method="mean_std")[1]) == {"a", "b"}
    (folder / "b.tiff").unlink()
    assert set(run(tmp_path, folder, method="mean_std")[1]) == {"a"}


def closed_by_scipy(mask: np.ndarray, side: int) -> np.ndarray:
    """Closing on a plane that is empty beyond the image."""
    plane = np.pad(mask, side)
    return binary_closing(plane, np.ones((side, side)))[side:-side, side:-side]


@pytest.mark.parametrize("sides", [(1,), (3,), (1, 5), (3, 7, 15), (9, 3)])
def test_closing_and_filling_agree_with_scipy(sides: tuple[int, ...], rng: np.random.Generator) -> None:
    for shape in [(1, 1), (3, 7), (31, 47), (64, 64)]:
        for sigma in (1, 3):
            amap = blobs(rng, shape, sigma, 255)
            threshold = np.float32(120.7)
            found = close_and_fill(amap, threshold, sides, 1.25)
            values = amap.astype(np.float64)
            levels = [closed_by_scipy(values > 120.7 * 1.25**n, side) for n, side in enumerate(sides)]
            expected = binary_fill_holes(np.logical_or.reduce([values > 120.7, *levels]))
            assert found.dtype == bool
            np.testing.assert_array_equal(found, expected)


def test_only_clear_defects_are_joined_over_wide_gaps() -> None:
    """By hand: pairs of pixels 2 and 4 apart at 110 and at 140; blocks of 3 at 100 and of 5 at 125."""
    amap = np.zeros((12, 20), np.float16)
    for row, value in ((0, 110), (9, 140)):
        amap[row, [2, 4, 10, 14]] = value
    found = close_and_fill(amap, np.float32(100), [3, 5], 1.25)
    assert np.flatnonzero(found[0]).tolist() == [2, 3, 4, 10, 14]
    assert np.flatnonzero(found[9]).tolist() == [2, 3, 4, 10, 11, 12, 13, 14]
    assert not found[1:9].any()


def test_closing_does_not_reach_the_border_by_itself() -> None:
    amap = np.zeros((9, 9), np.float16)
    amap[4, 1] = 200
    assert close_and_fill(amap, np.float32(100), [7], 1.25).sum() == 1
    ring = np.zeros((9, 9), np.float16)
    ring[2:7, 2:7] = 200
    ring[3:6, 3:6] = 0
    ring[2, 4] = 0
    assert close_and_fill(ring, np.float32(100), [1], 1.25).sum() == 15, "open: no hole"
    assert close_and_fill(ring, np.float32(100), [3], 1.25).sum() == 25, "closed first, then filled"


def test_percentile_closes_where_the_config_says_so(tmp_path: Path) -> None:
    amap = np.zeros((20, 20), np.float16)
    amap[5, [5, 7]] = 100
    maps = write_maps(tmp_path / "maps", {"a": amap})
    options = {"method": "percentile", "percentile": 50.0}
    rows, masks = run(tmp_path, maps, name="plain", **options)
    assert np.count_nonzero(masks["a"]) == 2 and rows.defects.tolist() == [2]
    rows, masks = run(tmp_path, maps, name="closed", closing_sizes=[3], **options)
    assert np.flatnonzero(masks["a"][5]).tolist() == [5, 6, 7] and rows.defects.tolist() == [1]
    assert rows.area.tolist() == [3 / 400] and rows.threshold.tolist() == [0]
    eroding = {"method": "mean_std", "std_factor": 1.0, "erosion_size": 1}
    for name, closing in (("without", []), ("ignored", [9])):
        _, masks = run(tmp_path, maps, name=name, closing_sizes=closing, **eroding)
        assert np.count_nonzero(masks["a"]) == 2
