"""The figures of one category and split: curves, image scores, thresholds, training, defect sizes."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from itertools import pairwise
from typing import Any, Literal

import numpy as np
import pandas as pd
from matplotlib.axes import Axes
from matplotlib.ticker import FuncFormatter, MaxNLocator

from robis.report.canvas import HEIGHT, Entry, Figure, Mark, label_axes, new_picture, style
from robis.report.colors import DASHES, LIGHT, SERIES

PRO_LIMITS = (0.30, 0.05)
BINS, FEWEST_BINS = 32, 6
MOST_IMAGES = 400
MOST_REGIONS = 600
MOST_STEPS = 300
LABELS = ("normal", "anomalous", "unknown")
# Curve of the curves' table -> title, the axes, and the metric that sums it up.
CURVES = {
    "image_roc": ("Image ROC", "False-positive rate", "Recall", "image_auroc"),
    "image_pr": ("Image precision and recall", "Recall", "Precision", "image_ap"),
    "roc": ("Pixel ROC", "False-positive rate", "Recall", "pixel_auroc"),
    "pr": ("Pixel precision and recall", "Recall", "Precision", "pixel_ap"),
    "pro": ("Per-region overlap", "False-positive rate", "PRO", "aupro_0.30"),
}
METRIC_NAMES = {
    "image_auroc": "AUROC",
    "image_ap": "AP",
    "pixel_auroc": "AUROC",
    "pixel_ap": "AP",
    "aupro_0.30": "AU-PRO 0.30",
}


def curve_figures(curves: Mapping[str, pd.DataFrame], metrics: Mapping[str, Mapping[str, Any]]) -> list[Figure]:
    """One figure per kind of curve, with a line per run; none for a curve that no run defines.

    Args:
        curves: run -> its table of curves.
        metrics: run -> its metrics in 0..1, of which the legend gives one.
    """
    figures = []
    for kind in CURVES:
        tables = {run: table[table["curve"] == kind] for run, table in curves.items()}
        if any(len(table) for table in tables.values()):
            figures.append(_curve_figure(kind, tables, metrics))
    return figures


@style()
def _curve_figure(kind: str, tables: Mapping[str, pd.DataFrame], metrics: Mapping[str, Mapping[str, Any]]) -> Figure:
    title, x_label, y_label, metric = CURVES[kind]
    limit = PRO_LIMITS[0] if kind == "pro" else 1.0
    lines = [(run, *_series(place)) for place, run in enumerate(tables) if len(tables[run])]
    values = {run: metrics[run][metric] for run, _, _ in lines}
    texts = {run: "" if pd.isna(value) else f"{100 * value:.1f}" for run, value in values.items()}
    picture, (axes,) = new_picture([Entry(run, color, texts[run], dash) for run, color, dash in lines])
    label_axes(axes, x_label, y_label)
    if kind == "pro":
        axes.plot([PRO_LIMITS[1]] * 2, [0, 1], color=LIGHT["soft"], linewidth=0.8, linestyle=DASHES[2])
    elif kind.endswith("roc"):
        axes.plot([0, 1], [0, 1], color=LIGHT["grid"], linewidth=0.8, linestyle=DASHES[1])
    for run, color, dash in lines:
        xs, ys = up_to(tables[run]["x"].to_numpy(), tables[run]["y"].to_numpy(), limit)
        axes.plot(xs, ys, color=LIGHT[color], linestyle=dash, linewidth=1.4, clip_on=False, gid=f"line of {run}")
    axes.set(xlim=(0, limit), ylim=(0, 1))
    for axis, high in ((axes.xaxis, limit), (axes.yaxis, 1.0)):
        axis.set_major_locator(MaxNLocator(6, steps=[1, 2, 5, 10]))
        axis.set_major_formatter(FuncFormatter(lambda value, _: f"{value:.2g}"))
        axis.set_view_interval(0, high)
    caption = f"The legend gives {METRIC_NAMES[metric]} in percent."
    if kind == "pro":
        caption += " PRO is the mean covered share of the ground-truth regions; AU-PRO 0.05 ends at the dotted line."
    marks = {f"line of {run}": [Mark(f"{run} {texts[run]}".rstrip())] for run, _, _ in lines}
    return Figure(kind, title, caption, f"{title} of {', '.join(values)}", picture, marks)


def up_to(x: np.ndarray, y: np.ndarray, limit: float) -> tuple[np.ndarray, np.ndarray]:
    """A curve (N,) of rising x, cut at a limit of x, with its interpolated value there."""
    inside = int(np.searchsorted(x, limit, side="right"))
    if inside == len(x):
        return x, y
    return np.append(x[:inside], limit), np.append(y[:inside], np.interp(limit, x, y))


def _series(number: int) -> tuple[str, Any]:
    """Color and dashes of the n-th series: colors first, then dashes."""
    return f"series-{number % SERIES}", DASHES[number // SERIES % len(DASHES)]


def score_bins(images: int) -> int:
    """Bins of a histogram of so many images: fewer where most would hold none or one."""
    return min(BINS, max(FEWEST_BINS, round(2 * images**0.5)))


@style()
def score_figure(run: str, scores: np.ndarray, labels: Sequence[str | None], limit: float | None = None) -> Figure:
    """Histogram of image scores (N,) by label, of images with a finite score; with a line at the limit, if any."""
    names = np.array([label or "unknown" for label in labels])
    finite = np.isfinite(scores)
    groups = {name: scores[finite & (names == name)] for name in LABELS if (finite & (names == name)).any()}
    legend = [Entry(name, name, f"{len(values):,}", dot=True) for name, values in groups.items()]
    if limit is not None:
        legend.append(Entry("limit", "accent", f"{limit:.4g}", dash=DASHES[1]))
    picture, (axes,) = new_picture(legend)
    label_axes(axes, "Image score", "Images")
    low, high = (scores[finite].min(), scores[finite].max()) if groups else (0.0, 1.0)
    edges = np.linspace(low, high if high > low else low + 1.0, score_bins(int(finite.sum())) + 1)
    marks = {}
    for name, values in groups.items():
        counts, _ = np.histogram(values, edges)
        axes.stairs(counts, edges, color=LIGHT[name], fill=True, alpha=0.3, gid=name)
        axes.stairs(counts, edges, color=LIGHT[name], linewidth=1.0, clip_on=False)
        marks[name] = [Mark(f"{len(values)} {name}: {values.min():.4g} to {values.max():.4g}")]
    if limit is not None:
        axes.axvline(limit, color=LIGHT["accent"], linewidth=0.9, linestyle=DASHES[1], gid="limit")
        marks["limit"] = [Mark(f"limit: {limit:.4g}")]
    _round_axis(axes, "y", whole=True)
    _round_axis(axes, "x", zero=False)
    caption = "The less the histograms overlap, the better the scores separate normal from anomalous images."
    if limit is not None:
        caption += " Images above the limit are judged anomalous."
    if "unknown" in groups:
        caption += " Unknown: images without a label."
    return Figure(f"{run}_scores", "Image scores", caption, f"Histogram of image scores of {run}", picture, marks)


def _round_axis(axes: Axes, which: Literal["x", "y"], *, zero: bool = True, whole: bool = False) -> None:
    """Four to seven round ticks that enclose the data, and zero if `zero`."""
    axis = axes.xaxis if which == "x" else axes.yaxis
    low, high = axes.dataLim.intervalx if which == "x" else axes.dataLim.intervaly
    locator = MaxNLocator(5, steps=[1, 2, 5, 10], integer=whole)
    axis.set_major_locator(locator)
    axis.set_major_formatter(FuncFormatter(lambda value, _: f"{value:,.12g}"))
    ends = locator.view_limits(min(low, 0.0) if zero else low, high)
    axes.set(**{f"{which}lim": ends})


@style()
def threshold_figure(run: str, thresholds: pd.DataFrame, labels: Mapping[str, str | None]) -> Figure:
    """Each image's threshold, and MEBin's stable interval where there is one.

    Args:
        run: name of the run.
        thresholds: the table of the stage `binarize`.
        labels: sample_id -> label.
    """
    table = thresholds.sort_values(["threshold", "sample_id"], kind="stable").reset_index(drop=True)
    table["color"] = [labels.get(str(name)) or "unknown" for name in table["sample_id"]]
    shown = table.iloc[evenly(len(table), MOST_IMAGES)]
    intervals = shown[shown["stable_first"].notna()]
    common = table["mean_std"].dropna().unique()
    legend = [Entry(name, name, dot=True) for name in LABELS if (table["color"] == name).any()]
    if len(common) == 1:
        legend.append(Entry("mean + std", "accent", dash=DASHES[1]))
    picture, (axes, *below) = new_picture(legend, (72.0, 62.0) if len(intervals) else (HEIGHT,))
    label_axes(axes, "" if below else "Images by threshold", "Threshold")
    marks = {"thresholds": _draw_thresholds(axes, shown)}
    if len(common) == 1:
        axes.axhline(common[0], color=LIGHT["accent"], linewidth=0.9, linestyle=DASHES[1], gid="mean and std")
        marks["mean and std"] = [Mark(f"mean + std: {common[0]:.4g}")]
    _round_axis(axes, "y")
    for lower in below:
        label_axes(lower, "Images by threshold", "Stable interval")
        marks["intervals"] = _draw_intervals(lower, intervals)
        lower.set(ylim=(0, 255), yticks=[0, 85, 170, 255])
    for each in (axes, *below):
        each.set(xlim=(-0.5, max(len(table), 2) - 0.5), xticks=[])
    caption = "The threshold of each image in the units of its map."
    if below:
        caption += " Below, the gray levels over which MEBin's number of defects stays the same; none: no defect."
    if len(shown) < len(table):
        caption += f" {len(shown)} of {len(table):,} images, evenly spread."
    return Figure(f"{run}_thresholds", "Thresholds", caption, f"Thresholds of the images of {run}", picture, marks)


def _draw_thresholds(axes: Axes, table: pd.DataFrame) -> list[Mark]:
    colors = [LIGHT[name] for name in table["color"]]
    axes.scatter(table.index, table["threshold"], 9, colors, alpha=0.8, lw=0, clip_on=False, gid="thresholds", zorder=3)
    marks = []
    for row in table.to_dict("records"):
        votes = "".join(f", {vote} {row[vote]:.4g}" for vote in ("mean_std", "mebin") if pd.notna(row[vote]))
        marks.append(Mark(f"{row['sample_id']}: {row['threshold']:.4g}{votes}"))
    return marks


def _draw_intervals(axes: Axes, table: pd.DataFrame) -> list[Mark]:
    first, last = table["stable_first"].astype(float), table["stable_last"].astype(float)
    colors = [LIGHT[name] for name in table["color"]]
    axes.vlines(table.index, last, first, colors, linewidth=1.3, alpha=0.8, clip_on=False, gid="intervals")
    return [
        Mark(f"{row['sample_id']}: {row['defects']} defects from level {row['stable_first']} to {row['stable_last']}")
        for row in table.to_dict("records")
    ]


@style()
def training_figure(run: str, history: pd.DataFrame) -> Figure | None:
    """Loss and coherence over the training steps; None where nothing was trained."""
    if not len(history) or "loss" not in history:
        return None
    parts = np.array_split(np.arange(len(history)), min(len(history), MOST_STEPS))
    steps = [history["step"].iloc[part].mean() for part in parts]
    names = [name for name in ("loss", "coherence") if name in history and history[name].notna().any()]
    legend = [
        Entry(f"{name}, last", f"series-{place}", f"{history[name].iloc[-1]:.3g}") for place, name in enumerate(names)
    ]
    picture, (axes,) = new_picture(legend)
    label_axes(axes, "Step", "Loss")
    for place, name in enumerate(names):
        values = [history[name].iloc[part].mean() for part in parts]
        axes.plot(steps, values, color=LIGHT[f"series-{place}"], linewidth=1.2, clip_on=False, gid=name)
    _round_axis(axes, "x")
    _round_axis(axes, "y")
    caption = "Reconstruction loss"
    caption += " plus weighted coherence loss, and coherence loss alone" if "coherence" in names else ""
    caption += ", each point a mean of several steps." if len(history) > MOST_STEPS else "."
    marks = {name: [Mark(name)] for name in names}
    return Figure(f"{run}_training", "Training", caption, f"Training of {run}", picture, marks)


@style()
def size_figure(run: str, regions: pd.DataFrame) -> Figure | None:
    """Defect size against recall; None where there is no region.

    Args:
        run: name of the run.
        regions: a row per ground-truth region: `sample_id`, `row` (of the gallery, or null), `area` in ground-truth
            pixels, `covered` (share of it inside the final mask, 0..1).
    """
    if not len(regions):
        return None
    area, covered = regions["area"].to_numpy(float), regions["covered"].to_numpy(float)
    untouched = int((covered == 0).sum())
    legend = [Entry("touched by the final mask", "series-0", f"{len(covered) - untouched:,}", dot=True)]
    if untouched:
        legend.append(Entry("not touched", "anomalous", f"{untouched:,}", dot=True))
    picture, (axes,) = new_picture(legend)
    label_axes(axes, "Area of the defect, pixels", "Covered")
    bins = size_bins(area, covered)
    lows, highs, means, _, _ = (list(column) for column in zip(*bins, strict=True))
    widths = np.subtract(highs, lows)
    axes.bar(lows, means, widths, align="edge", color=LIGHT["band"], alpha=0.8, linewidth=0)
    axes.hlines(means, lows, highs, LIGHT["accent"], linewidth=1.4, clip_on=False, gid="means")
    marks = {"means": [Mark(_bin_title(*each)) for each in bins]}
    shown = regions.iloc[evenly(len(regions), MOST_REGIONS)]
    marks["regions"] = _draw_regions(axes, shown)
    _decades(axes, area.min(), highs[-1])
    axes.set_ylim(0, 1)
    axes.yaxis.set_major_formatter(FuncFormatter(lambda value, _: f"{value:.1g}"))
    caption = "Each ground-truth region: its size, and the share of it that the final mask covers; bars are means."
    if len(shown) < len(regions):
        caption += f" {len(shown)} of {len(regions):,} regions are drawn; the means are over all."
    description = f"Size of the defects against their covered share, {run}"
    return Figure(f"{run}_sizes", "Defect size and recall", caption, description, picture, marks)


def _decades(axes: Axes, low: float, high: float) -> None:
    """A logarithmic horizontal axis with a tick at each power of ten."""
    first = int(np.floor(np.log10(low)))
    last = max(first + 1, int(np.ceil(np.log10(high) - 1e-9)))
    ticks = [10.0**power for power in range(first, last + 1)]
    axes.set(xscale="log", xlim=(ticks[0], ticks[-1]))
    axes.set_xticks(ticks, [f"{tick:,.0f}" for tick in ticks])
    axes.set_xticks([], minor=True)
    # Its many digits would leave the picture.
    axes.get_xticklabels()[-1].set_horizontalalignment("right")


def _bin_title(low: float, high: float, mean: float, touched: int, number: int) -> str:
    return f"{low:,.0f} to {high:,.0f} pixels: {number} defects, {100 * mean:.1f} % covered, {touched} touched"


def _draw_regions(axes: Axes, regions: pd.DataFrame) -> list[Mark]:
    colors = [LIGHT["anomalous" if covered == 0 else "series-0"] for covered in regions["covered"]]
    axes.scatter(
        regions["area"], regions["covered"], 11, colors, alpha=0.65, lw=0, clip_on=False, gid="regions", zorder=3
    )
    return [
        Mark(
            f"{row['sample_id']}: {row['area']:,} pixels, {100 * row['covered']:.1f} % covered",
            None if pd.isna(row["row"]) else int(row["row"]),
        )
        for row in regions.to_dict("records")
    ]


def size_bins(area: np.ndarray, covered: np.ndarray) -> list[tuple[float, float, float, int, int]]:
    """(from, below, mean covered share, touched, number) of the regions in each half decade of area that has some."""
    edges = 10.0 ** (np.arange(2 * int(np.ceil(np.log10(area.max()) + 1e-9)) + 2) / 2)
    bins = []
    for low, high in pairwise(edges):
        shares = covered[(area >= low) & (area < high)]
        if len(shares):
            bins.append((float(low), float(high), float(shares.mean()), int((shares > 0).sum()), len(shares)))
    return bins


def evenly(number: int, most: int) -> np.ndarray:
    """At most `most` of the places 0 to number - 1, evenly spread, the first and the last among them."""
    return np.unique(np.linspace(0, number - 1, min(number, most)).round().astype(int)) if number else np.arange(0)
