"""A drawing as PNG, for papers: every mark drawn larger and the whole shrunk, which smooths its edges."""

from __future__ import annotations

import io

from PIL import Image, ImageColor, ImageDraw

from robis.report.drawing import COLORS, Area, Box, Dot, Drawing, Line, Mark, Text, dashes, font

SCALE = 3  # pixels per unit: 3 is 300 dots per inch where a unit is a CSS pixel (1/96 inch)
SMOOTHING = 2
_ANCHORS = {"start": "ls", "middle": "ms", "end": "rs"}


def png(drawing: Drawing) -> bytes:
    """The drawing as PNG on white, SCALE pixels per unit; the same drawing gives the same bytes."""
    factor = SCALE * SMOOTHING
    size = round(drawing.width * factor), round(drawing.height * factor)
    canvas = Image.new("RGB", size, COLORS["ground"])
    # This mode blends what is drawn; the canvas itself stays opaque.
    pen = ImageDraw.Draw(canvas, "RGBA")
    for mark in drawing.marks:
        _draw(pen, mark, factor)
    buffer = io.BytesIO()
    canvas.reduce(SMOOTHING).save(buffer, "PNG", dpi=(96 * SCALE, 96 * SCALE))
    return buffer.getvalue()


def _draw(pen: ImageDraw.ImageDraw, mark: Mark, factor: int) -> None:
    match mark:
        case Line():
            for piece in dashes(mark.points, mark.dash):
                points = [(x * factor, y * factor) for x, y in piece]
                pen.line(points, _paint(mark.color, mark.opacity), max(1, round(mark.width * factor)), joint="curve")
        case Area():
            pen.polygon([(x * factor, y * factor) for x, y in mark.points], _paint(mark.color, mark.opacity))
        case Box():
            corners = (mark.x, mark.y, mark.x + max(mark.width, 0), mark.y + max(mark.height, 0))
            pen.rounded_rectangle(
                [corner * factor for corner in corners],
                mark.radius * factor,
                fill=_paint(mark.color, mark.opacity),
                outline=_paint(mark.outline, 1.0) if mark.outline else None,
                width=factor if mark.outline else 0,
            )
        case Dot():
            pen.circle((mark.x * factor, mark.y * factor), mark.radius * factor, _paint(mark.color, mark.opacity))
        case Text():
            size = mark.size * factor
            x, y, paint = mark.x * factor, mark.y * factor, _paint(mark.color, 1.0)
            heavy = size / 50
            pen.text((x, y), mark.text, paint, font(size), anchor=_ANCHORS[mark.anchor], stroke_width=heavy * mark.bold)
            if mark.tail:
                after = x + font(size).getlength(mark.text) + 6 * factor
                pen.text((after, y), mark.tail, paint, font(size), anchor="ls", stroke_width=heavy)


def _paint(role: str, opacity: float) -> tuple[int, ...]:
    return (*ImageColor.getrgb(COLORS[role])[:3], round(255 * opacity))
