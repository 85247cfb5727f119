"""The stage: a split's anomaly maps to coarse masks and a table of the thresholds that made them."""

from __future__ import annotations

import logging
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import cv2
import numpy as np

from robis.arrays.float16 import above
from robis.binarization.closing import close_and_fill
from robis.binarization.lines import LineClosing, mask_closed_by_lines
from robis.binarization.mebin import Estimate, eroded, estimate
from robis.binarization.promise import COLUMNS as PROMISE_COLUMNS
from robis.binarization.promise import Promise, kept_threshold
from robis.binarization.statistics import MapStatistics, read_valid_map
from robis.errors import ConfigError, DataError, one_of
from robis.io.atomic import atomic_folder
from robis.io.damage import damaged
from robis.io.maps import write_mask
from robis.io.progress import tracked
from robis.io.samples import IndexedSample, read_samples
from robis.io.tables import make_table, write_table
from robis.io.threads import threaded

logger = logging.getLogger(__name__)


@dataclass(frozen=True)
class Method:
    """Which thresholds vote, the lowest deciding, and whether the pixels above it are eroded or closed by lines.

    Erosion keeps the order of sets, so the lowest threshold's mask is the union of all their masks.
    """

    mean_std: bool = False
    mebin: bool = False
    percentile: bool = False
    rate: bool = False
    erodes: bool = True
    lines: bool = False


METHODS: dict[str, Method] = {
    "mean_std": Method(mean_std=True),
    "mebin": Method(mebin=True),
    "rate": Method(rate=True),  # see `robis.binarization.promise`
    "robis": Method(mean_std=True, mebin=True),  # RoBiS (arXiv 2505.21152): the union of both
    "percentile": Method(percentile=True, erodes=False),  # SuperADD's threshold (arXiv 2605.14808), our closing
    "lines": Method(percentile=True, erodes=False, lines=True),  # SuperADD, as its public code
}

# Bytes of maps from which on loading compiled code pays: six maps of 512 x 612.
WORTH_COMPILING = 4_000_000

COLUMNS = {
    "sample_id": "str",
    "method": "str",
    "threshold": "float64",
    "mean_std": "float64",
    "mebin": "float64",
    "defects": "int64",
    "stable_first": "Int64",
    "stable_last": "Int64",
    "area": "float64",
    **PROMISE_COLUMNS,
}


@dataclass(frozen=True)
class Thresholding:
    """How anomaly maps become coarse masks.

    Attributes:
        method: one of `METHODS`.
        std_factor: standard deviations above the mean (mean_std).
        threshold_step: gray levels between two of MEBin's thresholds.
        min_interval: thresholds that a stable interval of MEBin must span.
        erosion_size: side of the erosion block in map pixels; 1 erodes nothing.
        rate, confidence: what is promised, see `robis.binarization.promise` (rate).
        percentile: of the pixels of all maps (percentile, lines).
        percentile_factor: what it is multiplied by.
        closing_sizes, closing_threshold_factor: see `close_and_fill` (percentile); no sizes: nothing is closed.
        line_reach, line_angles, line_threshold_factor: see `LineClosing` (lines).
    """

    method: str
    std_factor: float = 3.0
    threshold_step: int = 4
    min_interval: int = 4
    erosion_size: int = 6
    rate: float = 0.01
    confidence: float = 0.95
    percentile: float = 95.0
    percentile_factor: float = 1.421
    closing_sizes: Sequence[int] = ()
    closing_threshold_factor: float = 1.25
    line_reach: int = 26
    line_angles: int = 16
    line_threshold_factor: float = 0.8

    def __post_init__(self) -> None:
        if self.method not in METHODS:
            raise ConfigError(f"binarize.method: unknown method {self.method!r}. {one_of(self.method, METHODS)}")

    @property
    def votes(self) -> Method:
        return METHODS[self.method]

    @property
    def peak_erosion(self) -> int:
        """The erosion after which the peaks of maps decide whether their masks are empty."""
        return self.erosion_size if self.votes.rate else 1


@dataclass(frozen=True)
class SplitMaps:
    """The anomaly maps of a split.

    Attributes:
        samples: the sample table.
        maps: folder of maps, SAMPLE_ID.tiff: float16, finite, at least 0, usually 0..255, of any size.
    """

    samples: Path
    maps: Path

    def path_of(self, image: IndexedSample) -> Path:
        """The map of an image."""
        return self.maps / f"{image.sample_id}.tiff"

    def images(self) -> list[IndexedSample]:
        """The images, sorted by sample_id. Raises DataError when one has no map."""
        images = sorted(read_samples(self.samples), key=lambda image: image.sample_id)
        lost = [image.sample_id for image in images if not self.path_of(image).is_file()]
        if lost:
            problem = f"no anomaly map for {len(lost)} of {len(images)} samples ({lost[0]}.tiff is the first)"
            raise damaged(self.maps, problem, "merge")
        return images

    def statistics(self, threads: int = 1, *, erosion_size: int = 1) -> MapStatistics:
        """Statistics of all maps, see `MapStatistics.of`. Raises DataError."""
        images = self.images()
        return MapStatistics.of(map(self.path_of, images), threads, erosion_size=erosion_size, images=images)


def binarize_split(
    split: SplitMaps, reference: SplitMaps, masks: Path, thresholds: Path, options: Thresholding, *, threads: int = 1
) -> None:
    """Turn every anomaly map of a split into a coarse mask.

    Args:
        split: the maps.
        reference: those that the thresholds are taken from: the same, or another split's.
        masks: folder that is written: SAMPLE_ID.png, uint8 {0, 255}, each of its map's size.
        thresholds: table that is written, one row per image: the threshold that made the mask (map units, compared in
            float32), the votes that it is the lowest of (null where the method has no such vote), the estimated
            number of defects (MEBin's, otherwise the 8-connected components of the mask), the levels between which
            that number is stable, the mask's share of the image, and what the threshold promises (`Promise`).
        options: how.
        threads: maps binarized at a time.

    Raises:
        DataError: a map is missing or cannot be used, or the maps of another split give no threshold or are too few.
        DiskFullError: there is no room for the masks.
    """
    images = split.images()
    statistics = reference.statistics(threads, erosion_size=options.peak_erosion)
    if reference != split:
        _check_reference(statistics, reference.maps, options)
    calibration = Calibration.of(statistics, options)
    promised = calibration.promise.columns() if calibration.promise else dict.fromkeys(PROMISE_COLUMNS)
    compiled = sum(split.path_of(image).stat().st_size for image in images) > WORTH_COMPILING

    def binarize(image: IndexedSample) -> dict[str, object]:
        anomaly_map = read_valid_map(split.path_of(image))
        ignored = image.ignored_at(anomaly_map.shape)
        coarse = coarse_mask(anomaly_map, calibration, options, compiled=compiled, ignored=ignored)
        mask, mebin = coarse.mask, coarse.mebin
        write_mask(folder / f"{image.sample_id}.png", mask)
        return {
            "sample_id": image.sample_id,
            "method": options.method,
            "threshold": float(coarse.threshold),
            "mean_std": calibration.mean_std,
            "mebin": mebin.threshold if mebin else None,
            "defects": mebin.defects if mebin else cv2.connectedComponents(mask, connectivity=8)[0] - 1,
            "stable_first": mebin.stable_first if mebin else None,
            "stable_last": mebin.stable_last if mebin else None,
            "area": cv2.countNonZero(mask) / mask.size,
            **promised,
        }

    with atomic_folder(masks) as folder:
        rows = list(tracked(threaded(binarize, images, threads), len(images), "images"))
    write_table(thresholds, make_table(rows).astype(COLUMNS)[list(COLUMNS)])


@dataclass(frozen=True)
class Calibration:
    """What the masks of all maps share, taken from the reference maps.

    Attributes:
        lowest_max, highest_max: see `MapStatistics`; float16 values.
        mean_std, percentile, rate: thresholds in map units; None where the method has no such vote.
        promise: what the threshold `rate` promises.
    """

    lowest_max: float
    highest_max: float
    mean_std: float | None = None
    percentile: float | None = None
    rate: float | None = None
    promise: Promise | None = None

    @classmethod
    def of(cls, statistics: MapStatistics, options: Thresholding) -> Calibration:
        """From the statistics of the reference maps, their peaks after `options.peak_erosion`. Raises DataError."""
        mean_std = percentile = rate = promise = None
        if options.votes.mean_std:
            mean, std = statistics.mean_std()
            mean_std = float(mean + np.float32(options.std_factor) * std)
        if options.votes.percentile:
            percentile = options.percentile_factor * statistics.percentile(options.percentile)
        if options.votes.rate:
            rate, promise = kept_threshold(statistics.peaks, options.rate, options.confidence)
        maxima = (float(statistics.lowest_max), float(statistics.highest_max))
        return cls(*maxima, mean_std, percentile, rate, promise)

    @classmethod
    def of_maps(cls, reference: SplitMaps, options: Thresholding, threads: int = 1) -> Calibration:
        """Taken from the maps of another split. Raises DataError where they give no threshold."""
        statistics = reference.statistics(threads, erosion_size=options.peak_erosion)
        _check_reference(statistics, reference.maps, options)
        return cls.of(statistics, options)

    def lowest(self, mebin: Estimate | None) -> np.float32:
        """The lowest vote. In float32: NumPy would round a Python number to the map's float16 to compare them."""
        candidates = (self.mean_std, mebin.threshold if mebin else None, self.percentile, self.rate)
        return np.float32(min(value for value in candidates if value is not None))


@dataclass(frozen=True, eq=False)
class CoarseMask:
    """A coarse mask and what made it.

    Attributes:
        mask: uint8 {0, 1} (H, W).
        threshold: in map units.
        mebin: MEBin's vote; None where the method has none.
    """

    mask: np.ndarray
    threshold: np.float32
    mebin: Estimate | None


def coarse_mask(
    anomaly_map: np.ndarray,
    calibration: Calibration,
    options: Thresholding,
    *,
    compiled: bool,
    ignored: np.ndarray | None = None,
) -> CoarseMask:
    """The coarse mask of one anomaly map.

    Args:
        anomaly_map: as `valid_map` gives it.
        calibration: what all maps share.
        options: how.
        compiled: see `estimate`; the result is the same.
        ignored: pixels that no mask has, bool (H, W), 0 in the map; None: nothing is ignored.
    """
    mebin = _mebin_vote(anomaly_map, calibration, options, compiled)
    threshold = calibration.lowest(mebin)
    mask = _mask_above(anomaly_map, threshold, options)
    if ignored is not None:
        # Closing may have filled them.
        mask[ignored] = 0
    return CoarseMask(mask, threshold, mebin)


def _mebin_vote(
    anomaly_map: np.ndarray, calibration: Calibration, options: Thresholding, compiled: bool
) -> Estimate | None:
    if not options.votes.mebin:
        return None
    return estimate(
        anomaly_map,
        np.float16(calibration.lowest_max),
        np.float16(calibration.highest_max),
        threshold_step=options.threshold_step,
        min_interval=options.min_interval,
        erosion_size=options.erosion_size,
        compiled=compiled,
    )


def _mask_above(anomaly_map: np.ndarray, threshold: np.float32, options: Thresholding) -> np.ndarray:
    """Pixels above a threshold, uint8 {0, 1} (H, W), closed and eroded as the method does."""
    if options.votes.lines:
        factor = options.line_threshold_factor
        closing = LineClosing(options.line_reach, options.line_angles, factor, options.erosion_size)
        return mask_closed_by_lines(anomaly_map, float(threshold), closing)
    if options.closing_sizes and not options.votes.erodes:
        closed = close_and_fill(anomaly_map, threshold, options.closing_sizes, options.closing_threshold_factor)
        return closed.astype(np.uint8)
    mask = above(anomaly_map, threshold).view(np.uint8)
    return eroded(mask, options.erosion_size) if options.votes.erodes else mask


def _check_reference(statistics: MapStatistics, folder: Path, options: Thresholding) -> None:
    """Raise DataError where the maps of another split give no threshold."""
    split, keys = folder.name, "binarize.calibrate and merge.normalize"
    if statistics.is_flat:
        raise DataError(
            f"{folder}: all pixels of the maps of the split {split} have the same value, so that no threshold can be "
            f"taken from them. This happens where its images are copies of training images, or the model scores "
            f"nothing. Give {split} normal images of its own, or set {keys} to split."
        )
    if not options.votes.mebin or statistics.lowest_max < statistics.highest_max:
        return
    problem = (
        f"{folder}: the maps of the split {split} all have the same maximum, {statistics.highest_max:g}, between which "
        f"MEBin finds no thresholds. Give {split} at least two different images"
    )
    if options.method == "mebin":
        raise DataError(f"{problem}, use another binarize.method, or set {keys} to split.")
    logger.warning("%s; until then %s is mean_std alone.", problem, options.method)
