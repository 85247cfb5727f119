"""The stages of the workflow as a picture: what each reads is an arc from the stage that writes it."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence

from robis.report.drawing import WIDER, Area, Box, Drawing, Line, Point, Text, text_width

SIZE = 11.0
GAP, HEIGHT, PADDING = 16.0, 26.0, 9.0
MARGIN = 6.0
ARC_STEPS = 24
HEAD = 5.0


def rule_graph(after: Mapping[str, Sequence[str]], notes: Mapping[str, str] | None = None) -> Drawing:
    """Stages in their order from left to right.

    after: stage -> the stages whose outputs it reads, all of them before it. notes: a few words below a stage.
    """
    notes = notes or {}
    names = list(after)
    middles: dict[str, float] = {}
    boxes: list[Box | Text] = []
    x = MARGIN
    reach = max((names.index(b) - names.index(a) for b in names for a in after[b] if a in names), default=1)
    floor = MARGIN + _rise(reach) + HEIGHT + 2
    for name in names:
        width = max(text_width(name, SIZE), text_width(notes.get(name, ""), SIZE - 1)) * WIDER + 2 * PADDING
        boxes.append(Box(x, floor - HEIGHT, width, HEIGHT, "ground", radius=6, outline="soft"))
        boxes.append(Text(x + width / 2, floor - HEIGHT / 2 + 4, name, SIZE, anchor="middle", bold=True))
        if notes.get(name):
            boxes.append(Text(x + width / 2, floor + 15, notes[name], SIZE - 1, "soft", "middle"))
        middles[name] = x + width / 2
        x += width + GAP
    arcs: list[Line | Area] = []
    for name in names:
        for before in after[name]:
            if before in middles:
                steps = names.index(name) - names.index(before)
                # Arcs leave to the right of a stage's middle and arrive to the left of it.
                start, end = middles[before] + 8, middles[name] - 8
                arcs += _arc(start, end, floor - HEIGHT, _rise(steps), "accent" if steps == 1 else "soft")
    title = "Stages in their order, with arcs from each to those that read what it writes: " + "; ".join(
        f"{name} reads {', '.join(after[name])}" for name in names if after[name]
    )
    return Drawing(x - GAP + MARGIN, floor + (22 if notes else MARGIN), title, [*arcs, *boxes])


def _rise(steps: int) -> float:
    return 12.0 + 13.0 * math.sqrt(max(0, steps - 1)) * 1.6


def _arc(start: float, end: float, base: float, rise: float, color: str) -> list[Line | Area]:
    """Half an ellipse from one point to another at the same height, with an arrow's head at its end."""
    center, radius = (start + end) / 2, (end - start) / 2
    points: list[Point] = []
    for n in range(ARC_STEPS + 1):
        angle = math.pi * (1 - n / ARC_STEPS)
        points.append((center + radius * math.cos(angle), base - rise * math.sin(angle)))
    head = [(end - HEAD / 1.6, base - HEAD), (end + HEAD / 1.6, base - HEAD), (end, base)]
    return [Line([*points[:-1], (end, base - HEAD / 2)], color, 1.2, opacity=0.75), Area(head, color, 0.9)]
