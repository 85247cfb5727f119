"""Figures, their SVG and PNG, outlines and pictures, by numbers worked out by hand."""

from __future__ import annotations

import io
import re
from xml.etree import ElementTree

import cv2
import numpy as np
import pandas as pd
import pytest
from matplotlib.axes import Axes
from PIL import Image

from robis.report.canvas import DPI, LONGEST_NAME, WIDTH, Entry, Figure, Mark, new_picture, page_svg, png, shorten, svg
from robis.report.canvas import style as figure_style
from robis.report.colors import DARK, LIGHT, SERIES, VARIABLES
from robis.report.figures import (
    curve_figures,
    evenly,
    score_bins,
    score_figure,
    size_bins,
    size_figure,
    threshold_figure,
    training_figure,
    up_to,
)
from robis.report.outlines import BUDGET, UNITS, outline
from robis.report.pictures import HEAT_RANGE, draw_heatmap, max_pool, thumbnail_size

SVG = "{http://www.w3.org/2000/svg}"


@figure_style()
def marked() -> Figure:
    """Two points, one of which belongs to an image, and a line with an odd name."""
    picture, (axes,) = new_picture([Entry("x & $y$ <z>", "series-2", "7")])
    axes.scatter([1, 2], [1, 2], color=[LIGHT["anomalous"], LIGHT["series-0"]], gid="points")
    axes.plot([1, 2], [2, 1], color=LIGHT["series-2"], gid="line")
    marks = {"points": [Mark("a < b", 3), Mark("c")], "line": [Mark("x & y")]}
    return Figure("marked", "Marks", "", 'Marks "and" <text>', picture, marks)


def axes_of(figure: Figure | None) -> list[Axes]:
    assert figure
    return figure.picture.axes


def points_of(axes: Axes, gid: str) -> np.ndarray:
    """The points (N, 2) that an artist draws, in the units of the data."""
    (artist,) = [artist for artist in axes.get_children() if artist.get_gid() == gid]
    return np.asarray(artist.get_offsets() if hasattr(artist, "get_offsets") else artist.get_xydata())


def title_of(element: ElementTree.Element) -> str | None:
    return element.findtext(f"{SVG}title")


def test_svg_and_png_are_of_one_picture() -> None:
    figure = marked()
    text = svg(figure)
    root = ElementTree.fromstring(text)
    assert root.findtext(f"{SVG}title") == 'Marks "and" <text>'
    assert "x & $y$ <z>\N{EN SPACE}7" in [element.text for element in root.iter(f"{SVG}text")], "text, not paths"
    assert {LIGHT["anomalous"], LIGHT["series-0"], LIGHT["series-2"]} <= set(re.findall("#[0-9a-f]{6}", text))
    assert "DejaVu" not in text and "var(" not in text
    with Image.open(io.BytesIO(png(figure))) as image:
        assert image.width == round(WIDTH / 72 * DPI)
        colors = {"#{:02x}{:02x}{:02x}".format(*color) for _, color in image.convert("RGB").getcolors(1 << 20)}
    assert {"#ffffff", LIGHT["anomalous"], LIGHT["series-2"]} <= colors


def test_the_page_gets_variables_titles_and_samples() -> None:
    figure = marked()
    text = page_svg(svg(figure), figure)
    assert not re.findall('#[0-9a-f]{6}[;"]', text), "every color is one of the page"
    assert "var(--series-2)" in text and "font-family" not in text
    root = ElementTree.fromstring(text)
    assert root.get("role") == "img" and root.get("aria-label") == 'Marks "and" <text>'
    assert root.get("width") is None and root.get("viewBox")
    shapes = {title_of(element): element for element in root.iter() if title_of(element)}
    assert set(shapes) == {"a < b", "c", "x & y"}
    assert {title: shape.get("data-sample") for title, shape in shapes.items()} == {
        "a < b": "3",
        "c": None,
        "x & y": None,
    }
    assert not list(root.iter(f"{SVG}style")), "a style sheet in a page holds for all of it"
    ids = {element.get("id") for element in root.iter()} - {None}
    links = {element.get("href", "")[1:] for element in root.iter()} - {""}
    assert ids == links, "nothing but what is referred to"


def test_the_same_figure_gives_the_same_bytes() -> None:
    assert svg(marked()) == svg(marked())
    assert png(marked()) == png(marked())
    assert "<dc:date>" not in svg(marked())


def test_every_color_has_a_dark_one_that_can_be_read() -> None:
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
    assert LIGHT.keys() == DARK.keys()
    for colors in (LIGHT, DARK):
        for name, color in colors.items():
            least = {"ink": 4.5, "soft": 4.5, "accent": 4.5, "ground": 0, "grid": 0, "band": 0}.get(name, 3.0)
            assert contrast(color, colors["ground"]) >= least, name


def test_a_color_has_one_variable_in_both_modes() -> None:
    for name, color in LIGHT.items():
        variable = VARIABLES[color].removeprefix("var(--").removesuffix(")")
        assert (LIGHT[variable], DARK[variable]) == (color, DARK[name])
    assert len({LIGHT[f"series-{number}"] for number in range(SERIES)}) == SERIES


def test_long_names_lose_their_middle() -> None:
    name = "winclip_4shot_seed0 on a category with a long name"
    short = shorten(name)
    assert len(short) == LONGEST_NAME and short.startswith("winclip_4") and short.endswith("name") and "…" in short
    assert shorten("short") == "short"


def test_legends_stay_within_the_picture() -> None:
    """Measured as drawn with the font of the PNG, which is wider than those of readers."""
    for names in (
        ["musc", "winclip"],
        ["EXPERIMENT_WITH_LARGE_WINDOWS_AND_MANY_TOKENS: superadd"] * 5,
        ["inp_former", "before: inp_former"],
    ):
        with figure_style():
            picture, _ = new_picture([Entry(name, "ink", "100.0") for name in names])
            picture.draw_without_rendering()
            boxes = [text.get_window_extent() for text in picture.texts]
        assert max(box.x1 for box in boxes) <= picture.bbox.x1
        assert min(box.y0 for box in boxes) >= 0
        assert not any(one.overlaps(other) for number, one in enumerate(boxes) for other in boxes[:number])


def test_evenly_keeps_both_ends() -> None:
    assert evenly(5, 9).tolist() == [0, 1, 2, 3, 4]
    assert evenly(101, 5).tolist() == [0, 25, 50, 75, 100]
    assert evenly(0, 5).tolist() == []


def test_curves_are_drawn_as_the_table_says_and_cut_at_the_limit() -> None:
    table = pd.DataFrame({"curve": "pro", "x": [0.0, 0.2, 0.4, 1.0], "y": [0.0, 0.5, 0.9, 1.0], "threshold": np.nan})
    (figure,) = curve_figures({"musc": table}, {"musc": {"aupro_0.30": 0.4321}})
    assert figure.name == "pro"
    (axes,) = axes_of(figure)
    # Between 0.2 and 0.4 the curve rises from 0.5 to 0.9: 0.7 at the limit.
    np.testing.assert_allclose(points_of(axes, "line of musc"), [(0, 0), (0.2, 0.5), (0.3, 0.7)])
    assert (axes.get_xlim(), axes.get_ylim()) == ((0, 0.3), (0, 1))
    assert "musc\N{EN SPACE}43.2" in svg(figure)
    assert curve_figures({"musc": table}, {"musc": {"aupro_0.30": None}}), "a curve without its metric"
    assert curve_figures({}, {}) == []


def test_a_curve_that_ends_before_the_limit_stays() -> None:
    x, y = up_to(np.array([0.0, 0.2]), np.array([0.0, 1.0]), 0.3)
    assert (x.tolist(), y.tolist()) == ([0.0, 0.2], [0.0, 1.0])


def test_series_differ_in_color_or_dashes() -> None:
    table = pd.DataFrame({"curve": "roc", "x": [0.0, 1.0], "y": [0.0, 1.0]})
    runs = [f"run{number}" for number in range(32)]
    (figure,) = curve_figures(dict.fromkeys(runs, table), {run: {"pixel_auroc": 0.5} for run in runs})
    lines = [line for line in axes_of(figure)[0].lines if line.get_gid()]
    assert len({(line.get_color(), str(line._dash_pattern)) for line in lines}) == 32


def test_the_histogram_counts_images_by_label() -> None:
    scores = np.array([0.0, 0.6, 0.6, 3.0, 3.0])
    figure = score_figure("musc", scores, ["normal", "normal", None, "anomalous", "anomalous"])
    (axes,) = axes_of(figure)
    counts = {patch.get_gid(): patch.get_data().values for patch in axes.patches if patch.get_gid()}
    # 6 bins of 0.5 each from 0 to 3.
    assert {name: np.flatnonzero(values).tolist() for name, values in counts.items()} == {
        "normal": [0, 1],
        "anomalous": [5],
        "unknown": [1],
    }
    assert [text.get_text().split("\N{EN SPACE}") for text in figure.picture.texts] == [
        ["normal", "2"],
        ["anomalous", "2"],
        ["unknown", "1"],
    ]
    assert axes.get_ylim()[0] == 0 and all(tick == int(tick) for tick in axes.get_yticks())
    assert score_figure("musc", np.array([1.0, 1.0]), ["normal", None]), "equal scores"


@pytest.mark.parametrize(("images", "bins"), [(1, 6), (9, 6), (40, 13), (256, 32), (10_000, 32)])
def test_few_images_get_few_bins(images: int, bins: int) -> None:
    assert score_bins(images) == bins


def test_the_histogram_has_a_line_at_the_limit() -> None:
    """Also where no image scores that much."""
    figure = score_figure("musc", np.array([0.0, 1.0]), ["normal", None], limit=2.5)
    (axes,) = axes_of(figure)
    (line,) = [line for line in axes.lines if line.get_gid() == "limit"]
    assert line.get_xdata() == [2.5, 2.5]
    assert axes.get_xlim()[0] <= 0 and axes.get_xlim()[1] >= 2.5
    assert figure.marks["limit"] == [Mark("limit: 2.5")]
    assert page_svg(svg(figure), figure).count("<title>limit: 2.5</title>") == 1


def test_thresholds_show_their_votes_and_intervals() -> None:
    columns = {"sample_id": ["b", "a"], "threshold": [40.0, 20.0], "mean_std": [40.0, 40.0], "mebin": [60.0, 20.0]}
    table = pd.DataFrame({**columns, "defects": [1, 2]})
    table["stable_first"] = pd.array([None, 100], "Int64")
    table["stable_last"] = pd.array([None, 60], "Int64")
    figure = threshold_figure("musc", table, {"a": "anomalous", "b": None})
    above, below = axes_of(figure)
    assert points_of(above, "thresholds").tolist() == [[0, 20], [1, 40]], "sorted"
    assert above.get_ylim() == (0, 40)
    titles = [mark.title for mark in figure.marks["thresholds"]]
    assert titles == ["a: 20, mean_std 40, mebin 20", "b: 40, mean_std 40, mebin 60"]
    (interval,) = below.collections[0].get_segments()
    assert interval.tolist() == [[0, 60], [0, 100]]
    assert figure.marks["intervals"] == [Mark("a: 2 defects from level 100 to 60")]
    assert figure.marks["mean and std"] == [Mark("mean + std: 40")]
    assert page_svg(svg(figure), figure).count("<title>") == 4
    plain = table.assign(stable_first=None, stable_last=None, mebin=None, mean_std=None)
    assert len(axes_of(threshold_figure("musc", plain, {}))) == 1
    many = pd.concat([table.assign(sample_id=[f"{n}a", f"{n}b"]) for n in range(400)], ignore_index=True)
    assert "400 of 800 images" in threshold_figure("musc", many, {}).caption


def test_training_is_a_mean_of_neighboring_steps() -> None:
    steps = np.arange(900)
    history = pd.DataFrame({"step": steps, "loss": np.where(steps % 3, 1.0, 4.0), "coherence": 0.5})
    (axes,) = axes_of(training_figure("inp_former", history))
    loss, coherence = points_of(axes, "loss"), points_of(axes, "coherence")
    # Three steps a point: (4 + 1 + 1) / 3 = 2 all along.
    assert len(loss) == 300 and np.all(loss[:, 1] == 2)
    assert loss[0].tolist() == [1, 2] and coherence[-1].tolist() == [898, 0.5]
    assert (axes.get_xlim(), axes.get_ylim()) == ((0, 1000), (0, 2))
    assert training_figure("winclip", history.iloc[:0]) is None


def test_training_without_coherence_loss_shows_the_loss_alone() -> None:
    history = pd.DataFrame({"step": [0, 1], "loss": [2.0, 1.0], "coherence": [np.nan, np.nan]})
    figure = training_figure("dinomaly", history)
    (axes,) = axes_of(figure)
    assert points_of(axes, "loss").tolist() == [[0, 2], [1, 1]]
    assert [line.get_gid() for line in axes.lines if line.get_gid()] == ["loss"]
    assert figure.caption == "Reconstruction loss."


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


def test_missed_regions_differ_from_touched_ones() -> None:
    regions = pd.DataFrame({"sample_id": ["a", "a", "b"], "area": [4, 9, 900], "covered": [0.0, 1.0, 0.5]})
    regions["row"] = pd.array([7, 7, None], "Int64")
    figure = size_figure("musc", regions)
    (axes,) = axes_of(figure)
    assert figure
    assert points_of(axes, "regions").tolist() == [[4, 0], [9, 1], [900, 0.5]]
    assert figure.marks["regions"] == [
        Mark("a: 4 pixels, 0.0 % covered", 7),
        Mark("a: 9 pixels, 100.0 % covered", 7),
        Mark("b: 900 pixels, 50.0 % covered"),
    ]
    assert axes.get_xlim() == (1, 1000)
    text = page_svg(svg(figure), figure)
    assert text.count("data-sample") == 2
    fills = re.findall(r"fill: (var\(--[a-z0-9-]+\))[^>]*><title>[ab]:", text)
    # The colors of anomalous images and of the second series are the same.
    assert fills == [VARIABLES[LIGHT["anomalous"]], "var(--series-0)", "var(--series-0)"]
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
