"""The figures of one category and split: curves, image scores, thresholds, training, defect sizes."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from itertools import pairwise
from typing import Any

import numpy as np
import pandas as pd

from robis.report.drawing import Area, Box, Dot, Drawing, Line
from robis.report.plots import TOP, Axis, Entry, Plot, decades, drawing, evenly, linear, series, shares

PRO_LIMITS = (0.30, 0.05)
BINS = 32
MOST_IMAGES = 400
MOST_REGIONS = 600
MOST_STEPS = 300
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


@dataclass(frozen=True)
class Figure:
    """A drawing with the name of its file, its title, and what it shows in a sentence."""

    name: str
    title: str
    caption: str
    drawing: Drawing


def curve_figures(curves: Mapping[str, pd.DataFrame], metrics: Mapping[str, Mapping[str, Any]]) -> list[Figure]:
    """One figure per kind of curve, with a line per run; none for a curve that no run defines.

    curves: run -> its table of curves. metrics: run -> its metrics in 0..1, of which the legend gives one.
    """
    figures = []
    for kind, (title, x_label, y_label, metric) in CURVES.items():
        limit = PRO_LIMITS[0] if kind == "pro" else 1.0
        plot = Plot(shares(x_label, limit), shares(y_label))
        legend = []
        if kind == "pro":
            plot.marks.append(Line([plot.at(PRO_LIMITS[1], 0), plot.at(PRO_LIMITS[1], 1)], "soft", 1.0, (2, 3)))
        elif kind.endswith("roc"):
            plot.marks.append(Line([plot.at(0, 0), plot.at(1, 1)], "grid", 1.0, (4, 3)))
        for number, (run, table) in enumerate(curves.items()):
            points = table[table["curve"] == kind]
            if len(points):
                xs, ys = _up_to(points["x"].to_numpy(), points["y"].to_numpy(), limit)
                color, dash = series(number)
                plot.marks.append(Line(plot.line(xs, ys), color, 1.8, dash, title=run))
                value = metrics[run][metric]
                legend.append(Entry(run, color, "" if pd.isna(value) else f"{100 * value:.1f}", dash))
        if legend:
            caption = f"The legend gives {METRIC_NAMES[metric]} in percent."
            if kind == "pro":
                caption += (
                    " PRO is the mean covered share of the ground-truth regions; the dotted line ends AU-PRO 0.05."
                )
            figures.append(Figure(kind, title, caption, drawing(f"{title} of {_listed(curves)}", [plot], legend)))
    return figures


def _up_to(x: np.ndarray, y: np.ndarray, limit: float) -> tuple[np.ndarray, np.ndarray]:
    """A curve to a limit of x, with its value there."""
    inside = int(np.searchsorted(x, limit, side="right"))
    if inside == len(x):
        return x, y
    return np.append(x[:inside], limit), np.append(y[:inside], np.interp(limit, x, y))


def score_figure(run: str, scores: np.ndarray, labels: Sequence[str | None]) -> Figure:
    """Histogram of image scores by label."""
    groups = {
        name: np.array([score for score, label in zip(scores, labels, strict=True) if (label or "unknown") == name])
        for name in ("normal", "anomalous", "unknown")
    }
    groups = {name: found for name, found in groups.items() if len(found)}
    low, high = float(np.min(scores)), float(np.max(scores))
    edges = np.linspace(low, high if high > low else low + 1.0, BINS + 1)
    counts = {name: np.histogram(found, edges)[0] for name, found in groups.items()}
    x = linear("Image score", scores, zero=False)
    y = linear("Images", [max(found.max() for found in counts.values())])
    whole = [(tick, f"{tick:,.0f}") for tick, _ in y.ticks if tick == int(tick)]
    plot = Plot(x, Axis(y.low, y.high, y.label, whole))
    for name, found in counts.items():
        outline = [plot.at(edges[0], 0)]
        for number, count in enumerate(found):
            outline += [plot.at(edges[number], count), plot.at(edges[number + 1], count)]
        outline.append(plot.at(edges[-1], 0))
        plot.marks += [Area(outline, name, 0.3), Line(outline, name, 1.3)]
    legend = [Entry(name, name, str(len(found)), dot=True) for name, found in groups.items()]
    title = "Image scores"
    caption = "The less the histograms overlap, the better images are told apart by their scores."
    if "unknown" in groups:
        caption += " Unknown: images without a label."
    return Figure(f"{run}_scores", title, caption, drawing(f"Histogram of image scores of {run}", [plot], legend))


def threshold_figure(run: str, thresholds: pd.DataFrame, labels: Mapping[str, str | None]) -> Figure:
    """Each image's threshold, and MEBin's stable interval where there is one.

    thresholds: the stage's table. labels: sample_id -> label.
    """
    table = thresholds.sort_values(["threshold", "sample_id"], kind="stable")
    common = table["mean_std"].dropna().unique()
    intervals = bool(table["stable_first"].notna().any())
    rows = table.to_dict("records")
    shown = [(place, rows[place]) for place in evenly(np.arange(len(rows)), MOST_IMAGES)]
    colors = {str(row["sample_id"]): labels.get(str(row["sample_id"])) or "unknown" for row in rows}
    axis = Axis(0.0, float(max(len(rows), 2) - 1), "Images by threshold")
    top = linear("Threshold", table["threshold"].to_numpy(float))
    plots = [Plot(replace(axis, label="") if intervals else axis, top, height=96.0 if intervals else 210.0)]
    if len(common) == 1:
        ends = [plots[0].at(axis.low, common[0]), plots[0].at(axis.high, common[0])]
        plots[0].marks.append(Line(ends, "accent", 1.2, (6, 3), title=f"mean + std: {common[0]:.4g}"))
    for place, row in shown:
        x, y = plots[0].at(place, row["threshold"])
        votes = "".join(f", {vote} {row[vote]:.4g}" for vote in ("mean_std", "mebin") if pd.notna(row[vote]))
        title = f"{row['sample_id']}: {row['threshold']:.4g}{votes}"
        plots[0].marks.append(Dot(x, y, 2.3, colors[str(row["sample_id"])], 0.8, title))
    if intervals:
        plots.append(_intervals(shown, axis, colors, top=plots[0].bottom + TOP + 4))
    names = [name for name in ("normal", "anomalous", "unknown") if name in colors.values()]
    legend = [Entry(name, name, dot=True) for name in names]
    if len(common) == 1:
        legend.append(Entry("mean + std", "accent", dash=(6, 3)))
    caption = "The threshold of each image in the units of its map."
    if intervals:
        caption += " Below, the gray levels between which MEBin's number of defects stays the same; none: no defect."
    if len(shown) < len(rows):
        caption += f" {len(shown)} of {len(rows)} images, evenly spread."
    picture = drawing(f"Thresholds of the images of {run}", plots, legend)
    return Figure(f"{run}_thresholds", "Thresholds", caption, picture)


def _intervals(
    shown: Sequence[tuple[int, Mapping[Any, Any]]], axis: Axis, colors: Mapping[str, str], top: float
) -> Plot:
    levels = Axis(0.0, 255.0, "Stable interval", [(level, str(level)) for level in (0, 85, 170, 255)])
    plot = Plot(axis, levels, height=84.0, top=top)
    for place, row in shown:
        if pd.notna(row["stable_first"]):
            first, last = float(row["stable_first"]), float(row["stable_last"])
            title = f"{row['sample_id']}: {row['defects']} defects from level {first:.0f} to {last:.0f}"
            ends = [plot.at(place, last), plot.at(place, first)]
            plot.marks.append(Line(ends, colors[str(row["sample_id"])], 1.6, opacity=0.8, title=title))
    return plot


def training_figure(run: str, history: pd.DataFrame) -> Figure | None:
    """Loss and coherence over the training steps; None where nothing was trained."""
    if not len(history) or "loss" not in history:
        return None
    parts = np.array_split(np.arange(len(history)), min(len(history), MOST_STEPS))
    steps = np.array([history["step"].iloc[part].mean() for part in parts])
    curves = {name: np.array([history[name].iloc[part].mean() for part in parts]) for name in ("loss", "coherence")}
    plot = Plot(linear("Step", steps), linear("Loss", np.concatenate(list(curves.values()))))
    legend = []
    for number, (name, values) in enumerate(curves.items()):
        color, _ = series(number)
        plot.marks.append(Line(plot.line(steps, values), color, 1.6))
        legend.append(Entry(f"{name}, last", color, f"{history[name].iloc[-1]:.3g}"))
    caption = "Reconstruction loss plus weighted coherence loss, and coherence loss alone"
    caption += ", each point a mean of several steps." if len(history) > MOST_STEPS else "."
    return Figure(f"{run}_training", "Training", caption, drawing(f"Training of {run}", [plot], legend))


def size_figure(run: str, regions: pd.DataFrame) -> Figure | None:
    """Defect size against recall; None where there is no region.

    regions: a row per ground-truth region: `sample_id`, `row` (of the gallery, or null), `area` in ground-truth
    pixels, `covered` (share of it inside the final mask, 0..1).
    """
    if not len(regions):
        return None
    area, covered = regions["area"].to_numpy(float), regions["covered"].to_numpy(float)
    plot = Plot(decades("Area of the defect, pixels", area), shares("Covered"))
    for low, high, mean, found, number in size_bins(area, covered):
        (x0, y), (x1, _) = plot.at(low, mean), plot.at(high, mean)
        title = f"{low:.0f} to {high:.0f} pixels: {number} defects, {100 * mean:.1f} % covered, {found} touched"
        plot.marks.append(Box(x0, y, x1 - x0, plot.bottom - y, "band", 0.8, title=title))
        plot.marks.append(Line([(x0, y), (x1, y)], "accent", 1.8))
    rows = regions.to_dict("records")
    for place in evenly(np.arange(len(rows)), MOST_REGIONS):
        region = rows[place]
        x, y = plot.at(region["area"], region["covered"])
        title = f"{region['sample_id']}: {region['area']} pixels, {100 * region['covered']:.1f} % covered"
        sample = None if pd.isna(region["row"]) else int(region["row"])
        color = "anomalous" if region["covered"] == 0 else "series-0"
        plot.marks.append(Dot(x, y, 2.6, color, 0.65, title, sample))
    missed = int((covered == 0).sum())
    legend = [Entry("touched by the final mask", "series-0", str(len(covered) - missed), dot=True)]
    if missed:
        legend.append(Entry("missed", "anomalous", str(missed), dot=True))
    caption = "Each ground-truth region: its size, and the share of it that the final mask covers; bars are means."
    if len(regions) > MOST_REGIONS:
        caption += f" {MOST_REGIONS} of {len(regions)} regions are drawn; the means are over all."
    picture = drawing(f"Size of the defects against their covered share, {run}", [plot], legend)
    return Figure(f"{run}_sizes", "Defect size and recall", caption, picture)


def size_bins(area: np.ndarray, covered: np.ndarray) -> list[tuple[float, float, float, int, int]]:
    """(from, below, mean covered share, touched, number) of the regions in each half decade of area that has some."""
    edges = 10.0 ** (np.arange(2 * int(np.ceil(np.log10(area.max()) + 1e-9)) + 2) / 2)
    bins = []
    for low, high in pairwise(edges):
        inside = (area >= low) & (area < high)
        if inside.any():
            found = covered[inside]
            bins.append((low, high, float(found.mean()), int((found > 0).sum()), int(inside.sum())))
    return bins


def _listed(names: Mapping[str, object]) -> str:
    return ", ".join(names)
