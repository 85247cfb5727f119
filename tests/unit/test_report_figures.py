"""Drawings, plots, figures, outlines and the rule graph, by numbers worked out by hand."""

from __future__ import annotations

import io
import re
from itertools import pairwise
from xml.etree import ElementTree

import cv2
import numpy as np
import pandas as pd
import pytest
from PIL import Image

from robis.report.drawing import COLORS, DARK, Area, Box, Dot, Drawing, Line, Text, dashes, shorten, svg, text_width
from robis.report.figures import curve_figures, score_figure, size_bins, size_figure, threshold_figure, training_figure
from robis.report.outlines import BUDGET, UNITS, outline
from robis.report.pictures import HEAT_RANGE, draw_heatmap, max_pool, thumbnail_size
from robis.report.plots import Axis, Plot, decades, evenly, linear, round_step, series, tick_text
from robis.report.raster import SCALE, png
from robis.report.rule_graph import rule_graph

NAMESPACE = "{http://www.w3.org/2000/svg}"
MARKS = [
    Box(10, 10, 30, 20, "accent"),
    Line([(0, 50), (100, 50)], "anomalous", 4),
    Dot(80, 20, 6, "series-2", title="a < b", sample=3),
    Area([(10, 60), (40, 60), (25, 80)], "series-0"),
    Text(50, 95, "x & y", tail="7"),
]


def test_svg_and_png_show_the_same_marks() -> None:
    picture = Drawing(100, 100, 'Marks "and" <text>', MARKS)
    root = ElementTree.fromstring(svg(picture, page=False))
    assert [child.tag.removeprefix(NAMESPACE) for child in root][2:] == ["rect", "path", "circle", "path", "text"]
    assert "".join(root[-1].itertext()) == "x & y7"
    assert root[0].text == 'Marks "and" <text>'
    with Image.open(io.BytesIO(png(picture))) as image:
        assert image.size == (100 * SCALE, 100 * SCALE)
        colors = image.convert("RGB")
    for (x, y), role in {(25, 20): "accent", (50, 50): "anomalous", (80, 20): "series-2", (25, 65): "series-0"}.items():
        assert "#{:02x}{:02x}{:02x}".format(*colors.getpixel((x * SCALE, y * SCALE))) == COLORS[role]
    assert colors.getpixel((5 * SCALE, 5 * SCALE)) == (255, 255, 255)
    assert np.asarray(colors.crop((50 * SCALE, 85 * SCALE, 90 * SCALE, 97 * SCALE))).min() < 80, "the text"


def test_the_page_gets_variables_and_samples_papers_do_not() -> None:
    picture = Drawing(100, 100, "Marks", MARKS)
    page, paper = svg(picture, page=True), svg(picture, page=False)
    assert 'fill="var(--accent)"' in page and "#" not in page
    assert 'data-sample="3"' in page and "<title>a &lt; b</title>" in page
    assert "var(" not in paper and "data-sample" not in paper
    assert png(picture) == png(picture)


def test_every_role_has_a_dark_color_that_can_be_read() -> None:
    """Text and series against their ground: 4.5 and 3 to 1 (WCAG 2.2, contrast)."""

    def luminance(color: str) -> float:
        linear = [
            c / 12.92 if c <= 0.04045 else ((c + 0.055) / 1.055) ** 2.4
            for c in (int(color[n : n + 2], 16) / 255 for n in (1, 3, 5))
        ]
        return float(np.dot(linear, [0.2126, 0.7152, 0.0722]))

    def contrast(one: str, other: str) -> float:
        low, high = sorted([luminance(one), luminance(other)])
        return (high + 0.05) / (low + 0.05)

    assert contrast("#000000", "#ffffff") == pytest.approx(21)
    assert COLORS.keys() == DARK.keys()
    for colors in (COLORS, DARK):
        for role, color in colors.items():
            least = {"ink": 4.5, "soft": 4.5, "accent": 4.5, "ground": 0, "grid": 0, "band": 0}.get(role, 3.0)
            assert contrast(color, colors["ground"]) >= least, role


def test_dashes_follow_the_line_around_its_corners() -> None:
    pieces = list(dashes([(0, 0), (10, 0), (10, 10)], (6, 2)))
    assert pieces == [[(0, 0), (6, 0)], [(8, 0), (10, 0), (10, 4)], [(10, 6), (10, 10)]]
    assert list(dashes([(0, 0), (1, 0)], ())) == [[(0, 0), (1, 0)]]


def test_long_names_lose_their_middle() -> None:
    name = "winclip_4shot_seed0 on a category with a long name"
    short = shorten(name, 11, 120)
    assert text_width(short, 11) <= 120 and short.startswith("win") and short.endswith("name") and "…" in short
    assert shorten("short", 11, 120) == "short"


@pytest.mark.parametrize(
    ("least", "step"), [(0.9, 1.0), (1.0, 1.0), (1.01, 2.0), (3.0, 5.0), (6.0, 10.0), (0.03, 0.05)]
)
def test_steps_are_round(least: float, step: float) -> None:
    assert round_step(least) == pytest.approx(step)


def test_axes_hold_their_values_and_have_round_ticks() -> None:
    axis = linear("x", [3.0, 46.0])
    assert (axis.low, axis.high) == (0.0, 50.0)
    assert [text for _, text in axis.ticks] == ["0", "10", "20", "30", "40", "50"]
    axis = linear("x", [12.2, 12.9], zero=False)
    assert (axis.low, axis.high) == (pytest.approx(12.2), pytest.approx(13.0))
    assert [text for _, text in axis.ticks] == ["12.2", "12.4", "12.6", "12.8", "13.0"]
    assert linear("x", [7.0, 7.0], zero=False).high > 7.0
    axis = decades("x", [5.0, 1000.0])
    assert (axis.low, axis.high) == (1.0, 1000.0) or axis.high == 10_000.0
    assert axis.share(10.0) == pytest.approx(1 / len(axis.ticks[1:]))
    assert [text for _, text in decades("x", [1.0, 2000.0]).ticks] == ["1", "10", "100", "1,000", "10,000"]
    assert tick_text(0.25, 0.05) == "0.25" and tick_text(1500.0, 500.0) == "1,500"


def test_points_lie_where_the_axes_say() -> None:
    plot = Plot(Axis(0.0, 10.0, "x"), Axis(0.0, 1.0, "y"), height=100.0, top=20.0)
    assert plot.at(0, 0) == (plot.left, 120.0)
    assert plot.at(10, 1) == (plot.right, 20.0)
    assert plot.at(5, 0.25) == (pytest.approx((plot.left + plot.right) / 2), 95.0)
    dense = plot.line(np.linspace(0, 10, 100_000), np.linspace(0, 1, 100_000))
    assert len(dense) < 1200 and dense[0] == plot.at(0, 0) and dense[-1] == plot.at(10, 1)


def test_series_differ() -> None:
    assert len({series(number) for number in range(32)}) == 32


def test_evenly_keeps_both_ends() -> None:
    assert list(evenly(np.arange(5), 9)) == [0, 1, 2, 3, 4]
    assert list(evenly(np.arange(101), 5)) == [0, 25, 50, 75, 100]


def curve_points(figure_svg: str, run: str) -> np.ndarray:
    path = re.search(rf'd="M([^"]+)"[^>]*><title>{run}</title>', figure_svg)
    assert path
    return np.array([point.split() for point in path[1].split("L")], float)


def test_curves_are_drawn_as_the_table_says_and_cut_at_the_limit() -> None:
    table = pd.DataFrame({"curve": "pro", "x": [0.0, 0.2, 0.4, 1.0], "y": [0.0, 0.5, 0.9, 1.0], "threshold": np.nan})
    figures = curve_figures({"musc": table}, {"musc": {"aupro_0.30": 0.4321}})
    assert [figure.name for figure in figures] == ["pro"]
    text = svg(figures[0].drawing, page=True)
    points = curve_points(text, "musc")
    plot = Plot(Axis(0.0, 0.3, "x"), Axis(0.0, 1.0, "y"))
    # Between 0.2 and 0.4 the curve rises from 0.5 to 0.9: 0.7 at the limit.
    np.testing.assert_allclose(points, [plot.at(0, 0), plot.at(0.2, 0.5), plot.at(0.3, 0.7)], atol=0.01)
    assert ">43.2<" in text
    assert curve_figures({"musc": table}, {"musc": {"aupro_0.30": None}}), "a curve without its metric"
    assert curve_figures({}, {}) == []


def test_the_histogram_counts_images_by_label() -> None:
    scores = np.array([0.0, 0.1, 0.1, 3.2, 3.2])
    figure = score_figure("musc", scores, ["normal", "normal", None, "anomalous", "anomalous"])
    text = svg(figure.drawing, page=False)
    for label, number in (("normal", 2), ("anomalous", 2), ("unknown", 1)):
        assert f'{label}<tspan dx="6" font-weight="600">{number}</tspan>' in text
    assert score_figure("musc", np.array([1.0, 1.0]), ["normal", None]), "equal scores"


def test_thresholds_show_their_votes_and_intervals() -> None:
    columns = {"sample_id": ["b", "a"], "threshold": [40.0, 20.0], "mean_std": [40.0, 40.0], "mebin": [60.0, 20.0]}
    table = pd.DataFrame({**columns, "defects": [1, 2]})
    table["stable_first"] = pd.array([None, 100], "Int64")
    table["stable_last"] = pd.array([None, 60], "Int64")
    figure = threshold_figure("musc", table, {"a": "anomalous", "b": None})
    text = svg(figure.drawing, page=True)
    assert text.index("a: 20, mean_std 40, mebin 20") < text.index("b: 40, mean_std 40, mebin 60"), "sorted"
    assert "a: 2 defects from level 60 to 100" in text.replace("100 to 60", "60 to 100")
    assert "mean + std: 40" in text
    plain = table.assign(stable_first=None, stable_last=None, mebin=None, mean_std=None)
    assert "Stable interval" not in svg(threshold_figure("musc", plain, {}).drawing, page=True)
    many = pd.concat([table.assign(sample_id=[f"{n}a", f"{n}b"]) for n in range(400)], ignore_index=True)
    assert "400 of 800 images" in threshold_figure("musc", many, {}).caption


def test_training_is_a_mean_of_neighboring_steps() -> None:
    steps = np.arange(900)
    history = pd.DataFrame({"step": steps, "loss": np.where(steps % 3, 1.0, 4.0), "coherence": 0.5})
    figure = training_figure("inp_former", history)
    assert figure
    loss, coherence = [mark for mark in figure.drawing.marks if isinstance(mark, Line) and mark.width == 1.6]
    # Three steps a point: (4 + 1 + 1) / 3 = 2 all along, so that two points make the line.
    assert len({round(y, 6) for _, y in loss.points}) == 1
    plot = Plot(linear("Step", [1.0, 898.0]), linear("Loss", [2.0, 0.5]))
    assert loss.points[0] == pytest.approx(plot.at(1.0, 2.0))
    assert coherence.points[-1] == pytest.approx(plot.at(898.0, 0.5))
    assert training_figure("winclip", history.iloc[:0]) is None


def test_sizes_are_binned_by_half_decades() -> None:
    area = np.array([1.0, 2.0, 4.0, 9.0, 31.0, 400.0])
    covered = np.array([0.0, 1.0, 0.5, 0.0, 1.0, 0.25])
    bins = size_bins(area, covered)
    half = 10**0.5
    expected = [
        (1.0, half, 0.5, 1, 2),
        (half, 10.0, 0.25, 1, 2),
        (10.0, 10 * half, 1.0, 1, 1),
        (100 * half, 1000.0, 0.25, 1, 1),
    ]
    assert [tuple(map(pytest.approx, one)) for one in expected] == bins
    assert size_bins(np.array([1.0]), np.array([1.0]))[0][4] == 1


def test_missed_regions_are_told_from_touched_ones() -> None:
    regions = pd.DataFrame({"sample_id": ["a", "a", "b"], "area": [4, 9, 900], "covered": [0.0, 1.0, 0.5]})
    regions["row"] = pd.array([7, 7, None], "Int64")
    figure = size_figure("musc", regions)
    assert figure
    dots = [mark for mark in figure.drawing.marks if isinstance(mark, Dot)]
    assert [(dot.color, dot.sample) for dot in dots] == [("anomalous", 7), ("series-0", 7), ("series-0", None)]
    assert size_figure("musc", regions.iloc[:0]) is None


def filled(path: str, height: int, width: int) -> np.ndarray:
    """A path's inside by even-odd, drawn by OpenCV at UNITS pixels per pixel."""
    canvas = np.zeros((height * UNITS, width * UNITS), np.uint8)
    for piece in re.findall(r"M([^z]*)z", path):
        numbers = np.array([int(number) for number in re.findall(r"-?\d+", piece)]).reshape(-1, 2)
        one = np.zeros_like(canvas)
        cv2.fillPoly(one, [np.cumsum(numbers, axis=0).astype(np.int32)], 1)
        canvas ^= one
    return canvas.astype(bool)


def test_outlines_enclose_regions_and_spare_holes() -> None:
    mask = np.zeros((60, 80), bool)
    mask[10:40, 10:50] = True
    mask[20:30, 20:30] = False
    mask[50, 70] = True
    found = outline(mask, 60, 80)
    inside = filled(found.path, 60, 80)
    truth = mask.repeat(UNITS, axis=0).repeat(UNITS, axis=1)
    # The outline runs a quarter of a pixel inside regions and, around holes, outside.
    assert (inside ^ truth).sum() / truth.sum() < 0.1
    assert inside[25 * UNITS, 15 * UNITS] and not inside[25 * UNITS, 25 * UNITS]
    assert found.rings == [(round(70.5 * UNITS), round(50.5 * UNITS))], "one pixel gets a ring"
    assert outline(np.zeros((5, 5), bool), 5, 5).compact() == ""


def test_outlines_follow_the_picture_s_size() -> None:
    mask = np.zeros((2000, 3000), bool)
    mask[777, 901] = True
    found = outline(mask, 200, 300)
    ((x, y),) = found.rings
    assert x == pytest.approx(90.1 * UNITS, abs=3) and y == pytest.approx(77.7 * UNITS, abs=3)
    assert found.path.startswith("M7")


def test_noise_keeps_within_the_budget_and_says_so(rng: np.random.Generator) -> None:
    mask = rng.random((600, 600)) < 0.05
    found = outline(mask, 600, 600)
    assert len(found.path) <= BUDGET
    assert found.left_out > 1000 and found.rings == []
    mask[100:300, 100:300] = True
    inside = filled(outline(mask, 600, 600).path, 600, 600)
    assert inside[200 * UNITS, 200 * UNITS], "the largest region stays"


def test_pictures_are_bounded_by_area() -> None:
    assert thumbnail_size(480, 640) == (480, 640)
    assert thumbnail_size(100, 100) == (100, 100)
    assert thumbnail_size(1000, 4000) == (277, 1109)
    height, width = thumbnail_size(100, 30_000)
    assert width == 1280 and height == 4


def test_shrinking_keeps_a_single_pixel() -> None:
    mask = np.zeros((1000, 1400), bool)
    mask[777, 901] = True
    assert np.argwhere(max_pool(mask, 100, 140)).tolist() == [[77, 90]]
    peak = np.zeros((1000, 1400), np.float16)
    peak[777, 901] = HEAT_RANGE
    assert draw_heatmap(peak, 100, 140) != draw_heatmap(np.zeros_like(peak), 100, 140)
    assert draw_heatmap(peak, 100, 140, low=0.0, high=0.0), "a flat map has a range of its own"


def test_the_rule_graph_has_every_stage_and_what_it_reads() -> None:
    after = {"index": [], "crop": ["index"], "merge": ["index", "crop"]}
    picture = rule_graph(after, {"crop": "4.2 s"})
    words = [mark.text for mark in picture.marks if isinstance(mark, Text)]
    assert words == ["index", "crop", "4.2 s", "merge"]
    boxes = [mark for mark in picture.marks if isinstance(mark, Box)]
    assert all(one.x + one.width < other.x for one, other in pairwise(boxes))
    arcs = [mark for mark in picture.marks if isinstance(mark, Line)]
    ends = [
        (next(n for n, box in enumerate(boxes) if box.x < x < box.x + box.width))
        for arc in arcs
        for x in (arc.points[0][0], arc.points[-1][0])
    ]
    assert ends == [0, 1, 0, 2, 1, 2]
    assert all(0 <= y <= picture.height for arc in arcs for _, y in arc.points)
    assert "merge reads index, crop" in picture.title
