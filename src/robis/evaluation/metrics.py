"""Metrics and curves from counts. Every distinct value is one threshold.

An undefined metric is None, never 0 and never NaN.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import pandas as pd

from robis.arrays.float16 import FINITE_VALUES
from robis.evaluation.counts import PixelCounts, SegmentationCounts

METRICS = (
    "image_auroc",
    "image_ap",
    "image_f1_max",
    "pixel_auroc",
    "pixel_ap",
    "pixel_f1_max",
    "aupro_0.30",
    "aupro_0.05",
    "seg_f1",
    "seg_iou",
    "seg_precision",
    "seg_recall",
    "class_f1",
)

# What each metric says, in one clause, for tooltips, notes and docs/glossary.md.
MEANINGS = {
    "image_auroc": "how often a defective image scores higher than a normal one; 50 % is chance",
    "image_ap": "mean precision of images over all limits on the score",
    "image_f1_max": "F1 of images at the best limit on the score, chosen with the labels",
    "pixel_auroc": "how often a defect pixel has a higher map value than a normal one; most pixels are easy",
    "pixel_ap": "mean precision of pixels over all thresholds on the map",
    "pixel_f1_max": "F1 of pixels at the best threshold on the map, chosen with the labels",
    "aupro_0.30": "mean covered fraction of a defect, small or large, up to 30 % false-positive pixels",
    "aupro_0.05": "mean covered fraction of a defect, small or large, up to 5 % false-positive pixels",
    "seg_f1": "F1 of pixels of the final masks: 100 % where they match the defects exactly",
    "seg_iou": "pixels in both final masks and defects, divided by pixels in either",
    "seg_precision": "fraction of the pixels marked by final masks that are defects",
    "seg_recall": "fraction of the defect pixels that final masks mark",
    "class_f1": "F1 of images, counted as defective where the final mask marks at least one pixel",
}

# Where a table of metrics has the settings of its run, among its attributes.
SETTINGS = "settings"
CURVE_CELLS = 250


@dataclass(frozen=True, eq=False)
class Ranking:
    """Detections at each distinct threshold, from the highest down; values at or above it count as anomalous.

    Attributes:
        thresholds: float64 (T,), falling.
        tp, fp: int64 (T,), anomalous and normal pixels (or images) at or above the threshold; the last entries are the
            totals.
        pro: float64 (T,), mean covered fraction of the ground-truth regions; None where there are no regions (images,
            or a split without defects).
    """

    thresholds: np.ndarray
    tp: np.ndarray
    fp: np.ndarray
    pro: np.ndarray | None = None

    @property
    def defined(self) -> bool:
        """Whether both classes occur; without them no metric is defined."""
        return len(self.tp) > 0 and self.tp[-1] > 0 and self.fp[-1] > 0


def rank_pixels(counts: PixelCounts) -> Ranking:
    """Accumulate pixel counts from the largest value to the smallest."""
    value = np.flatnonzero(counts.normal + counts.anomalous)[::-1]
    pro = None
    if counts.regions:
        # The fractions of a region sum to 1 except for rounding, which must not give a PRO above 1.
        pro = np.minimum(np.cumsum(counts.coverage[value]) / counts.regions, 1.0)
    return Ranking(
        thresholds=np.arange(FINITE_VALUES, dtype=np.uint16).view(np.float16)[value].astype(np.float64),
        tp=np.cumsum(counts.anomalous[value]),
        fp=np.cumsum(counts.normal[value]),
        pro=pro,
    )


def rank_images(scores: np.ndarray, anomalous: np.ndarray) -> Ranking:
    """Accumulate images by score.

    Args:
        scores: float (N,), finite.
        anomalous: bool (N,).
    """
    values, index = np.unique(np.asarray(scores, np.float64), return_inverse=True)
    anomalous = np.asarray(anomalous, bool)
    tp = np.bincount(index[anomalous], minlength=len(values))
    fp = np.bincount(index[~anomalous], minlength=len(values))
    return Ranking(values[::-1], np.cumsum(tp[::-1]), np.cumsum(fp[::-1]))


def auroc(ranking: Ranking) -> float | None:
    """Area under the ROC curve in 0..1, by trapezoids; None unless both classes occur."""
    if not ranking.defined:
        return None
    tp = ranking.tp / ranking.tp[-1]
    fp = ranking.fp / ranking.fp[-1]
    return _trapezoids(np.append(0.0, fp), np.append(0.0, tp))


def average_precision(ranking: Ranking) -> float | None:
    """Sum of precision times the gain in recall in 0..1, as in scikit-learn; None unless both classes occur."""
    if not ranking.defined:
        return None
    gained = np.diff(ranking.tp, prepend=0) / ranking.tp[-1]
    return float(np.dot(gained, ranking.tp / (ranking.tp + ranking.fp)))


def f1_max(ranking: Ranking) -> float | None:
    """Largest F1 over all thresholds in 0..1; None unless both classes occur."""
    if not ranking.defined:
        return None
    # 2 TP / (2 TP + FP + FN), where TP + FN is the number of anomalous pixels or images.
    return float((2 * ranking.tp / (ranking.tp + ranking.fp + ranking.tp[-1])).max())


def aupro(ranking: Ranking, limit: float) -> float | None:
    """Area under PRO over the false-positive rate from 0 to `limit`, divided by `limit`, in 0..1.

    The curve starts at (0, 0), has a point per distinct threshold and is interpolated at the limit. The
    false-positive rate is over all normal pixels (Bergmann et al., The MVTec Anomaly Detection Dataset, IJCV 2021).
    None where there is no region or no normal pixel.
    """
    if not ranking.defined or ranking.pro is None:
        return None
    fpr = np.append(0.0, ranking.fp / ranking.fp[-1])
    pro = np.append(0.0, ranking.pro)
    inside = int(np.searchsorted(fpr, limit, side="right"))
    if inside < len(fpr):
        at_limit = np.interp(limit, fpr[inside - 1 : inside + 1], pro[inside - 1 : inside + 1])
        fpr = np.append(fpr[:inside], limit)
        pro = np.append(pro[:inside], at_limit)
    return _trapezoids(fpr, pro) / limit


def image_metrics(ranking: Ranking) -> dict[str, float | None]:
    """The three image metrics, by name; all None unless there are normal and anomalous images."""
    return {
        "image_auroc": auroc(ranking),
        "image_ap": average_precision(ranking),
        "image_f1_max": f1_max(ranking),
    }


def pixel_metrics(ranking: Ranking) -> dict[str, float | None]:
    """The five pixel metrics, by name; all None unless there are defect pixels and normal pixels."""
    return {
        "pixel_auroc": auroc(ranking),
        "pixel_ap": average_precision(ranking),
        "pixel_f1_max": f1_max(ranking),
        "aupro_0.30": aupro(ranking, 0.30),
        "aupro_0.05": aupro(ranking, 0.05),
    }


def segmentation_metrics(counts: SegmentationCounts) -> dict[str, float | None]:
    """The four metrics of the final masks, by name; all None where there is no defect pixel.

    Where defects exist and no pixel is predicted, precision is 0 (scikit-learn's `zero_division=0`).
    """
    tp, fp, fn = counts.tp, counts.fp, counts.fn
    if tp + fn == 0:
        return dict.fromkeys(("seg_f1", "seg_iou", "seg_precision", "seg_recall"))
    return {
        "seg_f1": 2 * tp / (2 * tp + fp + fn),
        "seg_iou": tp / (tp + fp + fn),
        "seg_precision": tp / (tp + fp) if tp + fp else 0.0,
        "seg_recall": tp / (tp + fn),
    }


def class_f1(predicted: np.ndarray, anomalous: np.ndarray) -> float | None:
    """F1 of images predicted anomalous; both bool (N,). None where no image is anomalous."""
    predicted, anomalous = np.asarray(predicted, bool), np.asarray(anomalous, bool)
    if not anomalous.any():
        return None
    tp = int(np.count_nonzero(predicted & anomalous))
    return 2 * tp / int(np.count_nonzero(predicted) + np.count_nonzero(anomalous))


def curves_table(pixels: Ranking, images: Ranking) -> pd.DataFrame:
    """The curves for plots as a long table: `curve, x, y, threshold`, with at most 500 points per curve.

    `curve` is, over pixels, "roc" (x false-positive rate, y recall), "pr" (x recall, y precision) or "pro" (x
    false-positive rate, y PRO); over images "image_roc" or "image_pr". Thresholds fall along a curve and are null at
    its first point, which has no detections: (0, 0), or (0, 1) for precision. An undefined curve has no rows. Points
    are thinned evenly along the curve; the metrics are not computed from them.
    """
    parts = []
    for prefix, ranking in (("", pixels), ("image_", images)):
        if not ranking.defined:
            continue
        recall = ranking.tp / ranking.tp[-1]
        fpr = ranking.fp / ranking.fp[-1]
        precision = ranking.tp / (ranking.tp + ranking.fp)
        parts.append(_curve(f"{prefix}roc", ranking, fpr, recall, start=0.0))
        parts.append(_curve(f"{prefix}pr", ranking, recall, precision, start=1.0))
        if ranking.pro is not None:
            parts.append(_curve(f"{prefix}pro", ranking, fpr, ranking.pro, start=0.0))
    if not parts:
        empty = {"curve": "str", "x": "float64", "y": "float64", "threshold": "float64"}
        return pd.DataFrame({name: pd.Series(dtype=dtype) for name, dtype in empty.items()})
    return pd.concat(parts, ignore_index=True)


def _curve(name: str, ranking: Ranking, x: np.ndarray, y: np.ndarray, start: float) -> pd.DataFrame:
    x, y = np.append(0.0, x), np.append(start, y)
    kept = _thin(x, y)
    threshold = np.append(np.nan, ranking.thresholds)[kept]
    return pd.DataFrame({"curve": name, "x": x[kept], "y": y[kept], "threshold": threshold})


def _thin(x: np.ndarray, y: np.ndarray) -> np.ndarray:
    """Indexes of the first and last point in each of 250 equal cells of arc length.

    Both ends of the curve are kept, and so are both ends of every straight piece longer than a cell.
    """
    length = np.append(0.0, np.cumsum(np.hypot(np.diff(x), np.diff(y))))
    cell = np.minimum((length / length[-1] * CURVE_CELLS).astype(np.int64), CURVE_CELLS - 1)
    last = np.flatnonzero(np.diff(cell))
    return np.unique(np.concatenate([[0], last, last + 1, [len(x) - 1]]))


def _trapezoids(x: np.ndarray, y: np.ndarray) -> float:
    return float(np.dot(np.diff(x), y[1:] + y[:-1]) / 2)


def typed(table: pd.DataFrame) -> pd.DataFrame:
    """A table of metrics with nullable columns, also where all values of a column are null."""
    return table.astype({"defects": "Int64", **dict.fromkeys(METRICS, "Float64")})
