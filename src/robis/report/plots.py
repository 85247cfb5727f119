"""Axes, ticks and legends of a plot, as marks of a drawing."""

from __future__ import annotations

import math
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, field

import numpy as np

from robis.report.drawing import DASHES, SERIES, WIDER, Drawing, Line, Mark, Point, Text, shorten, text_width

WIDTH = 400.0
LEFT, RIGHT, TOP, BOTTOM = 44.0, 14.0, 26.0, 38.0
SMALL_TEXT, TEXT = 10.0, 11.0
LEGEND_LINE = 16.0


@dataclass(frozen=True)
class Axis:
    """One direction of a plot: the range shown, where ticks are and what they say."""

    low: float
    high: float
    label: str
    ticks: Sequence[tuple[float, str]] = ()
    logarithmic: bool = False

    def share(self, value: float) -> float:
        """Where a value lies between the ends, 0..1, kept within them."""
        low, high, at = self.low, self.high, value
        if self.logarithmic:
            low, high, at = math.log10(low), math.log10(high), math.log10(max(value, low))
        return min(max((at - low) / (high - low), 0.0), 1.0)


@dataclass(frozen=True)
class Entry:
    """A line of the legend; `value` is set in bold at its end. With `dot`, the series are dots, not lines."""

    name: str
    color: str
    value: str = ""
    dash: Sequence[float] = ()
    dot: bool = False


@dataclass
class Plot:
    """A frame with two axes at a place of a drawing; what is plotted is appended to `marks`."""

    x: Axis
    y: Axis
    height: float = 210.0
    top: float = TOP
    width: float = WIDTH
    marks: list[Mark] = field(default_factory=list)

    @property
    def left(self) -> float:
        return LEFT

    @property
    def right(self) -> float:
        return self.width - RIGHT

    @property
    def bottom(self) -> float:
        return self.top + self.height

    def at(self, x: float, y: float) -> Point:
        """A point of the data in the drawing."""
        return (
            self.left + self.x.share(x) * (self.right - self.left),
            self.bottom - self.y.share(y) * self.height,
        )

    def line(self, xs: Iterable[float], ys: Iterable[float]) -> list[Point]:
        """Points of the data in the drawing, without those that cannot be told apart there."""
        points = [self.at(float(x), float(y)) for x, y in zip(xs, ys, strict=True)]
        kept = points[:1]
        for point in points[1:]:
            if math.dist(kept[-1], point) >= 0.4:
                kept.append(point)
        return kept if not points or kept[-1] == points[-1] else [*kept, points[-1]]

    def frame(self) -> list[Mark]:
        """Grid lines, ticks and labels; drawn below the data."""
        marks: list[Mark] = []
        for value, text in self.y.ticks:
            y = self.at(self.x.low, value)[1]
            marks.append(Line([(self.left, y), (self.right, y)], "grid", 1.0))
            marks.append(Text(self.left - 6, y + 3.5, text, SMALL_TEXT, "soft", "end"))
        for value, text in self.x.ticks:
            x = self.at(value, self.y.low)[0]
            marks.append(Line([(x, self.bottom), (x, self.bottom + 4)], "soft", 1.0))
            fits = x + text_width(text, SMALL_TEXT) * WIDER / 2 < self.width
            at, anchor = (x, "middle") if fits else (self.width - 1, "end")
            marks.append(Text(at, self.bottom + 15, text, SMALL_TEXT, "soft", anchor))
        marks.append(Line([(self.left, self.bottom), (self.right, self.bottom)], "soft", 1.0))
        # Beside the axis' end and not turned by 90 degrees: read without turning one's head.
        marks.append(Text(self.left - 30, self.top - 11, self.y.label, TEXT, "soft"))
        marks.append(Text(self.right, self.bottom + 30, self.x.label, TEXT, "soft", "end"))
        return marks


def drawing(title: str, plots: Sequence[Plot], legend: Sequence[Entry] = ()) -> Drawing:
    """Plots below each other with one legend at the foot."""
    marks: list[Mark] = []
    for plot in plots:
        marks += [*plot.frame(), *plot.marks]
    lines, height = _legend(legend, plots[-1].bottom + BOTTOM, plots[-1].width)
    return Drawing(plots[-1].width, height, title, [*marks, *lines])


def _legend(entries: Sequence[Entry], top: float, width: float) -> tuple[list[Mark], float]:
    """The marks of a legend in as many columns as fit, and where it ends."""
    if not entries:
        return [], top
    room = width - LEFT - RIGHT
    widest = max(34 + text_width(f"{entry.name}  {entry.value}", TEXT) * WIDER for entry in entries)
    columns = max(1, min(len(entries), int(room // min(widest, room))))
    step = room / columns
    marks: list[Mark] = []
    for number, entry in enumerate(entries):
        x = LEFT + number % columns * step
        y = top + (number // columns + 0.8) * LEGEND_LINE
        if entry.dot:
            marks.append(Line([(x + 3, y - 4), (x + 12, y - 4)], entry.color, 9.0))
        else:
            marks.append(Line([(x, y - 4), (x + 16, y - 4)], entry.color, 2.0, entry.dash))
        value = text_width(entry.value, TEXT) * WIDER + 6 if entry.value else 0
        marks.append(Text(x + 22, y, shorten(entry.name, TEXT, (step - 34 - value) / WIDER), TEXT, tail=entry.value))
    return marks, top + math.ceil(len(entries) / columns) * LEGEND_LINE + 6


def series(number: int) -> tuple[str, tuple[float, ...]]:
    """Color role and dashes of the n-th series: colors first, then dashes."""
    return f"series-{number % SERIES}", DASHES[number // SERIES % len(DASHES)]


def shares(label: str, high: float = 1.0) -> Axis:
    """An axis from 0 to `high` with round ticks, for rates."""
    step = round_step(high / 6)
    ticks = [step * n for n in range(round(high / step) + 1)]
    return Axis(0.0, high, label, [(tick, f"{tick:.2g}") for tick in ticks])


def linear(label: str, values: Sequence[float] | np.ndarray, *, zero: bool = True) -> Axis:
    """An axis over finite values, from zero where asked for, with four to seven round ticks."""
    low, high = (float(np.min(values)), float(np.max(values))) if len(values) else (0.0, 1.0)
    low = min(low, 0.0) if zero else low
    if high <= low:
        high = low + 1.0
    step = round_step((high - low) / 5)
    first, last = math.floor(low / step + 1e-9), math.ceil(high / step - 1e-9)
    ticks = [n * step for n in range(first, last + 1)]
    return Axis(ticks[0], ticks[-1], label, [(tick, tick_text(tick, step)) for tick in ticks])


def decades(label: str, values: Sequence[float] | np.ndarray) -> Axis:
    """A logarithmic axis over positive values, with a tick at each power of ten."""
    low = math.floor(math.log10(min(values))) if len(values) else 0
    high = max(low + 1, math.ceil(math.log10(max(values)) + 1e-9)) if len(values) else 1
    ticks = [(10.0**n, f"{10**n:,}" if n >= 0 else f"{10.0**n:g}") for n in range(low, high + 1)]
    return Axis(10.0**low, 10.0**high, label, ticks, logarithmic=True)


def round_step(least: float) -> float:
    """The smallest of 1, 2, 5 times a power of ten that is not below `least`."""
    power = 10.0 ** math.floor(math.log10(least))
    return next((factor * power for factor in (1, 2, 5) if factor * power >= least * (1 - 1e-9)), 10 * power)


def tick_text(value: float, step: float) -> str:
    """A tick's number with the decimals that its step needs."""
    decimals = max(0, -math.floor(math.log10(step) + 1e-9))
    return f"{value:,.{decimals}f}"


def evenly(items: Sequence[int] | np.ndarray, most: int) -> Iterator[int]:
    """At most `most` of the items, evenly spread, the first and the last among them."""
    if len(items) <= most:
        yield from (int(item) for item in items)
    else:
        for place in np.unique(np.linspace(0, len(items) - 1, most).round().astype(int)):
            yield int(items[place])
