"""Pixel metrics as they are usually computed: all pixels of a split in one array, sorted once per metric."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from scipy.ndimage import label
from sklearn.metrics import average_precision_score, precision_recall_curve, roc_auc_score


def au_pro(maps: Sequence[np.ndarray], masks: Sequence[np.ndarray], limits: tuple[float, ...]) -> list[float]:
    """Area under PRO over the false-positive rate up to each limit, from all pixels sorted by score.

    Every region's pixels add 1 / (its area * number of regions) to PRO, every normal pixel 1 / (their number) to the
    false-positive rate; equal scores are one threshold; trapezoids, interpolated at the limit.
    """
    scores = np.concatenate([values.ravel() for values in maps]).astype(np.float32)
    gained = np.zeros(scores.size)
    false = np.zeros(scores.size)
    start, regions = 0, 0
    for mask in masks:
        labeled, count = label(mask, structure=np.ones((3, 3)))
        labels = labeled.ravel()
        area = np.bincount(labels)
        part = slice(start, start + labels.size)
        gained[part] = np.where(labels > 0, 1 / area[labels], 0)
        false[part] = labels == 0
        start += labels.size
        regions += count
    order = np.argsort(-scores, kind="stable")
    scores = scores[order]
    pro = np.cumsum(gained[order]) / regions
    fpr = np.cumsum(false[order]) / false.sum()
    last = np.append(scores[1:] != scores[:-1], True)
    fpr, pro = np.append(0.0, fpr[last]), np.append(0.0, pro[last])
    areas = []
    for limit in limits:
        inside = fpr <= limit
        x = np.append(fpr[inside], limit)
        y = np.append(pro[inside], np.interp(limit, fpr, pro))
        areas.append(float(np.sum(np.diff(x) * (y[1:] + y[:-1]) / 2)) / limit)
    return areas


def pixel_metrics(maps: Sequence[np.ndarray], masks: Sequence[np.ndarray]) -> dict[str, float]:
    """The five pixel metrics by scikit-learn and `au_pro`; maps float16 (H, W), masks bool (H, W)."""
    scores = np.concatenate([values.ravel() for values in maps]).astype(np.float32)
    truth = np.concatenate([mask.ravel() for mask in masks])
    precision, recall, _ = precision_recall_curve(truth, scores)
    both = precision + recall
    f1 = np.divide(2 * precision * recall, both, out=np.zeros_like(both), where=both > 0)
    at_30, at_05 = au_pro(maps, masks, (0.30, 0.05))
    return {
        "pixel_auroc": float(roc_auc_score(truth, scores)),
        "pixel_ap": float(average_precision_score(truth, scores)),
        "pixel_f1_max": float(f1.max()),
        "aupro_0.30": at_30,
        "aupro_0.05": at_05,
    }
