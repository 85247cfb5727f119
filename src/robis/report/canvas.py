"""Matplotlib figures in the report's style, and how they are written: SVG for the page, SVG and PNG for papers."""

from __future__ import annotations

import io
import re
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import Any
from xml.etree import ElementTree

import matplotlib
from matplotlib.axes import Axes
from matplotlib.figure import Figure as Picture
from matplotlib.lines import Line2D

from robis.report.colors import LIGHT, VARIABLES

# Points (1/72 inch). Margins are fixed, so that a figure does not depend on how wide a font renders its text.
WIDTH = 300.0
LEFT, RIGHT, TOP, BOTTOM = 34.0, 12.0, 19.0, 29.0
HEIGHT = 156.0
GAP = 24.0
LEGEND_LINE = 13.0
TEXT, SMALL_TEXT = 8.2, 7.5
DPI = 300
LONGEST_NAME = 34
FONTS = "Helvetica, Arial, 'Liberation Sans', sans-serif"
_SVG = "http://www.w3.org/2000/svg"
_LINK = "{http://www.w3.org/1999/xlink}href"
_STYLE: dict[Any, Any] = {
    # Shipped with Matplotlib, and wider than the fonts that readers have: text that fits with it fits with theirs.
    "font.family": "DejaVu Sans",
    "font.size": TEXT,
    "text.color": LIGHT["ink"],
    # A name with dollar signs is a name.
    "text.parse_math": False,
    "axes.unicode_minus": True,
    "axes.autolimit_mode": "round_numbers",
    "axes.xmargin": 0.0,
    "axes.ymargin": 0.0,
    "axes.axisbelow": True,
    "svg.fonttype": "none",
    "path.simplify": True,
}


@dataclass(frozen=True)
class Entry:
    """A line of a legend: a name, a number beside it, and a line or (with `dot`) a square of a color."""

    name: str
    color: str
    value: str = ""
    dash: Any = "solid"
    dot: bool = False


@dataclass(frozen=True)
class Mark:
    """What the page shows when a reader points at a mark, and the gallery row that a click on it opens."""

    title: str
    sample: int | None = None


@dataclass(frozen=True)
class Figure:
    """A picture with its texts.

    Attributes:
        name: of its files.
        title: heading on the page.
        caption: how to read it, in a sentence or two.
        description: what it shows, for readers who cannot see it.
        picture: the Matplotlib figure.
        marks: id of an artist -> one Mark per point or line that it draws, in their order.
    """

    name: str
    title: str
    caption: str
    description: str
    picture: Picture
    marks: Mapping[str, Sequence[Mark]] = field(default_factory=dict)


@contextmanager
def style(salt: str = "robis") -> Iterator[None]:
    """Matplotlib's settings while a figure is made or written; `salt` goes into the ids of its SVG."""
    with matplotlib.rc_context({**_STYLE, "svg.hashsalt": salt}):
        yield


def new_picture(legend: Sequence[Entry], heights: Sequence[float] = (HEIGHT,)) -> tuple[Picture, list[Axes]]:
    """A picture of plots below each other (heights in points) with one legend at its foot, and their axes."""
    columns = _columns(legend)
    foot = 4 + LEGEND_LINE * -(-len(legend) // columns) if legend else 0
    height = TOP + sum(heights) + GAP * (len(heights) - 1) + BOTTOM + foot
    picture = Picture(figsize=(WIDTH / 72, height / 72), facecolor=LIGHT["ground"])
    axes = []
    top = height - TOP
    for size in heights:
        box = (LEFT / WIDTH, (top - size) / height, (WIDTH - LEFT - RIGHT) / WIDTH, size / height)
        axes.append(_framed(picture.add_axes(box), size))
        top -= size + GAP
    for number, entry in enumerate(legend):
        line, column = divmod(number, columns)
        x = LEFT + column * (WIDTH - LEFT - RIGHT) / columns
        _draw_entry(picture, entry, x / WIDTH, (foot - (line + 0.6) * LEGEND_LINE) / height)
    return picture, axes


def _columns(legend: Sequence[Entry]) -> int:
    """As many columns as fit, by the mean width of the font's letters."""
    longest = max((len(shorten(entry.name)) + len(entry.value) + 2 for entry in legend), default=1)
    return max(1, min(len(legend), int((WIDTH - LEFT - RIGHT) / (24 + 0.57 * TEXT * longest))))


def _framed(axes: Axes, height: float) -> Axes:
    axes.set_facecolor("none")
    for side, spine in axes.spines.items():
        spine.set_visible(side == "bottom")
        spine.set(color=LIGHT["soft"], linewidth=0.8)
    axes.grid(True, axis="y", color=LIGHT["grid"], linewidth=0.8)
    axes.tick_params(labelsize=SMALL_TEXT, colors=LIGHT["soft"], width=0.8)
    axes.tick_params(axis="x", length=3)
    axes.tick_params(axis="y", length=0, pad=4)
    return axes


def label_axes(axes: Axes, x: str, y: str) -> None:
    """Name both axes at their ends; the vertical one is named above it, where nobody has to turn their head."""
    place: dict[str, Any] = {"textcoords": "offset points", "color": LIGHT["soft"], "annotation_clip": False}
    axes.annotate(y, (0, 1), xytext=(-LEFT + 4, 8), xycoords="axes fraction", **place)
    axes.annotate(x, (1, 0), xytext=(0, -26), xycoords="axes fraction", ha="right", **place)


def _draw_entry(picture: Picture, entry: Entry, x: float, y: float) -> None:
    color = LIGHT[entry.color]
    if entry.dot:
        key = Line2D([x + 6 / WIDTH], [y], marker="s", markersize=6, color=color, markeredgewidth=0, linestyle="none")
    else:
        key = Line2D([x, x + 13 / WIDTH], [y, y], color=color, linewidth=1.5, linestyle=entry.dash)
    key.set_transform(picture.transFigure)
    picture.add_artist(key)
    # One text, so that the number follows the name in any font; SVG would make one of two common spaces.
    text = f"{shorten(entry.name)}\N{EN SPACE}{entry.value}".rstrip()
    picture.text(x + 18 / WIDTH, y, text, va="center_baseline")


def shorten(name: str, longest: int = LONGEST_NAME) -> str:
    """A name of at most `longest` characters, its middle left out where it has more."""
    if len(name) <= longest:
        return name
    head = longest // 2
    return f"{name[:head]}\N{HORIZONTAL ELLIPSIS}{name[len(name) - (longest - head - 1) :]}"


def svg(figure: Figure) -> str:
    """The figure as an SVG file, in light colors on white; the same figure gives the same bytes."""
    buffer = io.StringIO()
    with style(figure.name):
        # Without a date, and without the version, which would change the bytes and says nothing to a reader.
        metadata = {"Title": figure.description, "Date": None, "Creator": None}
        figure.picture.savefig(buffer, format="svg", metadata=metadata)
    return buffer.getvalue().replace("'DejaVu Sans'", FONTS)


def png(figure: Figure) -> bytes:
    """The figure as PNG at DPI dots per inch, on white; the same figure gives the same bytes."""
    buffer = io.BytesIO()
    with style():
        figure.picture.savefig(buffer, format="png", dpi=DPI, metadata={"Software": None})
    return buffer.getvalue()


def page_svg(text: str, figure: Figure) -> str:
    """A figure's SVG file as a part of the page: with the page's colors, and titles and links on its marks.

    Args:
        text: as `svg` gives it.
        figure: the same figure.
    """
    root = ElementTree.fromstring(text)
    # Matplotlib's style sheet would hold for the whole page; nothing is drawn beyond the axes, so nothing is clipped.
    _remove(root, {"metadata", "style", "title", "clipPath"})
    for size in ("width", "height"):
        del root.attrib[size]
    root.attrib |= {"role": "img", "aria-label": figure.description, "stroke-linejoin": "round"}
    for group in root.iter(f"{{{_SVG}}}g"):
        if marks := figure.marks.get(group.get("id", "")):
            _annotate(group, marks)
    used = {element.get(_LINK, "")[1:] for element in root.iter()}
    for element in root.iter():
        _settle(element, used)
    ElementTree.register_namespace("", _SVG)
    return ElementTree.tostring(root, encoding="unicode")


def _remove(element: ElementTree.Element, names: set[str]) -> None:
    for child in list(element):
        if child.tag.removeprefix(f"{{{_SVG}}}") in names:
            element.remove(child)
        else:
            _remove(child, names)


def _annotate(group: ElementTree.Element, marks: Sequence[Mark]) -> None:
    """Give each shape of an artist its mark."""
    hidden = {shape for defs in group.iter(f"{{{_SVG}}}defs") for shape in defs.iter()}
    shapes = [e for e in group.iter() if e not in hidden and e.tag in (f"{{{_SVG}}}path", f"{{{_SVG}}}use")]
    for shape, mark in zip(shapes, marks, strict=True):
        ElementTree.SubElement(shape, f"{{{_SVG}}}title").text = mark.title
        if mark.sample is not None:
            shape.set("data-sample", str(mark.sample))


def _settle(element: ElementTree.Element, used: set[str]) -> None:
    """Short numbers, the page's colors and font, and no ids but those that are referred to."""
    for name in ("d", "x", "y", "transform"):
        if name in element.attrib:
            element.set(name, re.sub(r"-?\d+\.\d{3,}", lambda match: f"{float(match[0]):.2f}", element.get(name, "")))
    if "style" in element.attrib:
        text = re.sub("#[0-9a-f]{6}", lambda match: VARIABLES.get(match[0], match[0]), element.get("style", ""))
        element.set("style", text.replace(f"font-family: {FONTS}; ", ""))
    element.attrib.pop("clip-path", None)
    if element.get("id") not in used:
        element.attrib.pop("id", None)
    if _LINK in element.attrib:
        element.set("href", element.attrib.pop(_LINK))
    element.text = (element.text or "").strip() or None
    element.tail = None
