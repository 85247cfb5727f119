"""The page and its files: every image, the metric files' numbers, names that stay text, other results beside."""

from __future__ import annotations

import csv
import json
import re
import shutil
from collections.abc import Sequence
from dataclasses import replace
from html.parser import HTMLParser
from pathlib import Path
from typing import Any
from urllib.parse import unquote

import numpy as np
import pandas as pd
import pytest
import tifffile
from openpyxl import load_workbook
from PIL import Image

from robis.errors import DataError
from robis.evaluation.metrics import MEANINGS, METRICS
from robis.io.maps import read_map, write_mask
from robis.io.tables import write_table
from robis.report.causes import Conditions
from robis.report.inputs import RunFiles
from robis.report.page import build_report
from robis.report.verdicts import VERDICTS
from tests.made_results import (
    NASTY,
    Made,
    box,
    made_facts,
    made_files,
    report_files,
    write_data,
    write_run,
    write_verdicts,
)

# A defect found in part, one missed, a false alarm, a clean image; then two images without a label.
TEST = [
    Made("bad/000", "anomalous", truth=(8, 8, 24, 40), final=(8, 8, 24, 24), score=3.0),
    Made(NASTY, "anomalous", truth=(8, 8, 24, 40), score=1.0, size=(700, 1000)),
    Made("good/000", final=(0, 0, 8, 8), score=2.0),
    Made("good/001", score=0.5, size=(64, 64)),
]
PRIVATE = [Made("000", None, final=(0, 0, 8, 8), score=2.0), Made("001", None, score=1.0)]
VALUES = {name: 0.1234 + n / 100 for n, name in enumerate(METRICS)} | {"aupro_0.05": None}
RUNS = [["inp_former", "nut", "test"], ["inp_former", "nut", "private"]]


class Page(HTMLParser):
    """Collects the data elements, script elements and text of a page."""

    def __init__(self, path: Path) -> None:
        super().__init__()
        self.values: list[str] = []
        self.scripts = 0
        self.words: list[str] = []
        self.feed(path.read_text(encoding="utf-8"))

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        if tag == "data":
            self.values.append(str(dict(attrs)["value"]))
        self.scripts += tag == "script"

    def handle_data(self, data: str) -> None:
        self.words.append(data)

    @property
    def text(self) -> str:
        return " ".join(self.words)


@pytest.fixture
def results(tmp_path: Path) -> Path:
    root, results = tmp_path / "data", tmp_path / "results" / "shop"
    for split, images, metrics in (("test", TEST, VALUES), ("private", PRIVATE, None)):
        write_data(root, results, "nut", split, images)
        write_run(results / "inp_former", "nut", split, images, metrics)
    return results


def build(results: Path, *, images: int = 10, runs: Sequence[RunFiles] = (), **changes: Any) -> Path:
    """Build the report of a results folder beside the data; RUNS by default."""
    facts = changes.pop("facts", made_facts(results.parents[1] / "data", "inp_former"))
    outputs = report_files(results / "report")
    build_report(runs or files_of(results, RUNS), outputs, facts, images=images, **({"threads": 2} | changes))
    return outputs.page


def files_of(results: Path, runs: Sequence[Sequence[str]]) -> list[RunFiles]:
    return [made_files(results / run, category, split) for run, category, split in runs]


def with_pack(results: Path, check: dict[str, int] | None) -> list[RunFiles]:
    """The runs of a report, the first of which has a pack with this check."""
    pack = results / "inp_former" / "packs" / "nut"
    pack.mkdir(parents=True)
    (pack / "pack.json").write_text(json.dumps({"split": "test", "check": check}))
    first, *others = files_of(results, RUNS)
    return [replace(first, pack=pack), *others]


def test_the_page_says_whether_packs_give_the_masks_of_their_runs(results: Path) -> None:
    assert "Packs" not in Page(build(results)).text
    check = {"images": 4, "equal_masks": 3, "equal_maps": 4, "equal_scores": 4, "differing_pixels": 7}
    page = Page(build(results, runs=with_pack(results, check)))
    said = "inp_former, nut: Masks of 3 of 4 images of test equal the workflow's, 7 pixels differ."
    assert page.text.count(said) == 1


def test_a_pack_that_was_not_compared_is_damaged(results: Path) -> None:
    with pytest.raises(DataError, match=r"packs/nut/pack.json: .* Make it again with `snakemake --forcerun pack`"):
        build(results, runs=with_pack(results, None))


def with_detectability(results: Path) -> list[RunFiles]:
    """The runs of a report, the first of which has a stain of 4 pixels missed and one of 8 found."""
    folder = results / "inp_former" / "detectability" / "nut"
    folder.mkdir(parents=True)
    key = {"kind": ["stain"], "contrast": [40.0]}
    counts = {"trials": [2], "hits": [1], "good_images": [7], "good_images_with_mask": [3]}
    sizes = {"a90": [np.nan], "a90_95": [np.nan]}
    write_table(
        folder / "curves.parquet", pd.DataFrame({**key, **counts, **sizes, "sentence": ["finds <b>stains</b>."]})
    )
    trials = {"kind": ["stain"] * 2, "contrast": [40.0] * 2, "size": [4.0, 8.0], "hit": [False, True]}
    write_table(folder / "trials.parquet", pd.DataFrame(trials))
    band = {"size": [4.0, 8.0], "pod": [0.1, 0.9], "lower": [0.0, 0.5], "upper": [0.5, 1.0]}
    write_table(folder / "bands.parquet", pd.DataFrame({"kind": ["stain"] * 2, "contrast": [40.0] * 2, **band}))
    Image.new("RGB", (8, 8)).save(folder / "stain_40_examples.jpg")
    first, *others = files_of(results, RUNS)
    return [replace(first, detectability=folder), *others]


def test_the_page_shows_which_sizes_are_found(results: Path) -> None:
    assert "Detectability" not in Page(build(results)).text
    page = build(results, runs=with_detectability(results))
    text = Page(page).text
    assert text.count("nut, inp_former: finds <b>stains</b>.") == 1
    assert text.count("nut, inp_former: marks something on 3 of 7 good images.") == 1
    link = "assets/detectability/inp_former/nut/stain_40_examples.jpg"
    assert f'src="{link}"' in page.read_text() and (page.parent / link).is_file()
    figures = {file.stem: file.read_text() for file in (page.parent / "figures").rglob("*_pod_*.svg")}
    assert list(figures) == ["inp_former_pod_stain_40"]
    assert "1 of 2" in figures["inp_former_pod_stain_40"]
    assert "8 px: 1 of 1 found" in page.read_text() + "".join(
        p.read_text() for p in (page.parent / "assets").rglob("*.js")
    )


def data_file(page: Path, name: str) -> Any:
    """The content of a data file, as the page's script gets it."""
    text = (page.parent / "assets" / f"{name}.js").read_text(encoding="ascii")
    found = re.fullmatch(r'robis\.take\("([^"]+)",(.*)\);\n', text, flags=re.DOTALL)
    assert found and found[1] == name
    return json.loads(found[2])


def groups(page: Path) -> list[dict[str, Any]]:
    text = page.read_text(encoding="utf-8")
    found = re.search(r'<script type="application/json" id="data">(.*?)</script>', text, flags=re.DOTALL)
    assert found
    return json.loads(found[1])["groups"]


def test_every_image_has_its_pictures_and_its_facts(results: Path) -> None:
    page = build(results)
    samples, run = data_file(page, "001/samples"), data_file(page, "001/run1")
    # Anomalous images first, then by score.
    assert samples["id"] == ["bad/000", NASTY, "good/000", "good/001"]
    assert run["result"] == ["found", "missed", "false alarm", "clean"]
    assert run["score"] == [3.0, 1.0, 2.0, 0.5]
    # 16 x 32 pixels of truth, of which a box of 16 x 16 is found: 2 * 256 / (512 + 256).
    assert run["segF1"] == [pytest.approx(2 / 3), 0.0, None, None]
    assert samples["area"] == [pytest.approx(512 / (96 * 128)), pytest.approx(512 / 700_000), None, None]
    assert samples["regions"] == [1, 1, None, None]
    assert (samples["fullHeight"][1], samples["fullWidth"][1]) == (700, 1000)
    assert run["stableFirst"] == [200.0] * 4
    for row, name in enumerate(samples["id"]):
        for suffix in ("", "-run1"):
            with Image.open(page.parent / "assets" / "001" / "images" / f"{row}{suffix}.jpg") as picture:
                assert picture.width <= samples["width"][row], name
                assert picture.height <= samples["height"][row], name
        assert samples["width"][row] * samples["height"][row] <= 640 * 480
        original = page.parent / unquote(samples["original"][row])
        assert original.resolve().is_file()
    assert data_file(page, "002/run1")["result"] == ["judged anomalous", "judged normal"]
    assert "vit_tiny" in Page(page).text


def test_outlines_are_where_the_masks_are(results: Path) -> None:
    page = build(results)
    truth, masks = data_file(page, "001/truth-0"), data_file(page, "001/run1-masks-0")
    assert truth[2:] == [None, None], "a normal image without a mask"
    # The picture has the image's own size, 8 units a pixel; an outline runs a quarter of a mask's pixel inside.
    assert corners(truth[0]) == pytest.approx((8 * 8, 8 * 8, 24 * 8, 40 * 8), abs=2)
    coarse, final = masks[0]
    assert coarse == final
    # The mask's pixels are four of the image's.
    assert corners(final) == pytest.approx((8 * 8, 8 * 8, 24 * 8, 24 * 8), abs=8)
    assert masks[1] == ["", ""]


def corners(outline: Any) -> tuple[int, int, int, int]:
    """Top, left, bottom and right of a path of one outline."""
    path = outline if isinstance(outline, str) else outline[0]
    numbers = [int(number) for number in re.findall(r"-?\d+", path)]
    points = np.cumsum(np.array(numbers).reshape(-1, 2), axis=0)
    return (*points.min(axis=0)[::-1].tolist(), *points.max(axis=0)[::-1].tolist())


def test_names_stay_text(results: Path) -> None:
    odd = '<script>alert(2)&"'
    write_data(results.parents[1] / "data", results, odd, "test", TEST)
    write_run(results / "inp_former", odd, "test", TEST, VALUES)
    page = build(results, runs=files_of(results, [*RUNS, ["inp_former", odd, "test"]]))
    assert "<script>alert" not in page.read_text(encoding="utf-8")
    assert Page(page).scripts == 3
    for figure in data_file(page, "003/figures"):
        assert "<script" not in figure["svg"]
        assert (page.parent / unquote(f"{figure['file']}.svg")).is_file()
    inside = [path for path in (page.parent / "assets").rglob("*") if path.is_file()]
    assert all(re.fullmatch(r"[\w.-]+", path.name) for path in inside)


def test_numbers_are_those_of_the_metric_files(results: Path) -> None:
    page = build(results)
    found = Page(page)
    for value in VALUES.values():
        if value is not None:
            assert found.values.count(str(value)) == 2, "in the category's row and the mean's"
            assert f"{100 * value:.1f}" in found.words
    assert "\N{EN DASH}" in found.words, "an undefined metric is a dash"
    table = pd.read_csv(page.parent / "metrics.csv")
    assert table["category"].tolist() == ["nut", "mean"]
    assert table.loc[0, "image_auroc"] == 0.1234
    assert table["aupro_0.05"].isna().all()
    assert (page.parent / "metrics.csv").read_text().splitlines()[1].startswith("inp_former,nut,test,4,2,2,")
    assert "No metrics for nut/private" in found.text


def test_every_heading_of_a_metric_says_what_it_is(results: Path) -> None:
    """In the table of a run (buttons), and with two runs in those of each metric (captions and their list)."""
    alone = build(results)
    headings = re.findall(r'<button type="button" title="([^"]+)">', alone.read_text(encoding="utf-8"))
    assert headings[: len(METRICS)] == [f"{name}: {MEANINGS[name]}" for name in METRICS]
    write_run(results / "musc", "nut", "test", TEST, VALUES)
    page = build(results, runs=files_of(results, [*RUNS, ["musc", "nut", "test"]])).read_text(encoding="utf-8")
    captions = re.findall(r'<caption><abbr title="([^"]+)">', page)
    assert captions == headings[: len(METRICS)]
    options = re.findall(r'<option value="(\w[\w.]+)" title="([^"]+)"', page)
    assert dict(options) == MEANINGS


def test_images_without_a_label_are_shown_all_the_same(results: Path) -> None:
    page = build(results, runs=files_of(results, RUNS[1:]))
    assert data_file(page, "001/samples")["label"] == [None, None]
    assert [figure["name"] for figure in data_file(page, "001/figures")] == [
        "inp_former_scores",
        "inp_former_thresholds",
    ]
    assert "No metrics for nut/private" in Page(page).text
    assert len((page.parent / "metrics.csv").read_text().splitlines()) == 1


def test_no_more_images_than_asked_for_defective_ones_first(results: Path) -> None:
    page = build(results, images=2)
    assert data_file(page, "001/samples")["id"] == ["bad/000", NASTY]
    entry = groups(page)[0]
    assert (entry["images"], entry["shown"]) == (4, 2)
    assert entry["runs"][0]["counts"] == counts(missed=1, false_alarm=1, found=1, clean=1)
    assert entry["runs"][0]["leftOut"] == counts(false_alarm=1, clean=1)


def counts(**some: int) -> dict[str, int]:
    return dict.fromkeys(VERDICTS, 0) | {name.replace("_", " "): number for name, number in some.items()}


def test_figures_count_images_that_the_gallery_leaves_out(results: Path) -> None:
    figures = {figure["name"]: figure for figure in data_file(build(results, images=1), "001/figures")}
    assert set(figures) == {"roc", "inp_former_scores", "inp_former_thresholds", "inp_former_sizes"}
    sizes = figures["inp_former_sizes"]["svg"]
    assert "bad/000: 512 pixels, 50.0 % covered" in sizes
    assert "512 pixels, 0.0 % covered" in sizes, "the image that is left out"
    assert sizes.count("data-sample") == 1


def test_training_is_shown_of_the_runs_that_were_trained(results: Path) -> None:
    history = results / "inp_former" / "models" / "nut" / "training.parquet"
    write_table(history, pd.DataFrame({"step": [0, 1], "loss": [1.0, 0.5], "coherence": [0.8, 0.4]}))
    names = [figure["name"] for figure in data_file(build(results), "001/figures")]
    assert "inp_former_training" not in names, "left behind by an earlier run"
    runs = [made_files(results / "inp_former", "nut", "test", history=history)]
    figures = {figure["name"]: figure for figure in data_file(build(results, runs=runs), "001/figures")}
    assert "loss, last\N{EN SPACE}0.5<" in figures["inp_former_training"]["svg"]


@pytest.mark.parametrize("damage", ["empty", "no step"])
def test_a_damaged_history_is_named_with_its_rule(results: Path, damage: str) -> None:
    history = results / "inp_former" / "models" / "nut" / "training.parquet"
    write_table(history, pd.DataFrame({"loss": [1.0, 0.5], "coherence": [0.8, 0.4]}))
    if damage == "empty":
        history.write_bytes(b"")
    runs = [made_files(results / "inp_former", "nut", "test", history=history)]
    problem = "the file is empty" if damage == "empty" else "no column 'step'"
    with pytest.raises(DataError, match=rf"training\.parquet: .*{problem}.*`snakemake --forcerun train`"):
        build(results, runs=runs)


def test_the_same_input_gives_the_same_bytes_and_old_pictures_go(results: Path) -> None:
    first = content(build(results))
    assert content(build(results)) == first
    assert {Path(name).suffix for name in first} == {
        ".html",
        ".js",
        ".jpg",
        ".svg",
        ".png",
        ".csv",
        ".tex",
        ".xlsx",
        ".txt",
    }
    assert len(content(build(results, images=1))) < len(first)


def test_a_table_without_an_image_is_named(results: Path) -> None:
    file = results / "inp_former" / "image_scores" / "nut" / "test.parquet"
    write_table(file, pd.read_parquet(file).iloc[1:])
    with pytest.raises(DataError, match=r"image_scores/nut/test\.parquet: 1 of the 4 images have no row \(bad/000\)"):
        build(results)
    assert not (results / "report" / "index.html").exists()


def test_vis_single_colors_each_map_by_its_own_range(results: Path) -> None:
    def heat(page: Path) -> np.ndarray:
        with Image.open(page.parent / "assets" / "001" / "images" / "0-run1.jpg") as picture:
            return np.asarray(picture.convert("L"), int)

    split = heat(build(results))
    page = build(results, vis="single")
    single = heat(page)
    run = data_file(page, "001/run1")
    made = read_map(results / "inp_former" / "anomaly_images" / "nut" / "test" / "bad" / "000.tiff")
    assert (run["low"][0], run["high"][0]) == (float(made.min()), float(made.max()))
    # The map spans about 10 to 210 of 255: on its own scale, the darkest gets darker and the brightest brighter.
    assert single.min() < split.min() and single.max() > split.max()
    assert '"vis":"single"' in page.read_text()


@pytest.fixture
def other(results: Path) -> Path:
    """Results of the same images, one of which is missing, by a run that finds everything."""
    folder = results.parent / "before"
    images = [Made(m.sample_id, m.label, m.truth, m.truth, m.score, m.size) for m in TEST[:3]]
    write_run(folder / "inp_former", "nut", "test", images, dict.fromkeys(METRICS, 0.9))
    return folder


def compared(results: Path, other: Path) -> list[RunFiles]:
    """RUNS of the results, and the run of the other folder."""
    runs = files_of(results, RUNS)
    there = made_files(other / "inp_former", "nut", "test", name="before: inp_former", compared=True)
    return [*runs, replace(there, samples=runs[0].samples)]


def test_other_results_stand_beside(results: Path, other: Path) -> None:
    page = build(results, runs=compared(results, other))
    runs = groups(page)[0]["runs"]
    assert [run["name"] for run in runs] == ["inp_former", "before: inp_former"]
    assert [run["compared"] for run in runs] == [False, True]
    assert len(groups(page)[1]["runs"]) == 1, "nothing of private there"
    there = data_file(page, "001/run2")
    assert there["result"] == ["found", "found", "clean", None]
    assert runs[1]["counts"] == counts(found=2, clean=1)
    assert there["segF1"] == [1.0, pytest.approx(1.0, abs=0.05), None, None]
    assert there["score"][3] is None
    assert data_file(page, "001/run2-masks-0")[3] is None
    assert "0.9" in Page(page).values
    assert "before" not in (page.parent / "metrics.csv").read_text()
    roc = next(figure for figure in data_file(page, "001/figures") if figure["name"] == "roc")
    assert "before: inp_former" in roc["svg"]
    assert "before: inp_former has no finished results of nut/private." in Page(page).text


def rewrite(path: Path, **columns: Any) -> None:
    write_table(path, pd.read_parquet(path).assign(**columns))


def test_other_results_are_compared_as_far_as_possible(results: Path, other: Path) -> None:
    """NaN and text for scores, a mask and a map that cannot be used, odd metrics and curves."""
    run = other / "inp_former"
    rewrite(run / "image_scores" / "nut" / "test.parquet", rescored=["high", None, "inf"])
    (run / "anomaly_images_thresholded" / "nut" / "test" / f"{NASTY}.png").write_bytes(b"no PNG")
    nan = np.full((24, 32), np.nan, np.float16)
    tifffile.imwrite(run / "anomaly_images" / "nut" / "test" / "good" / "000.tiff", nan)
    rewrite(run / "metrics" / "nut" / "test.parquet", seg_f1="good", pixel_ap=np.inf)
    rewrite(run / "curves" / "nut" / "test.parquet", x=[0.0, np.nan, 1.0])
    page = build(results, runs=compared(results, other))
    there = data_file(page, "001/run2")
    assert there["result"] == ["found", None, None, None]
    assert there["score"] == [None] * 4
    assert there["segF1"][0] == 1.0
    text = Page(page).text
    assert "before: inp_former, nut/test: 3 images have no finite score or threshold." in text
    assert "before: inp_former, nut/test: 2 images are left out; the first: " in text
    assert f"{NASTY}.png" in text
    assert "0.9" in Page(page).values, "the metrics that are numbers"


@pytest.mark.parametrize(
    ("table", "content", "message"),
    [
        ("thresholds", b"no table", r"is left out: .*/thresholds/nut/test\.parquet: not a readable Parquet table"),
        (
            "image_scores",
            {"sample_id": ["a"], "rescored": [1.0], "score": [1.0]},
            "is left out: .* have none of the images",
        ),
        (
            "image_scores",
            {"sample_id": ["bad/000"] * 2, "rescored": 1.0, "score": 1.0},
            "is left out: .* several rows for an image",
        ),
        ("metrics", {"seg_f1": [0.5]}, "its metrics are left out: .*: no column 'images'"),
        ("curves", {"curve": ["roc"]}, "its curves are left out: .*: no column 'x'"),
    ],
)
def test_other_results_that_cannot_be_used_are_named(
    results: Path, other: Path, table: str, content: Any, message: str
) -> None:
    path = other / "inp_former" / table / "nut" / "test.parquet"
    path.write_bytes(content) if isinstance(content, bytes) else write_table(path, pd.DataFrame(content))
    page = build(results, runs=compared(results, other))
    assert re.search(f"before: inp_former, nut/test:? {message}", Page(page).text)
    assert len(groups(page)[0]["runs"]) == (1 if "is left out" in message else 2)
    path = results / "inp_former" / table / "nut" / "test.parquet"
    path.write_bytes(content) if isinstance(content, bytes) else write_table(path, pd.DataFrame(content))
    with pytest.raises(DataError, match=rf"(?s){table}/nut/test\.parquet.* Make it again with `snakemake --forcerun "):
        build(results)


def test_a_score_that_is_no_number_is_named(results: Path) -> None:
    rewrite(results / "inp_former" / "image_scores" / "nut" / "test.parquet", rescored=[1.0, np.nan, 2.0, 3.0])
    with pytest.raises(DataError, match=r"the column 'rescored' holds no finite number for 1 images \(bad/<script>"):
        build(results)


def test_a_mask_beside_the_defect_is_found_elsewhere(results: Path) -> None:
    """By overlap with the ground truth, pixel by pixel; what has no ground truth is only caught."""
    images = [
        Made("touches", "anomalous", truth=(8, 8, 24, 40), final=(20, 36, 40, 60), score=5),
        Made("beside", "anomalous", truth=(8, 8, 24, 40), final=(24, 40, 40, 60), score=4),
        Made("empty", "anomalous", truth=(8, 8, 24, 40), score=3),
        Made("no truth", "anomalous", final=(8, 8, 24, 40), score=2),
        Made("normal", final=(8, 8, 24, 40), score=1),
    ]
    write_data(results.parents[1] / "data", results, "nut", "test", images)
    write_run(results / "inp_former", "nut", "test", images, VALUES)
    page = build(results, images=2)
    run = data_file(page, "001/run1")
    assert run["result"] == ["found", "found elsewhere"]
    assert run["segF1"] == [pytest.approx(2 * 4 * 4 / (16 * 32 + 20 * 24)), 0.0]
    entry = groups(page)[0]["runs"][0]
    assert entry["counts"] == counts(found=1, found_elsewhere=1, missed=1, caught=1, false_alarm=1)
    assert entry["leftOut"] == counts(missed=1, caught=1, false_alarm=1)
    assert "Caught" in Page(page).words, "a column of the overview, where there are some"


def test_regions_of_the_final_mask_are_counted(results: Path) -> None:
    mask = box((96, 128), (0, 0, 8, 8), scale=4) | box((96, 128), (40, 40, 60, 60), scale=4)
    write_mask(results / "inp_former" / "anomaly_images_thresholded" / "nut" / "test" / "bad" / "000.png", mask)
    assert data_file(build(results), "001/run1")["regions"] == [2, 0, 1, 0]


def test_only_the_given_files_are_read(results: Path, tmp_path: Path) -> None:
    """The files may lie anywhere: each alone in a folder of its own, without a results folder around them."""
    runs = []
    for number, run in enumerate(files_of(results, RUNS)):
        moved = {}
        for name in ("samples", "maps", "thresholds", "coarse_masks", "masks", "scores", "metrics", "curves"):
            path = getattr(run, name)
            if path:
                moved[name] = tmp_path / "elsewhere" / f"{name}{number}"
                (shutil.copytree if path.is_dir() else shutil.copy)(path, ensure(moved[name]))
        runs.append(replace(run, **moved))
    expected = content(build(results))
    shutil.rmtree(results)
    assert content(build(results, runs=runs)) == expected


def ensure(path: Path) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    return path


def content(page: Path) -> dict[str, bytes]:
    files = [path for path in page.parent.rglob("*") if path.is_file()]
    return {path.relative_to(page.parent).as_posix(): path.read_bytes() for path in files}


def test_published_numbers_stand_beside_runs_that_compare(results: Path) -> None:
    """MuSc on the three categories of BTAD in the published setting, then with another number of neighbors."""
    for category in ("01", "02", "03"):
        write_data(results.parents[1] / "data", results, category, "test", TEST)
        write_run(results / "musc", category, "test", TEST, VALUES)
    setup = {
        **{"detector": "musc", "encoder.name": "clip_vitl14_336", "encoder.weights": "auto", "musc.subsets": 1},
        **{"encoder.input_size": None, "tiling.window": "image", "tiling.resample": "bicubic"},
        **{"score_images.top_fraction": "own", "rescore.method": "rscin", "rescore.neighborhood_sizes": [1, 2, 3]},
        **{"rescore.embeddings": "own", "evaluate.resolution": 518},
    }
    facts = made_facts(results.parents[1] / "data", "musc", layout="btad")
    runs = files_of(results, [["musc", category, "test"] for category in ("01", "02", "03")])
    found = Page(build(results, runs=runs, facts=replace(facts, setups={"musc": setup})))
    assert found.words.count("97.85") == 2, "beside the mean, and in the table of what is published"
    assert "yes, with musc" in found.text
    setup["rescore.neighborhood_sizes"] = [2, 3]
    found = Page(build(results, runs=runs, facts=replace(facts, setups={"musc": setup})))
    assert found.words.count("97.85") == 1
    assert "no: rescore.neighborhood_sizes: published with 1, 2, 3, here 2, 3" in found.text
    assert "97.85" not in Page(build(results, runs=runs[:1], facts=replace(facts, layout="folder"))).words


def test_two_runs_show_the_same_images(results: Path) -> None:
    """What one run scores high is looked at in all of them."""
    turned = [Made(m.sample_id, m.label, m.truth, m.final, 9 - m.score, m.size) for m in TEST]
    write_run(results / "musc", "nut", "test", turned, VALUES)
    runs = files_of(results, [RUNS[0], ["musc", "nut", "test"]])
    page = build(results, runs=runs, images=3)
    # Both anomalous ones; of the normal ones, good/000 is second of inp_former, good/001 first of musc.
    assert data_file(page, "001/samples")["id"] == ["bad/000", NASTY, "good/001"]
    assert data_file(page, "001/run2")["score"] == [6.0, 8.0, 8.5]
    assert 'href="#compare"' in page.read_text()


def test_images_are_judged_by_the_limit_and_not_by_their_masks(results: Path) -> None:
    """Scores 3, 1, 2 and 0.5 against 1.5; a mask of an image that is judged normal is shown, but counts for nothing."""
    images = [replace(TEST[0], score=1.4), TEST[1], TEST[2], replace(TEST[3], score=1.5, final=(0, 0, 8, 8))]
    write_run(results / "inp_former", "nut", "test", images, VALUES)
    write_verdicts(results / "inp_former", "nut", "test", images, limit=1.5)
    write_verdicts(results / "inp_former", "nut", "private", PRIVATE, limit=1.5)
    page = build(results)
    run = data_file(page, "001/run1")
    # Anomalous images come first, then the highest scores.
    assert run["result"] == ["missed", "missed", "false alarm", "clean"]
    assert run["judged"] == [False, False, True, False]
    assert run["margin"] == pytest.approx([-0.1, -0.5, 0.5, 0.0])
    assert run["regions"] == [1, 0, 1, 1]
    assert data_file(page, "002/run1")["result"] == ["judged anomalous", "judged normal"]
    assert "<title>limit: 1.5</title>" in scores_figure(page)
    assert groups(page)[0]["runs"][0]["limit"] == {"value": 1.5, "words": "the highest of 30 good images"}
    table = pd.read_csv(page.parent / "images.csv").set_index(["split", "sample_id"])
    assert table.loc["test", "judged"].tolist() == ["anomalous", "normal", "normal", "normal"], "highest margin first"
    assert table.loc[("private", "000"), "reason"] == "above the highest of 30 good images"
    assert table.loc[("private", "001"), "reason"] == "not above the highest of 30 good images"


def scores_figure(page: Path) -> str:
    return next(figure["svg"] for figure in data_file(page, "001/figures") if figure["name"] == "inp_former_scores")


def test_a_limit_is_not_drawn_among_scores_of_another_scale(results: Path) -> None:
    write_verdicts(results / "inp_former", "nut", "test", TEST, limit=1.5)
    rewrite(results / "inp_former" / "image_scores" / "nut" / "test.parquet", rescored=[0.9, 0.1, 0.5, 0.0])
    assert "<title>limit:" not in scores_figure(build(results))


def test_the_table_of_images_says_where_masks_are_and_what_they_mark(results: Path) -> None:
    """Without a limit the mask decides, and is said to."""
    page = build(results)
    with (page.parent / "images.csv").open(encoding="utf-8", newline="") as stream:
        rows = {row["sample_id"]: row for row in csv.DictReader(stream)}
    row = rows["bad/000"]
    assert (row["detector"], row["category"], row["split"], row["label"]) == ("inp_former", "nut", "test", "anomalous")
    assert (row["judged"], row["reason"], row["result"]) == ("anomalous", "the final mask is not empty", "found")
    # A box from (8, 8) to (24, 24) of 96 x 128 pixels; its map is a quarter of that size.
    assert [row[name] for name in ("x", "y", "width", "height", "regions")] == ["8", "8", "16", "16", "1"]
    assert float(row["area"]) == 256 / (96 * 128)
    made = read_map(results / "inp_former" / "anomaly_images" / "nut" / "test" / "bad" / "000.tiff")
    assert float(row["peak"]) == float(made[2:6, 2:6].max())
    assert (row["limit"], row["margin"]) == ("", "")
    assert row["mask"] == "../inp_former/anomaly_images_thresholded/nut/test/bad/000.png"
    assert (page.parent / row["mask"]).resolve().is_file()
    assert (rows["good/001"]["reason"], rows["good/001"]["peak"]) == ("the final mask is empty", "")
    sheet = load_workbook(page.parent / "metrics.xlsx")["images"]
    assert [cell.value for cell in sheet[1]] == list(row)
    assert {cell.value for cell in sheet["D"][1:]} == set(rows)
    assert sheet["O2"].value == 8, "a number"


def test_the_page_and_the_summary_say_how_good_a_run_is(results: Path) -> None:
    page = build(results)
    summary = (page.parent / "summary.txt").read_text()
    # One of the two defective images scores above both good ones, the other above one of them.
    sentence = (
        "inp_former has too few labeled images to say whether it tells good from defective ones: image AUROC 75.0"
    )
    assert " ".join(summary.split()).startswith(sentence)
    assert sentence in Page(page).text
    assert "inp_former, test: 2 of 4 images judged anomalous:" in summary
    assert "inp_former, private: 1 of 2 images judged anomalous:" in summary
    assert "Likely cause" not in summary, "nothing is known of the run"
    rewrite(results / "inp_former" / "image_scores" / "nut" / "test.parquet", rescored=[0.0, 0.0, 1.0, 1.0])
    conditions = {"inp_former": {"nut": Conditions(1024, 224, "vit_tiny", "random", 4)}}
    facts = replace(made_facts(results.parents[1] / "data", "inp_former"), conditions=conditions)
    text = Page(build(results, facts=facts)).text
    assert "inp_former does not tell good from defective images better than chance: image AUROC 0.0" in text
    assert "Likely causes, the surest first:" in text
    assert text.index("encoder.weights") < text.index("The window of 1024 pixels")
    conditions = {"inp_former": {"nut": Conditions("image", 2240, "vit_tiny", "auto", 60)}}
    text = Page(build(results, facts=replace(facts, conditions=conditions))).text
    assert "Likely cause: " in text
    assert "the surest first" not in text
