from __future__ import annotations

from itertools import pairwise
from pathlib import Path

import cv2
import numpy as np
import pandas as pd
import pytest
import tifffile
from PIL import Image
from skimage.measure import label as skimage_label
from sklearn.metrics import (  # type: ignore[import-untyped]
    average_precision_score,
    f1_score,
    precision_recall_curve,
    roc_auc_score,
)

from robis.errors import ConfigError, DataError
from robis.evaluation.counts import PixelCounts, SegmentationCounts, resize_map, resize_mask
from robis.evaluation.metrics import (
    METRICS,
    aupro,
    auroc,
    average_precision,
    class_f1,
    curves_table,
    f1_max,
    image_metrics,
    pixel_metrics,
    rank_images,
    rank_pixels,
    segmentation_metrics,
)
from robis.evaluation.stage import EvaluatedRun, SplitFiles, evaluate_split
from robis.evaluation.tables import format_table, mean_metrics, seed_spread
from robis.io.maps import read_map, write_map, write_mask
from robis.io.tables import read_table, write_table

PIXEL = ("pixel_auroc", "pixel_ap", "pixel_f1_max", "aupro_0.30", "aupro_0.05")
SEGMENTATION = ("seg_f1", "seg_iou", "seg_precision", "seg_recall")
IMAGE = ("image_auroc", "image_ap", "image_f1_max")


def blobs(rng: np.random.Generator, shape: tuple[int, int], count: int) -> np.ndarray:
    """Discs, and two pixels that touch at a corner only: one region if 8-connected, two if 4-connected."""
    canvas = np.zeros(shape, np.uint8)
    for _ in range(count):
        center = (int(rng.integers(shape[1])), int(rng.integers(shape[0])))
        cv2.circle(canvas, center, int(rng.integers(1, 5)), 1, -1)
    canvas[0, 0] = canvas[1, 1] = 1
    return canvas > 0


def dataset(seed: int, step: float) -> list[tuple[np.ndarray, np.ndarray]]:
    """Images of three sizes, the first without defects; values are multiples of `step`, so ties are heavy."""
    rng = np.random.default_rng(seed)
    images = []
    for number, shape in enumerate([(40, 56), (33, 47), (40, 56), (64, 31)]):
        mask = blobs(rng, shape, 4) if number else np.zeros(shape, bool)
        raw = rng.gamma(2.0, 20.0, shape) + 40.0 * mask * rng.random(shape)
        images.append(((np.round(raw / step) * step).astype(np.float16), mask))
    return images


def counted(images: list[tuple[np.ndarray, np.ndarray]]) -> PixelCounts:
    counts = PixelCounts()
    for anomaly_map, mask in images:
        counts.add(anomaly_map, mask)
    return counts


def plain_aupro(images: list[tuple[np.ndarray, np.ndarray]], limit: float) -> float:
    """AU-PRO as its definition reads: threshold by threshold, region by region, trapezoid by trapezoid."""
    normal = np.concatenate([m[~g] for m, g in images]).astype(np.float64)
    regions = []
    for anomaly_map, mask in images:
        labels = skimage_label(mask, connectivity=2)
        regions += [anomaly_map[labels == number].astype(np.float64) for number in range(1, labels.max() + 1)]
    points = [(0.0, 0.0)]
    for threshold in sorted({float(v) for m, _ in images for v in np.unique(m)}, reverse=True):
        fpr = float(np.mean(normal >= threshold))
        points.append((fpr, float(np.mean([np.mean(region >= threshold) for region in regions]))))
    area = 0.0
    for (x0, y0), (x1, y1) in pairwise(points):
        if x0 >= limit:
            break
        if x1 > limit:
            y1 = y0 + (y1 - y0) * (limit - x0) / (x1 - x0)
            x1 = limit
        area += (x1 - x0) * (y0 + y1) / 2
    return area / limit


def sklearn_f1_max(truth: np.ndarray, scores: np.ndarray) -> float:
    precision, recall, _ = precision_recall_curve(truth, scores)
    return float(np.max(2 * precision * recall / np.maximum(precision + recall, 1e-30)))


@pytest.mark.parametrize("step", [0.001, 1.0, 25.0])
@pytest.mark.parametrize("seed", [0, 1])
def test_pixel_metrics_equal_scikit_learn_and_a_plain_aupro(seed: int, step: float) -> None:
    images = dataset(seed, step)
    values = pixel_metrics(rank_pixels(counted(images)))

    scores = np.concatenate([m.ravel() for m, _ in images]).astype(np.float64)
    truth = np.concatenate([g.ravel() for _, g in images])
    assert values["pixel_auroc"] == pytest.approx(roc_auc_score(truth, scores), abs=1e-10)
    assert values["pixel_ap"] == pytest.approx(average_precision_score(truth, scores), abs=1e-10)
    assert values["pixel_f1_max"] == pytest.approx(sklearn_f1_max(truth, scores), abs=1e-10)
    assert values["aupro_0.30"] == pytest.approx(plain_aupro(images, 0.30), abs=1e-10)
    assert values["aupro_0.05"] == pytest.approx(plain_aupro(images, 0.05), abs=1e-10)


@pytest.mark.parametrize("ties", [True, False])
def test_image_metrics_equal_scikit_learn(ties: bool) -> None:
    rng = np.random.default_rng(3)
    truth = rng.random(200) < 0.3
    scores = rng.normal(size=200) + truth
    if ties:
        scores = np.round(scores)
    values = image_metrics(rank_images(scores, truth))
    assert values["image_auroc"] == pytest.approx(roc_auc_score(truth, scores), abs=1e-12)
    assert values["image_ap"] == pytest.approx(average_precision_score(truth, scores), abs=1e-12)
    assert values["image_f1_max"] == pytest.approx(sklearn_f1_max(truth, scores), abs=1e-12)


# Two regions: A has pixels 4 and 2, B has the pixel 1. Normal pixels: 3, 2, 1 and 0.
HAND_MAP = np.array([[4, 2, 3, 2, 1, 1, 0]], np.float16)
HAND_MASK = np.array([[1, 1, 0, 0, 0, 1, 0]], bool)


def test_hand_worked_pixels() -> None:
    counts = counted([(HAND_MAP, HAND_MASK)])
    assert counts.regions == 2
    ranking = rank_pixels(counts)
    assert ranking.thresholds.tolist() == [4, 3, 2, 1, 0]
    assert ranking.tp.tolist() == [1, 1, 2, 3, 3]
    assert ranking.fp.tolist() == [0, 1, 2, 3, 4]
    assert ranking.pro is not None
    assert ranking.pro.tolist() == [0.25, 0.25, 0.5, 1, 1]
    # Of the 12 pairs: 4 beats four normal ones, 2 beats two and ties with one, 1 beats one, ties with one.
    assert auroc(ranking) == pytest.approx((4 + 2.5 + 1.5) / 12)
    assert average_precision(ranking) == pytest.approx((1 + 2 / 4 + 3 / 6) / 3)
    assert f1_max(ranking) == pytest.approx(6 / 9)
    # From (0, 0.25) flat to (0.25, 0.25), then a fifth of the way up to (0.5, 0.5).
    assert aupro(ranking, 0.30) == pytest.approx((0.25 * 0.25 + 0.05 * (0.25 + 0.30) / 2) / 0.30)
    assert aupro(ranking, 0.05) == pytest.approx(0.25)
    assert aupro(ranking, 0.25) == pytest.approx(0.25)
    assert aupro(ranking, 1.0) == pytest.approx(0.25 * (0.25 + 0.375 + 0.75 + 1))


def test_aupro_interpolates_from_the_origin_when_the_first_threshold_is_beyond_the_limit() -> None:
    flat = rank_pixels(counted([(np.ones((1, 4), np.float16), np.array([[1, 0, 0, 0]], bool))]))
    assert aupro(flat, 0.30) == pytest.approx(0.15)


def test_normal_images_lower_the_false_positive_rate() -> None:
    quiet = (np.zeros((1, 4), np.float16), np.zeros((1, 4), bool))
    ranking = rank_pixels(counted([(HAND_MAP, HAND_MASK), quiet]))
    assert ranking.fp.tolist() == [0, 1, 2, 3, 8]
    # (0, 0.25), (0.125, 0.25), (0.25, 0.5), then a tenth of the way... 0.05 of 0.125 towards (0.375, 1).
    at_limit = 0.5 + 0.5 * 0.05 / 0.125
    area = 0.125 * 0.25 + 0.125 * 0.375 + 0.05 * (0.5 + at_limit) / 2
    assert aupro(ranking, 0.30) == pytest.approx(area / 0.30)


def test_every_region_weighs_the_same() -> None:
    mask = np.zeros((20, 20), bool)
    mask[0:10, 0:10] = True  # 100 pixels, all found
    mask[15, 15] = mask[16, 16] = True  # 2 pixels joined at a corner, none found
    anomaly_map = np.zeros((20, 20), np.float16)
    anomaly_map[0:10, 0:10] = 9
    counts = counted([(anomaly_map, mask)])
    assert counts.regions == 2
    assert counts.coverage.sum() == pytest.approx(2)
    pro = rank_pixels(counts).pro
    assert pro is not None
    assert pro.tolist() == pytest.approx([0.5, 1.0])


def test_partial_counts_add_up_in_any_grouping() -> None:
    images = dataset(5, 0.5)
    whole = counted(images)
    left = counted(images[:1]) + counted(images[1:])
    right = counted(images[2:])
    before = right.normal.copy()
    right_sum = right + counted(images[:2])
    assert (right.normal == before).all()
    for other in (left, right_sum):
        assert (other.normal == whole.normal).all()
        assert (other.anomalous == whole.anomalous).all()
        assert other.regions == whole.regions
        np.testing.assert_allclose(other.coverage, whole.coverage, rtol=1e-12)
        assert pixel_metrics(rank_pixels(other)) == pytest.approx(pixel_metrics(rank_pixels(whole)), abs=1e-12)


def test_counts_cover_the_whole_range_and_large_images() -> None:
    counts = PixelCounts()
    extremes = np.array([[0.0, -0.0, 6e-8, 65504.0]], np.float16)
    counts.add(extremes, np.array([[0, 0, 1, 1]], bool))
    ranking = rank_pixels(counts)
    assert ranking.thresholds.tolist() == [65504.0, float(np.float16(6e-8)), 0.0]
    assert ranking.fp.tolist() == [0, 0, 2]

    large = PixelCounts()
    large.add(np.full((1100, 1000), 7, np.float16), np.zeros((1100, 1000), bool))
    assert large.normal.sum() == large.normal.max() == 1_100_000


def test_counts_take_views_that_are_not_contiguous() -> None:
    anomaly_map, mask = dataset(6, 1.0)[1]
    there = counted([(anomaly_map.T, mask.T)])
    copied = counted([(anomaly_map.T.copy(), mask.T.copy())])
    assert (there.normal == copied.normal).all()
    assert (there.anomalous == copied.anomalous).all()
    assert there.regions == copied.regions == skimage_label(mask, connectivity=2).max()


@pytest.mark.parametrize("value", [np.nan, np.inf, -np.inf, -1.0])
def test_counts_refuse_values_that_do_not_sort(value: float) -> None:
    with pytest.raises(ValueError, match="negative or not finite"):
        PixelCounts().add(np.array([[1.0, value]], np.float16), np.zeros((1, 2), bool))


def test_counts_refuse_other_types_and_shapes() -> None:
    with pytest.raises(ValueError, match="float32"):
        PixelCounts().add(np.zeros((2, 2), np.float32), np.zeros((2, 2), bool))
    with pytest.raises(ValueError, match=r"\(2, 3\)"):
        PixelCounts().add(np.zeros((2, 2), np.float16), np.zeros((2, 3), bool))
    with pytest.raises(ValueError, match=r"\(2, 3\)"):
        SegmentationCounts.of(np.zeros((2, 2), bool), np.zeros((2, 3), bool))


def test_what_is_undefined_is_none() -> None:
    some = np.array([[1, 2]], np.float16)
    nothing = dict.fromkeys(PIXEL)
    assert pixel_metrics(rank_pixels(PixelCounts())) == nothing
    assert pixel_metrics(rank_pixels(counted([(some, np.zeros((1, 2), bool))]))) == nothing
    assert pixel_metrics(rank_pixels(counted([(some, np.ones((1, 2), bool))]))) == nothing
    for anomalous in ([], [True, True], [False, False]):
        scores = np.arange(len(anomalous), dtype=float)
        assert image_metrics(rank_images(scores, np.array(anomalous, bool))) == dict.fromkeys(IMAGE)
    assert segmentation_metrics(SegmentationCounts(fp=3, tn=5)) == dict.fromkeys(SEGMENTATION)
    assert class_f1(np.array([True, False]), np.array([False, False])) is None


def test_segmentation_metrics() -> None:
    predicted = np.array([[1, 1, 1, 0, 0]], bool)
    truth = np.array([[1, 1, 0, 1, 0]], bool)
    counts = SegmentationCounts.of(predicted, truth) + SegmentationCounts(fp=2, tn=3)
    assert counts == SegmentationCounts(tp=2, fp=3, fn=1, tn=4)
    assert segmentation_metrics(counts) == {
        "seg_f1": 0.5,
        "seg_iou": pytest.approx(1 / 3),
        "seg_precision": 0.4,
        "seg_recall": pytest.approx(2 / 3),
    }
    assert segmentation_metrics(SegmentationCounts(fn=4, tn=6)) == dict.fromkeys(SEGMENTATION, 0.0)


def test_class_f1() -> None:
    rng = np.random.default_rng(8)
    truth, predicted = rng.random(50) < 0.4, rng.random(50) < 0.5
    assert class_f1(predicted, truth) == pytest.approx(f1_score(truth, predicted))
    assert class_f1(np.zeros(50, bool), truth) == 0.0


def test_resize_map_is_bilinear_with_half_pixel_centers() -> None:
    grown = resize_map(np.array([[0, 4]], np.float16), 2, 4)
    assert grown.dtype == np.float16
    assert grown.tolist() == [[0, 1, 3, 4], [0, 1, 3, 4]]
    # No blur when shrinking: output 0 is centered on input 1.5, of which inputs 1 and 2 are the neighbors.
    assert resize_map(np.array([[9, 1, 3, 9, 9, 5, 7, 9]], np.float16), 1, 2).tolist() == [[2, 6]]
    assert resize_map(np.array([[-3, 5]], np.float16), 1, 2).tolist() == [[0, 5]]
    assert np.isfinite(resize_map(np.full((3, 3), 65504, np.float16), 7, 5)).all()


def test_resize_mask_takes_the_pixel_under_the_center() -> None:
    mask = np.random.default_rng(2).random((11, 17)) < 0.5
    for height, width in [(5, 23), (40, 4), (11, 30), (11, 17)]:
        resized = resize_mask(mask, height, width)
        assert resized.shape == (height, width)
        expected = [
            [mask[int((i + 0.5) * 11 / height), int((j + 0.5) * 17 / width)] for j in range(width)]
            for i in range(height)
        ]
        assert resized.tolist() == expected


def test_curves_hold_few_points_and_both_ends() -> None:
    pixels = rank_pixels(counted(dataset(4, 0.001)))
    assert len(pixels.thresholds) > 2000
    images = rank_images(np.array([0.1, 0.2, 0.3]), np.array([False, True, True]))
    table = curves_table(pixels, images)
    assert list(table) == ["curve", "x", "y", "threshold"]
    assert list(table["curve"].unique()) == ["roc", "pr", "pro", "image_roc", "image_pr"]
    for name in table["curve"].unique():
        curve = table[table["curve"] == name]
        assert len(curve) <= 500
        assert (np.diff(curve["x"]) >= 0).all()
        assert curve["threshold"].isna().tolist() == [True] + [False] * (len(curve) - 1)
        assert (np.diff(curve["threshold"].dropna()) < 0).all()
        first, last = curve.iloc[0], curve.iloc[-1]
        assert (first["x"], first["y"]) == ((0, 1) if name in ("pr", "image_pr") else (0, 0))
        assert last["x"] == 1
    roc = table[table["curve"] == "roc"]
    assert len(roc) > 200
    # The thinned curve still has nearly the full one's area, and its points are points of the full curve.
    area = np.dot(np.diff(roc["x"]), roc["y"].to_numpy()[1:] + roc["y"].to_numpy()[:-1]) / 2
    assert area == pytest.approx(auroc(pixels), abs=1e-4)
    assert set(roc["threshold"].dropna()) <= set(pixels.thresholds)
    image_roc = table[table["curve"] == "image_roc"]
    assert image_roc[["x", "y"]].to_numpy().tolist() == [[0, 0], [0, 0.5], [0, 1], [1, 1]]


def test_undefined_curves_have_no_rows() -> None:
    nothing = rank_images(np.array([]), np.array([]))
    table = curves_table(rank_pixels(PixelCounts()), nothing)
    assert list(table) == ["curve", "x", "y", "threshold"]
    assert table.empty


class Tree:
    """A split on disk: images of several sizes, anomaly maps and final masks at 1/4 of them."""

    SAMPLES = (
        ("good/000", "normal", (40, 56)),
        ("good/001", "normal", (48, 36)),
        ("bad/000_regular", "anomalous", (40, 56)),
        ("bad/001", "anomalous", (32, 44)),
    )

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.maps, self.masks = folder / "maps", folder / "masks"
        self.metrics, self.curves = folder / "metrics.parquet", folder / "curves.parquet"
        rng = np.random.default_rng(9)
        rows = []
        for name, label, (height, width) in self.SAMPLES:
            small = (round(height / 4), round(width / 4))
            truth = blobs(rng, (height, width), 3) if label == "anomalous" else None
            raw = rng.integers(0, 200, small)
            write_map(self.maps / f"{name}.tiff", raw.astype(np.float16))
            (self.masks / name).parent.mkdir(parents=True, exist_ok=True)
            write_mask(self.masks / f"{name}.png", raw > 150)
            if truth is not None:
                (folder / "truth" / name).parent.mkdir(parents=True, exist_ok=True)
                write_mask(folder / "truth" / f"{name}.png", truth)
            rows.append(
                {
                    "sample_id": name,
                    "split": "test",
                    "image": f"images/{name}.png",
                    "label": label,
                    "defect": name.split("/")[0],
                    "mask": None if truth is None else f"truth/{name}.png",
                    "height": height,
                    "width": width,
                }
            )
        self.samples = pd.DataFrame(rows)
        self.scores = pd.DataFrame(
            {
                "sample_id": [name for name, _, _ in reversed(self.SAMPLES)],
                "score": [0.0, 0.0, 0.0, 0.0],
                "rescored": [0.9, 0.2, 0.3, 0.1],
                "is_anomalous": [True, False, True, False],
            }
        )

    def evaluate(self, resolution: str | int = "ground_truth", threads: int = 1) -> pd.DataFrame:
        write_table(self.folder / "samples.parquet", self.samples)
        write_table(self.folder / "scores.parquet", self.scores)
        evaluate_split(
            SplitFiles(
                samples=self.folder / "samples.parquet",
                root=self.folder,
                maps=self.maps,
                masks=self.masks,
                scores=self.folder / "scores.parquet",
            ),
            self.metrics,
            self.curves,
            EvaluatedRun(category="can", split="test", detector="musc"),
            resolution=resolution,
            threads=threads,
        )
        return read_table(self.metrics)

    def nothing_written(self) -> bool:
        return not self.metrics.exists() and not self.curves.exists()


@pytest.fixture
def tree(tmp_path: Path) -> Tree:
    return Tree(tmp_path)


def bilinear(source: np.ndarray, height: int, width: int) -> np.ndarray:
    """Bilinear interpolation written out in float64, centers at half-integers, clamped at the border."""

    def taps(n_out: int, n_in: int) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
        place = np.clip((np.arange(n_out) + 0.5) * n_in / n_out - 0.5, 0, n_in - 1)
        low = np.floor(place).astype(int)
        return low, np.minimum(low + 1, n_in - 1), place - low

    a, b, t = taps(height, source.shape[0])
    c, d, u = taps(width, source.shape[1])
    s = source.astype(np.float64)
    t = t[:, None]
    top = s[a][:, c] * (1 - u) + s[a][:, d] * u
    bottom = s[b][:, c] * (1 - u) + s[b][:, d] * u
    return top * (1 - t) + bottom * t


@pytest.mark.parametrize("resolution", ["ground_truth", 24])
def test_stage_agrees_with_a_plain_evaluation(tree: Tree, resolution: str | int) -> None:
    row = tree.evaluate(resolution)
    assert list(row) == [
        "detector", "category", "split", "images", "anomalous_images", "defects", *METRICS
    ]  # fmt: skip
    assert len(row) == 1
    values = row.iloc[0]
    assert tuple(values[["detector", "category", "split"]]) == ("musc", "can", "test")
    assert (values["images"], values["anomalous_images"]) == (4, 2)

    images, predicted, truths = [], [], []
    for name, _, (height, width) in Tree.SAMPLES:
        path = tree.folder / "truth" / f"{name}.png"
        truth = np.array(Image.open(path)) > 0 if path.exists() else np.zeros((height, width), bool)
        size = (height, width) if isinstance(resolution, str) else (resolution, resolution)
        raw = bilinear(read_map(tree.maps / f"{name}.tiff"), *size)
        at_size = [
            [truth[int((i + 0.5) * height / size[0]), int((j + 0.5) * width / size[1])] for j in range(size[1])]
            for i in range(size[0])
        ]
        images.append((raw.astype(np.float16), np.array(at_size)))
        final = np.array(Image.open(tree.masks / f"{name}.png"))
        rows = ((np.arange(height) + 0.5) * final.shape[0] / height).astype(int)
        columns = ((np.arange(width) + 0.5) * final.shape[1] / width).astype(int)
        predicted.append(final[np.ix_(rows, columns)].ravel() > 0)
        truths.append(truth.ravel())
    scores = np.concatenate([m.ravel() for m, _ in images]).astype(np.float64)
    truth = np.concatenate([g.ravel() for _, g in images])
    assert values["defects"] == sum(skimage_label(g, connectivity=2).max() for _, g in images)
    # Whole numbers stay exact in float32 at 4 times the size. Elsewhere a value may be rounded to the
    # neighboring float16, which is then another rank.
    within = 1e-10 if resolution == "ground_truth" else 1e-4
    assert values["pixel_auroc"] == pytest.approx(roc_auc_score(truth, scores), abs=within)
    assert values["pixel_ap"] == pytest.approx(average_precision_score(truth, scores), abs=within)
    assert values["aupro_0.30"] == pytest.approx(plain_aupro(images, 0.30), abs=within)
    assert values["aupro_0.05"] == pytest.approx(plain_aupro(images, 0.05), abs=within)
    assert values["seg_f1"] == pytest.approx(f1_score(np.concatenate(truths), np.concatenate(predicted)))
    # rescored: good 0.1 and 0.3, bad 0.2 and 0.9; found anomalous: one good, one bad.
    assert values["image_auroc"] == 0.75
    assert values["image_ap"] == pytest.approx((1 + 2 / 3) / 2)
    assert values["image_f1_max"] == pytest.approx(0.8)
    assert values["class_f1"] == 0.5
    assert set(read_table(tree.curves)["curve"]) == {"roc", "pr", "pro", "image_roc", "image_pr"}


def test_stage_writes_the_same_with_more_threads(tree: Tree) -> None:
    tree.evaluate()
    once = (tree.metrics.read_bytes(), tree.curves.read_bytes())
    tree.evaluate(threads=3)
    assert (tree.metrics.read_bytes(), tree.curves.read_bytes()) == once


def nulls(row: pd.DataFrame) -> set[str]:
    return {name for name in METRICS if row[name].isna().item()}


def keep(tree: Tree, label: str) -> None:
    tree.samples = tree.samples[tree.samples["label"] == label]


def test_split_without_defective_images(tree: Tree) -> None:
    keep(tree, "normal")
    row = tree.evaluate()
    assert nulls(row) == set(METRICS)
    assert row["anomalous_images"].item() == row["defects"].item() == 0
    assert read_table(tree.curves).empty


def test_split_without_normal_images(tree: Tree) -> None:
    keep(tree, "anomalous")
    row = tree.evaluate()
    assert nulls(row) == set(IMAGE)
    assert row["class_f1"].item() == pytest.approx(2 / 3)


def test_anomalous_image_without_mask(tree: Tree) -> None:
    tree.samples.loc[3, "mask"] = None
    row = tree.evaluate()
    assert nulls(row) == {*PIXEL, *SEGMENTATION}
    assert row["defects"].isna().item()
    assert row["image_auroc"].item() == 0.75
    assert set(read_table(tree.curves)["curve"]) == {"image_roc", "image_pr"}


def test_unlabeled_images_are_left_out(tree: Tree) -> None:
    whole = tree.evaluate()
    tree.samples.loc[1, "label"] = None
    row = tree.evaluate()
    assert (row["images"].item(), row["anomalous_images"].item()) == (4, 2)
    assert row["image_auroc"].item() == 1.0
    assert row["class_f1"].item() == pytest.approx(2 / 3)
    assert row["seg_recall"].item() == whole["seg_recall"].item()
    assert row["seg_precision"].item() > whole["seg_precision"].item()

    tree.samples["label"] = None
    tree.samples["mask"] = None
    row = tree.evaluate()
    assert nulls(row) == set(METRICS)
    assert row["defects"].isna().item()


def test_missing_files_are_listed_together(tree: Tree) -> None:
    (tree.maps / "good" / "000.tiff").unlink()
    (tree.maps / "bad" / "001.tiff").unlink()
    with pytest.raises(DataError, match=r"2 of 4 images.* anomaly map[\s\S]*good/000\.tiff\n.*bad/001\.tiff"):
        tree.evaluate()
    assert tree.nothing_written()


def test_missing_final_mask(tree: Tree) -> None:
    (tree.masks / "bad" / "000_regular.png").unlink()
    with pytest.raises(DataError, match=r"1 of 4 images.* final mask[\s\S]*bad/000_regular\.png"):
        tree.evaluate()


def test_scores_that_do_not_fit(tree: Tree) -> None:
    scores = tree.scores
    tree.scores = scores.iloc[1:]
    with pytest.raises(DataError, match=r"1 of the 4 images have no score[\s\S]*bad/001"):
        tree.evaluate()
    tree.scores = pd.concat([scores, scores.iloc[:1]])
    with pytest.raises(DataError, match=r"more than one score[\s\S]*bad/001"):
        tree.evaluate()
    tree.scores = scores.assign(rescored=[0.1, np.nan, 0.2, 0.3])
    with pytest.raises(DataError, match=r"not a finite number for:\n  bad/000_regular$"):
        tree.evaluate()
    tree.scores = scores.drop(columns="rescored")
    with pytest.raises(DataError, match=r"scores\.parquet: no column 'rescored'; found sample_id"):
        tree.evaluate()
    assert tree.nothing_written()


def test_mask_of_another_size(tree: Tree) -> None:
    write_mask(tree.folder / "truth" / "bad" / "001.png", np.ones((31, 44), bool))
    with pytest.raises(DataError, match=r"001\.png: the mask is 31 x 44 .*images/bad/001\.png is 32 x 44"):
        tree.evaluate()
    assert tree.nothing_written()


def test_defects_in_a_normal_image(tree: Tree) -> None:
    tree.samples.loc[0, "mask"] = "truth/bad/000_regular.png"
    with pytest.raises(DataError, match=r"000_regular\.png: \d+ defect pixels, but images/good/000\.png"):
        tree.evaluate()


def test_map_that_is_not_finite(tree: Tree) -> None:
    tifffile.imwrite(tree.maps / "good" / "001.tiff", np.full((12, 9), np.nan, np.float16))
    with pytest.raises(DataError, match=r"good.001\.tiff: holds no pixels, or NaN.*--forcerun merge"):
        tree.evaluate()


@pytest.mark.parametrize("resolution", ["518", "full", 0, -3, True])
def test_unknown_resolution(tree: Tree, resolution: str | int) -> None:
    with pytest.raises(ConfigError, match=r"evaluate\.resolution: .*'ground_truth' or a side in pixels"):
        tree.evaluate(resolution)


def rows(*lines: tuple[str, str, float | None]) -> pd.DataFrame:
    return pd.DataFrame(
        [
            {
                "detector": detector,
                "category": category,
                "split": "test",
                "images": 1,
                "anomalous_images": 1,
                "defects": None,
                **dict.fromkeys(METRICS, value),
                "seg_f1": None,
                "class_f1": 0.125,
            }
            for detector, category, value in lines
        ]
    )


def test_mean_is_over_the_categories_that_define_a_metric() -> None:
    table = rows(("musc", "can", 0.5), ("musc", "rice", None), ("musc", "vial", 1.0), ("winclip", "can", 0.25))
    means = mean_metrics(table)
    assert means["detector"].tolist() == ["musc", "winclip"]
    assert means["split"].tolist() == ["test", "test"]
    assert means["categories"].tolist() == [3, 1]
    assert means["pixel_ap"].tolist() == [0.75, 0.25]
    assert means["pixel_ap_categories"].tolist() == [2, 1]
    assert means["seg_f1"].isna().all()
    assert means["seg_f1_categories"].tolist() == [0, 0]
    assert means["class_f1_categories"].tolist() == [3, 1]


def test_format_table() -> None:
    table = rows(("musc", "can", 0.5), ("musc", "sheet_metal", None), ("winclip", "can", 1.0))
    blocks = format_table(table).split("\n\n")
    assert len(blocks) == 2
    lines = blocks[0].splitlines()
    assert lines[0] == "musc, test (in percent)"
    assert lines[1].split() == ["image", "pixel", "aupro", "seg", "class"]
    assert lines[2].split() == ["category", *[name.partition("_")[2] for name in METRICS]]
    assert lines[3].split() == ["can", *["50.0"] * 8, "-", *["50.0"] * 3, "12.5"]
    assert lines[4].split() == ["sheet_metal", *["-"] * 12, "12.5"]
    assert lines[5].split() == ["mean", *["50.0"] * 8, "-", *["50.0"] * 3, "12.5"]
    assert len({len(line) for line in lines[3:]}) == 1
    assert blocks[1].splitlines()[0] == "winclip, test (in percent)"
    assert "100.0" in blocks[1]


def test_spread_over_seeds_by_hand() -> None:
    def row(detector: str, category: str, value: float | None) -> dict:
        metrics = dict.fromkeys(METRICS, value)
        return {"detector": detector, "category": category, "split": "test", "defects": 1, **metrics}

    table = pd.DataFrame(
        [
            *(row("winclip_2shot_seed0", name, value) for name, value in (("nut", 0.5), ("can", 0.7))),
            *(row("winclip_2shot_seed7", name, value) for name, value in (("nut", 0.7), ("can", 0.9))),
            *(row(name, "nut", 0.1) for name in ("winclip_0shot", "winclip_1shot_seed0")),
        ]
    )
    spread = seed_spread(table)
    assert spread["detector"].unique().tolist() == ["winclip_2shot"], "one seed has no spread"
    assert spread.set_index("category")["seg_f1"].round(12).to_dict() == {"nut": 0.6, "can": 0.8, "mean": 0.7}
    # The sample standard deviation of two values is their difference over the root of two.
    assert spread["seg_f1_std"].tolist() == pytest.approx([0.2 / 2**0.5] * 3)
    assert spread["seeds"].tolist() == [2, 2, 2]
    text = format_table(table)
    assert "winclip_2shot, test, mean ± standard deviation over 2 seeds (in percent)" in text
    assert text.count("60.0±14.1") == len(METRICS)
    assert "±" not in format_table(table[table["detector"] == "winclip_0shot"])
