"""Figures of the probability of detection (POD) by the size of a defect."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pandas as pd
from matplotlib.axes import Axes
from matplotlib.ticker import FuncFormatter

from robis.io.tables import read_table
from robis.report.canvas import Entry, Figure, Mark, label_axes, new_picture, style
from robis.report.colors import DASHES, LIGHT
from robis.report.detectability import BANDS, COLUMNS, CURVES, STAGE, TRIALS, curve_name

_TRIAL_COLUMNS = {"kind": "text", "contrast": "numbers", "size": "numbers", "hit": "yes or no"}
_BAND_COLUMNS = {"kind": "text", "contrast": "numbers"} | dict.fromkeys(("size", "pod", "lower", "upper"), "numbers")


def pod_figures(folder: Path, prefix: str = "") -> list[Figure]:
    """One figure per curve of a folder of the stage.

    Args:
        folder: of the stage.
        prefix: before the name of each figure.

    Raises:
        DataError: a table is missing or damaged.
    """
    trials = read_table(folder / TRIALS, stage=STAGE, columns=_TRIAL_COLUMNS)
    bands = read_table(folder / BANDS, stage=STAGE, columns=_BAND_COLUMNS)
    curves = read_table(folder / CURVES, stage=STAGE, columns=COLUMNS)
    parts, of_bands = _by_curve(trials), _by_curve(bands)
    return [
        _pod_figure(f"{prefix}{name}", curve.iloc[0], parts[name], of_bands.get(name, bands.iloc[:0]))
        for name, curve in _by_curve(curves).items()
    ]


def _by_curve(table: pd.DataFrame) -> dict[str, pd.DataFrame]:
    parts: dict[str, list[int]] = {}
    for place, (kind, contrast) in enumerate(zip(table["kind"], table["contrast"], strict=True)):
        parts.setdefault(curve_name(kind, contrast), []).append(place)
    return {name: table.iloc[places] for name, places in parts.items()}


@style()
def _pod_figure(name: str, curve: pd.Series, trials: pd.DataFrame, band: pd.DataFrame) -> Figure:
    """Probability of detection by size: shares of hits, the fitted curve, its bounds, and a90 with its bound."""
    sizes = trials.groupby("size")["hit"].agg(["sum", "size"])
    levels = {"a90": ("a90", curve["a90"], DASHES[2]), "a90_95": ("a90/95", curve["a90_95"], DASHES[1])}
    largest = sizes.index[-1]
    shown = {key: each for key, each in levels.items() if sizes.index[0] <= each[1] <= largest}
    legend = [Entry("found of those tried", "series-0", f"{curve['hits']} of {curve['trials']}", dot=True)]
    if len(band):
        legend.append(Entry("fit, 95 % bounds", "accent"))
    legend += [Entry(label, "anomalous", f"{value:.3g} px", dash) for label, value, dash in shown.values()]
    picture, (axes,) = new_picture(legend)
    label_axes(axes, "Size of the defect, pixels", "Probability of detection")
    axes.fill_between(band["size"], band["lower"], band["upper"], color=LIGHT["band"], alpha=0.8, linewidth=0)
    axes.plot(band["size"], band["pod"], color=LIGHT["accent"], linewidth=1.4, clip_on=False, gid="fit")
    axes.axhline(0.9, color=LIGHT["soft"], linewidth=0.6, linestyle=DASHES[2])
    marks = {"fit": [Mark("fitted probability of detection")]} if len(band) else {}
    for key, (label, value, dash) in shown.items():
        axes.axvline(value, color=LIGHT["anomalous"], linewidth=0.9, linestyle=dash, gid=key)
        marks[key] = [Mark(f"{label}: {value:.3g} px")]
    marks["shares"] = _draw_shares(axes, sizes)
    _size_axis(axes, sizes.index.to_numpy(float))
    title = f"Probability of detection: {curve['kind']}"
    title += "" if pd.isna(curve["contrast"]) else f", contrast {curve['contrast']:g}"
    caption = (
        "Share of synthetic defects of each size that the final masks mark; the band holds the true curve with 95 % "
        "confidence on each side (MIL-HDBK-1823A). a90/95 is the size to promise."
    )
    description = f"{title}: {curve['hits']} of {curve['trials']} found"
    return Figure(name, title, caption, description, picture, marks)


def _draw_shares(axes: Axes, sizes: pd.DataFrame) -> list[Mark]:
    shares = sizes["sum"] / sizes["size"]
    axes.scatter(sizes.index, shares, 14, LIGHT["series-0"], lw=0, clip_on=False, gid="shares", zorder=3)
    return [
        Mark(f"{size:g} px: {hits} of {tried} found")
        for size, hits, tried in zip(sizes.index, sizes["sum"], sizes["size"], strict=True)
    ]


def _size_axis(axes: Axes, sizes: np.ndarray) -> None:
    """A logarithmic axis with a tick at each size tried, or at some of many."""
    ticks = sizes[:: -(-len(sizes) // 8)]
    axes.set(xscale="log", xlim=(sizes[0] * 0.93, sizes[-1] * 1.07), ylim=(0, 1))
    axes.set_xticks(ticks, [f"{tick:.3g}" for tick in ticks])
    axes.set_xticks([], minor=True)
    axes.yaxis.set_major_formatter(FuncFormatter(lambda value, _: f"{value:.1g}"))
