"""Drawings as lists of marks, written as SVG for the page, and as SVG and PNG for papers, from the same list."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from functools import cache
from html import escape
from itertools import pairwise

from PIL import ImageFont

Point = tuple[float, float]

# Role -> color on paper. The page has a variable of the role's name for each, with a dark set beside the light one.
# The series are told apart with any common color blindness (Okabe and Ito), and by dashes beyond their number.
COLORS = {
    "ink": "#18202a",
    "soft": "#566171",
    "grid": "#dde2e8",
    "ground": "#ffffff",
    "accent": "#0b6e7f",
    "band": "#d5ecef",
    "normal": "#566171",
    "anomalous": "#c4471b",
    "unknown": "#5b55b0",
    "series-0": "#0072b2",
    "series-1": "#c4471b",
    "series-2": "#00805e",
    "series-3": "#a0468a",
    "series-4": "#8a6a00",
    "series-5": "#2a7fb8",
    "series-6": "#5b55b0",
    "series-7": "#444c56",
}
# The same roles on the page's dark ground.
DARK = {
    "ink": "#e7ebf0",
    "soft": "#9ba7b5",
    "grid": "#2a323c",
    "ground": "#171d24",
    "accent": "#57c4d6",
    "band": "#17414a",
    "normal": "#9ba7b5",
    "anomalous": "#ff8a5c",
    "unknown": "#b3adff",
    "series-0": "#5ab4f0",
    "series-1": "#ff8a5c",
    "series-2": "#4fd1a5",
    "series-3": "#e394d3",
    "series-4": "#e0b83f",
    "series-5": "#8fd3ff",
    "series-6": "#b3adff",
    "series-7": "#b8c1cc",
}
SERIES = 8
DASHES: tuple[tuple[float, ...], ...] = ((), (6, 3), (2, 3), (8, 3, 2, 3))
# A reader's font may be wider than the one that text is measured with.
WIDER = 1.15
FONT = "Helvetica, Arial, 'Liberation Sans', sans-serif"


@dataclass(frozen=True)
class Line:
    """A polyline; `dash` as lengths drawn and left out by turns."""

    points: Sequence[Point]
    color: str = "ink"
    width: float = 1.5
    dash: Sequence[float] = ()
    opacity: float = 1.0
    title: str = ""


@dataclass(frozen=True)
class Area:
    """A filled polygon."""

    points: Sequence[Point]
    color: str
    opacity: float = 1.0


@dataclass(frozen=True)
class Box:
    """A filled rectangle; `title` shows when it is pointed at."""

    x: float
    y: float
    width: float
    height: float
    color: str
    opacity: float = 1.0
    radius: float = 0.0
    outline: str = ""
    title: str = ""


@dataclass(frozen=True)
class Dot:
    """A filled circle; `sample` is the gallery row that a click on it opens."""

    x: float
    y: float
    radius: float
    color: str
    opacity: float = 1.0
    title: str = ""
    sample: int | None = None


@dataclass(frozen=True)
class Text:
    """One line of text; `anchor` is start, middle or end, `y` its base line; `tail` follows it in bold."""

    x: float
    y: float
    text: str
    size: float = 11.0
    color: str = "ink"
    anchor: str = "start"
    bold: bool = False
    tail: str = ""


Mark = Line | Area | Box | Dot | Text


@dataclass(frozen=True)
class Drawing:
    """Marks on a ground of width x height, later ones on top; `title` says in words what is seen."""

    width: float
    height: float
    title: str
    marks: list[Mark] = field(default_factory=list)


@cache
def font(size: float) -> ImageFont.FreeTypeFont:
    """Pillow's own font, so that a drawing is the same on every machine."""
    found = ImageFont.load_default(size)
    if not isinstance(found, ImageFont.FreeTypeFont):
        raise RuntimeError("Pillow was built without FreeType and cannot set text; install its usual wheel.")
    return found


def text_width(text: str, size: float) -> float:
    """Width of a line of text in the units of `size`, near enough for any sans serif font."""
    return font(100).getlength(text) * size / 100


def shorten(text: str, size: float, width: float) -> str:
    """The text, its middle left out where it is wider than `width`."""
    if text_width(text, size) <= width:
        return text
    kept = len(text)
    while kept > 2 and text_width(_without_middle(text, kept), size) > width:
        kept -= 1
    return _without_middle(text, kept)


def _without_middle(text: str, kept: int) -> str:
    head = (kept + 1) // 2
    return f"{text[:head]}\N{HORIZONTAL ELLIPSIS}{text[len(text) - (kept - head) :]}"


def svg(drawing: Drawing, *, page: bool) -> str:
    """The drawing as SVG: for the page with its colors and font, else a file of its own."""
    size = f'viewBox="0 0 {_number(drawing.width)} {_number(drawing.height)}"'
    label = escape(drawing.title)
    if page:
        head = f'<svg {size} role="img" aria-label="{label}">'
    else:
        head = (
            f'<svg xmlns="http://www.w3.org/2000/svg" {size} width="{_number(drawing.width)}" '
            f'height="{_number(drawing.height)}" font-family="{FONT}"><title>{label}</title>'
            f'<rect width="100%" height="100%" fill="{COLORS["ground"]}"/>'
        )
    return "".join([head, *(_svg_mark(mark, page) for mark in drawing.marks), "</svg>"]) + ("" if page else "\n")


def _svg_mark(mark: Mark, page: bool) -> str:
    def paint(role: str) -> str:
        return f"var(--{role})" if page else COLORS[role]

    opacity = "" if isinstance(mark, Text) or mark.opacity == 1 else f' opacity="{_number(mark.opacity)}"'
    match mark:
        case Line():
            dash = f' stroke-dasharray="{" ".join(map(_number, mark.dash))}"' if mark.dash else ""
            return _titled(
                "path",
                f'd="{_path(mark.points)}" fill="none" stroke="{paint(mark.color)}" '
                f'stroke-width="{_number(mark.width)}" stroke-linejoin="round"{dash}{opacity}',
                mark.title,
            )
        case Area():
            return f'<path d="{_path(mark.points)}z" fill="{paint(mark.color)}"{opacity}/>'
        case Box():
            radius = f' rx="{_number(mark.radius)}"' if mark.radius else ""
            outline = f' stroke="{paint(mark.outline)}"' if mark.outline else ""
            place = " ".join(f'{name}="{_number(getattr(mark, name))}"' for name in ("x", "y", "width", "height"))
            return _titled("rect", f'{place} fill="{paint(mark.color)}"{radius}{outline}{opacity}', mark.title)
        case Dot():
            sample = f' data-sample="{mark.sample}"' if page and mark.sample is not None else ""
            place = f'cx="{_number(mark.x)}" cy="{_number(mark.y)}" r="{_number(mark.radius)}"'
            return _titled("circle", f'{place} fill="{paint(mark.color)}"{opacity}{sample}', mark.title)
        case Text():
            anchor = "" if mark.anchor == "start" else f' text-anchor="{mark.anchor}"'
            bold = ' font-weight="600"' if mark.bold else ""
            tail = f'<tspan dx="6" font-weight="600">{escape(mark.tail)}</tspan>' if mark.tail else ""
            return (
                f'<text x="{_number(mark.x)}" y="{_number(mark.y)}" font-size="{_number(mark.size)}" '
                f'fill="{paint(mark.color)}"{anchor}{bold}>{escape(mark.text)}{tail}</text>'
            )


def _titled(tag: str, attributes: str, title: str) -> str:
    return f"<{tag} {attributes}><title>{escape(title)}</title></{tag}>" if title else f"<{tag} {attributes}/>"


def _path(points: Sequence[Point]) -> str:
    return "M" + "L".join(f"{_number(x)} {_number(y)}" for x, y in points)


def _number(value: float) -> str:
    """Two decimals at most: a hundredth of a pixel."""
    text = f"{value:.2f}".rstrip("0").rstrip(".")
    return "0" if text == "-0" else text


def dashes(points: Sequence[Point], pattern: Sequence[float]) -> Iterator[list[Point]]:
    """The pieces of a polyline that a dash pattern draws; the whole line without one."""
    if not pattern or len(points) < 2:
        yield list(points)
        return
    number, left, piece = 0, float(pattern[0]), [points[0]]
    for (x0, y0), (x1, y1) in pairwise(points):
        length = ((x1 - x0) ** 2 + (y1 - y0) ** 2) ** 0.5
        done = 0.0
        while length - done > left:
            done += left
            at = (x0 + (x1 - x0) * done / length, y0 + (y1 - y0) * done / length)
            if number % 2 == 0:
                yield [*piece, at]
            number, piece = number + 1, [at]
            left = float(pattern[number % len(pattern)])
        left -= length - done
        piece.append((x1, y1))
    if number % 2 == 0 and len(piece) > 1:
        yield piece
