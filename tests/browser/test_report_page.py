"""The report in a real browser: it opens from disk, sorts, filters, zooms, goes by keyboard, stays fast."""

from __future__ import annotations

import json
import shutil
from dataclasses import replace
from pathlib import Path

import pandas as pd
import pytest

from robis.evaluation.metrics import METRICS
from robis.io.tables import write_csv, write_table
from robis.report.page import build_report
from tests.browser.chromium import Chromium
from tests.made_results import (
    NASTY,
    Made,
    made_facts,
    made_files,
    report_files,
    write_data,
    write_many,
    write_run,
    write_verdicts,
)

TEST = [
    Made("bad/000", "anomalous", truth=(8, 8, 24, 40), final=(8, 8, 24, 24), score=30.0),
    Made(NASTY, "anomalous", truth=(8, 8, 12, 12), score=10.0, size=(200, 300)),
    Made("good/000", final=(0, 0, 8, 8), score=20.0),
    Made("good/001", score=5.0),
]
NUT = {name: 0.2 + n / 100 for n, name in enumerate(METRICS)}
BOLT = {name: 0.9 - n / 100 for n, name in enumerate(METRICS)} | {"aupro_0.05": None}
RUNS = [[detector, category, "test"] for detector in ("inp_former", "musc") for category in ("nut", "bolt")]


def build(results: Path, root: Path, runs: list[list[str]], *, vis: str = "split") -> Path:
    files = [made_files(results / run, category, split) for run, category, split in runs]
    facts = made_facts(root, *sorted({run for run, _, _ in runs}))
    outputs = report_files(results / "report")
    build_report(files, outputs, facts, images=5000, vis=vis, threads=2)
    return outputs.page


@pytest.fixture(scope="module")
def made(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, Path]:
    """Data and results of two runs on two categories; MuSc finds what INP-Former misses, and the other way round."""
    root, results = tmp_path_factory.mktemp("data"), tmp_path_factory.mktemp("results") / "shop"
    turned = [Made(m.sample_id, m.label, m.truth, None if m.final else m.truth, m.score, m.size) for m in TEST]
    for category, values in (("nut", NUT), ("bolt", BOLT)):
        write_data(root, results, category, "test", TEST)
        write_run(results / "inp_former", category, "test", TEST, values)
        write_run(results / "musc", category, "test", turned, dict.fromkeys(METRICS, 0.5))
    return root, results


@pytest.fixture(scope="module")
def page(made: tuple[Path, Path]) -> Path:
    root, results = made
    return build(results, root, RUNS)


def rows(browser: Chromium) -> list[str]:
    """Names of the images in the list, from top to bottom."""
    script = """[...document.querySelectorAll("#list .sample")].sort((a, b) => a.dataset.position - b.dataset.position)
        .map((row) => row.querySelector("h3, .name").textContent)"""
    return browser.run(script)


def choose(browser: Chromium, selector: str, value: str) -> None:
    browser.run(
        f"""(() => {{ const select = document.querySelector({json.dumps(selector)}); select.value = {json.dumps(value)};
        select.dispatchEvent(new Event("change", {{bubbles: true}})); }})()"""
    )


def open_images(browser: Chromium, page: Path, fragment: str = "#images/1/1", count: int = 4) -> None:
    browser.open(page, fragment)
    browser.wait(f"document.querySelectorAll('#list .sample').length === {count}")


@pytest.mark.parametrize(("width", "dark"), [(1400, False), (420, True)])
def test_every_view_opens_without_a_complaint(browser: Chromium, page: Path, width: int, dark: bool) -> None:
    browser.resize(width, 1000, dark=dark)
    for view, ready in {
        "overview": "document.querySelectorAll('table.metrics').length === 3",
        "figures": "document.querySelectorAll('#figures figure svg').length >= 4",
        "images": "document.querySelectorAll('#list .sample').length >= 2",
        "compare": "document.querySelectorAll('#list .of-run').length >= 4",
        "run": "document.querySelector('.versions') !== null",
    }.items():
        browser.open(page, f"#{view}")
        browser.wait(ready)
        shown = browser.run("[...document.querySelectorAll('.view')].filter((v) => v.offsetParent).length")
        assert shown == 1, view
        assert browser.run(f"document.querySelector('.bar [aria-current]').getAttribute('href') === '#{view}'")
        assert browser.run("(scrollTo(600, 0), scrollX)") == 0, f"{view} is wider than the window"
    background = browser.run("getComputedStyle(document.body).backgroundColor")
    assert (sum(map(int, background[4:-1].split(","))) < 120) == dark


def test_the_theme_can_be_chosen_and_is_kept(browser: Chromium, page: Path) -> None:
    browser.open(page)
    background = "getComputedStyle(document.body).backgroundColor"
    light = browser.run(background)
    browser.click("#theme")
    assert browser.run("document.getElementById('theme').textContent") == "Theme: light"
    browser.click("#theme")
    dark = browser.run(background)
    assert dark != light
    browser.open(page)
    assert browser.run(background) == dark
    browser.click("#theme")
    assert browser.run("document.documentElement.dataset.theme") == "auto"


def test_a_click_on_a_heading_sorts(browser: Chromium, page: Path) -> None:
    browser.open(page)
    table = "table.metrics[aria-label^='Means']"
    names = f'[...document.querySelectorAll("{table} tbody.sorted th")].map((cell) => cell.textContent.trim())'
    heading = f"{table} th[data-column='1']"
    assert browser.run(names) == ["inp_former", "musc"]
    # Image AUROC: means of 0.2 and 0.9, and 0.5.
    for order, expected in (("descending", ["inp_former", "musc"]), ("ascending", ["musc", "inp_former"])):
        browser.click(f"{heading} button")
        assert browser.run(f"document.querySelector(\"{heading}\").getAttribute('aria-sort')") == order
        assert browser.run(names) == expected
    browser.run(f"document.querySelector(\"{table} th[data-column='0'] button\").focus()")
    browser.press("Enter")
    assert browser.run(names) == ["inp_former", "musc"], "by keyboard, and names upwards"


def test_a_metric_can_be_picked_and_the_best_is_marked(browser: Chromium, page: Path) -> None:
    browser.open(page)
    visible = "[...document.querySelectorAll('.matrix')].filter((t) => t.offsetParent).map((t) => t.dataset.metric)"
    assert browser.run(visible) == ["seg_f1"]
    choose(browser, "[data-matrix]", "image_auroc")
    assert browser.run(visible) == ["image_auroc"]
    best = """[...document.querySelectorAll(".matrix[data-metric=image_auroc] tbody tr")].map((row) =>
        [row.cells[0].textContent.trim(), [...row.cells].findIndex((cell) => cell.classList.contains("best"))])"""
    assert browser.run(best) == [["nut", 2], ["bolt", 1]]


def test_single_seeds_show_on_demand(browser: Chromium, made: tuple[Path, Path], tmp_path: Path) -> None:
    root, results = made
    shutil.copytree(results, tmp_path / "shop", ignore=shutil.ignore_patterns("report"))
    runs = [["inp_former", "nut", "test"]]
    for seed in (0, 1):
        run = f"winclip_1shot_seed{seed}"
        write_run(tmp_path / "shop" / run, "nut", "test", TEST, dict.fromkeys(METRICS, 0.4 + 0.2 * seed))
        runs.append([run, "nut", "test"])
    browser.open(build(tmp_path / "shop", root, runs))
    shown = """[...document.querySelectorAll("table.metrics[aria-label^='Means'] tbody.sorted tr")]
        .filter((row) => row.offsetParent).map((row) => row.cells[0].textContent.trim().split(" ")[0])"""
    assert browser.run(shown) == ["inp_former", "winclip_1shot"]
    cell = "document.querySelector(\"table.metrics[aria-label^='Means'] tr.seeds td\").textContent.trim()"
    # 0.4 and 0.6: mean 0.5, sample standard deviation 0.2 / sqrt(2).
    assert browser.run(cell).split() == ["50.0±14.1", "best"]
    browser.click("[data-seeds]")
    assert browser.run(shown) == ["inp_former", "winclip_1shot", "winclip_1shot_seed0", "winclip_1shot_seed1"]


def test_images_are_filtered(browser: Chromium, page: Path) -> None:
    open_images(browser, page)
    assert rows(browser) == ["bad/000", NASTY, "good/000", "good/001"]
    browser.click("#chips label.missed")
    assert rows(browser) == ["bad/000", "good/000", "good/001"]
    assert browser.run("document.getElementById('count').textContent") == "3 of 4 images."
    browser.click("#chips label.missed")
    choose(browser, "#defect", "bad")
    assert rows(browser) == ["bad/000", NASTY]
    # 512 of 12,288 pixels are 4 %; 16 of 60,000 are 0.03 %.
    sizes = browser.run("[...document.querySelectorAll('#size option')].map((one) => one.textContent)")
    assert sizes == ["any", "0.01 to 0.1 % (1)", "1 to 10 % (1)"]
    choose(browser, "#size", "1")
    assert rows(browser) == [NASTY]
    choose(browser, "#size", "")
    choose(browser, "#defect", "")
    browser.press("/")
    for letter in "GOOD":
        browser.press(letter)
    assert rows(browser) == ["good/000", "good/001"]


def test_the_list_is_drawn_once(browser: Chromium, page: Path) -> None:
    browser.open(page, "#overview")
    is_kept = browser.run(
        """(async () => {
            const frame = () => new Promise(requestAnimationFrame);
            location.hash = "#images/1/1";
            while (!document.querySelector("#list .sample")) await frame();
            window.first = document.querySelector("#list .sample");
            await frame();
            await frame();
            return first.isConnected;
        })()"""
    )
    assert is_kept, "a row that is drawn again loses a click that has begun"
    browser.resize(900, 1000)
    browser.wait("!first.isConnected && document.querySelectorAll('#list .sample').length === 4")


def test_images_are_sorted(browser: Chromium, page: Path) -> None:
    open_images(browser, page)
    expected = {
        "score": ["bad/000", "good/000", NASTY, "good/001"],
        "segF1": [NASTY, "bad/000", "good/000", "good/001"],
        "name": [NASTY, "bad/000", "good/000", "good/001"],
        "area": ["bad/000", NASTY, "good/000", "good/001"],
    }
    for sort, names in expected.items():
        choose(browser, "#sort", sort)
        assert rows(browser) == names, sort
    choose(browser, "#sort", "score")
    browser.click("#reverse")
    assert rows(browser) == ["good/001", NASTY, "good/000", "bad/000"]


def test_the_slider_and_the_layers(browser: Chromium, page: Path) -> None:
    open_images(browser, page)
    browser.run("document.getElementById('heat').focus()")
    for _ in range(5):
        browser.press("ArrowLeft", 37)
    opacity = "getComputedStyle(document.querySelector('#list img.heat')).opacity"
    assert float(browser.run(opacity)) == pytest.approx(0.6)
    browser.press("h")
    assert float(browser.run(opacity)) == 0
    browser.press("h")
    assert float(browser.run(opacity)) == pytest.approx(0.6)
    browser.wait("document.querySelector('#list .marks .final path') !== null")
    shown = "getComputedStyle(document.querySelector('#list .marks .final')).display"
    assert browser.run(shown) != "none"
    browser.press("2")
    assert browser.run(shown) == "none"
    browser.click("[data-layer=final]")
    assert browser.run(shown) != "none"


def test_a_name_with_markup_stays_text(browser: Chromium, page: Path) -> None:
    open_images(browser, page)
    assert browser.run("document.querySelectorAll('main script, .sample script, dialog script').length") == 0
    browser.run("gallery.current = 1; openCurrent()")
    assert browser.run("document.getElementById('viewer-title').textContent") == NASTY
    assert browser.run("document.getElementById('viewer-title').children.length") == 0
    browser.press("Escape", 27)
    browser.open(page, "#figures/1")
    browser.wait("document.querySelectorAll('#figures figure svg').length >= 4")
    titles = browser.run("[...document.querySelectorAll('#figures svg title')].map((one) => one.textContent)")
    assert any(NASTY in title for title in titles)
    assert browser.run("document.querySelectorAll('#figures script').length") == 0


def test_panels_zoom_together(browser: Chromium, page: Path) -> None:
    open_images(browser, page)
    browser.click("#list .sample")
    assert browser.run("document.getElementById('viewer').open")
    browser.wait("document.getElementById('viewer-note').textContent.includes('original image')")
    transforms = (
        "[...new Set([...document.querySelectorAll('#lenses .stack')].map((s) => getComputedStyle(s).transform))]"
    )
    assert len(browser.run(transforms)) == 1
    x, y = browser.middle("#lenses .well")
    before = browser.run("[viewer.zoom, viewer.x]")
    browser.wheel(x + 40, y, -300)
    browser.wait("viewer.zoom > 2")
    after = browser.run(transforms)
    assert len(after) == 1 and after[0].startswith("matrix(2.7"), "e to the power of one"
    assert before == [1, 0.5] and browser.run("viewer.x") > 0.5, "towards the pointer"
    for key, zoom in (("+", 1.5), ("-", 1.0), ("0", None)):
        start = browser.run("viewer.zoom")
        browser.press(key)
        assert browser.run("viewer.zoom") == pytest.approx(start * zoom if key == "+" else start / 1.5 if zoom else 1)


def test_the_viewer_goes_from_image_to_image_by_keyboard(browser: Chromium, page: Path) -> None:
    open_images(browser, page)
    title = "document.getElementById('viewer-title').textContent"

    def shows(sample_id: str) -> None:
        browser.wait(f"{title} === {json.dumps(sample_id)}")

    browser.press("j")
    focused = "document.activeElement.querySelector('h3')?.textContent"
    browser.wait(f"{focused} === {json.dumps(NASTY)}")
    browser.press("k")
    browser.wait(f"{focused} === 'bad/000'")
    browser.press("ArrowDown", 40)
    browser.wait(f"{focused} === {json.dumps(NASTY)}")
    browser.press("Enter", 13)
    shows(NASTY)
    browser.press("ArrowRight", 39)
    shows("good/000")
    browser.press("ArrowLeft", 37)
    browser.press("ArrowLeft", 37)
    browser.press("ArrowLeft", 37)
    shows("bad/000")  # it ends at the first one
    browser.press("Escape", 27)
    browser.wait(f"!document.getElementById('viewer').open && {focused} === 'bad/000'")
    browser.press("?")
    browser.wait("document.getElementById('keys').open")
    browser.press("Escape", 27)
    browser.press("l")
    browser.wait("document.querySelectorAll('#list .tile').length === 4")


def test_two_runs_side_by_side(browser: Chromium, page: Path) -> None:
    open_images(browser, page, "#images/1/1/2")
    panels = "document.querySelectorAll('#list .sample:first-of-type figure').length"
    assert browser.run(panels) == 5
    badges = "[...document.querySelectorAll('#list .sample:first-of-type .badge')].map((one) => one.textContent)"
    assert browser.run(badges) == ["found", "missed"]
    choose(browser, "#differ", "b")
    # MuSc alone marks the second defect, and leaves good/000 clean.
    assert rows(browser) == [NASTY, "good/000"]
    choose(browser, "#differ", "")
    choose(browser, "#sort", "gain")
    assert rows(browser)[0] == NASTY
    choose(browser, "#versus", "-1")
    browser.wait(f"{panels} === 4")
    assert browser.run("location.hash") == "#images/1/1"


def test_a_defect_in_a_figure_opens_its_image(browser: Chromium, page: Path) -> None:
    browser.open(page, "#figures/1")
    browser.wait("document.querySelectorAll('#figures [data-sample]').length >= 2")
    dot = "#figures figure[data-run=musc] [data-sample='1']"
    choose(browser, "#figures-run", "musc")
    browser.click(dot)
    browser.wait("document.getElementById('viewer').open")
    assert browser.run("document.getElementById('viewer-title').textContent") == NASTY
    assert browser.run("gallery.view.a.name") == "musc"


def test_a_page_without_its_assets_says_so(chromium: Chromium, page: Path, tmp_path: Path) -> None:
    shutil.copy(page, tmp_path)
    chromium.open(tmp_path / "index.html", "#images")
    chromium.wait("!document.getElementById('trouble').hidden")
    message = chromium.run("document.getElementById('trouble').textContent")
    assert "assets/001/samples.js cannot be loaded. Keep the assets folder beside the page." in message
    chromium.problems.clear()


def test_single_maps_say_their_own_range(browser: Chromium, made: tuple[Path, Path], tmp_path: Path) -> None:
    root, results = made
    shutil.copytree(results, tmp_path / "shop", ignore=shutil.ignore_patterns("report"))
    page = build(tmp_path / "shop", root, RUNS[:1], vis="single")
    open_images(browser, page)
    assert browser.run("document.getElementById('range-low').textContent") == "lowest"
    tick = "document.querySelector('#list .sample:first-of-type figcaption .colormap')"
    low, high = browser.run("[gallery.view.a.low[0], gallery.view.a.high[0]]")
    assert float(browser.run(f"{tick}.style.getPropertyValue('--at')")) == pytest.approx(
        (123.5 - low) / (high - low), abs=1e-4
    )
    assert browser.run(f"{tick}.title").startswith(f"Colors from {low:.4g} to {high:.4g}; threshold 123.5")


def test_masks_beside_the_defect_have_a_result_of_their_own(browser: Chromium, tmp_path: Path) -> None:
    root, results = tmp_path / "data", tmp_path / "results" / "shop"
    images = [
        Made("touches", "anomalous", truth=(8, 8, 24, 40), final=(8, 8, 16, 16), score=3.0),
        Made("beside", "anomalous", truth=(8, 8, 24, 40), final=(60, 60, 80, 80), score=2.0),
        Made("empty", "anomalous", truth=(8, 8, 24, 40), score=1.0),
    ]
    write_data(root, results, "nut", "test", images)
    write_run(results / "inp_former", "nut", "test", images, dict.fromkeys(METRICS, 0.5))
    page = build(results, root, RUNS[:1])
    browser.open(page)
    heads = "[...document.querySelectorAll('table.runs thead th')].map((one) => one.textContent.trim())"
    assert browser.run(heads)[-5:] == ["Missed", "Found elsewhere", "False alarm", "Found", "Clean"]
    cells = "[...document.querySelectorAll('table.runs tbody td data')].map((one) => one.value)"
    assert browser.run(cells) == ["3", "1", "1", "0", "1", "0"]
    open_images(browser, page, count=3)
    badges = "[...document.querySelectorAll('#list .badge')].map((one) => one.textContent)"
    assert sorted(browser.run(badges)) == ["found", "found elsewhere", "missed"]
    color = "getComputedStyle(document.querySelector('.badge.{}')).color"
    colors = {browser.run(color.format(name)) for name in ("found", "found-elsewhere", "missed")}
    assert len(colors) == 3
    browser.click("#chips label.found-elsewhere")
    assert rows(browser) == ["touches", "empty"]


def test_images_are_filtered_by_their_verdict(browser: Chromium, tmp_path: Path) -> None:
    """Masks of images that the limit of 25 judges normal stay, dashed; the page says on top how good the run is."""
    root, results = tmp_path / "data", tmp_path / "results" / "shop"
    images = [*TEST[:3], replace(TEST[3], final=(40, 40, 60, 60)), Made("new", None, final=(0, 0, 8, 8), score=28.0)]
    write_data(root, results, "nut", "test", images)
    write_run(results / "inp_former", "nut", "test", images, NUT)
    write_verdicts(results / "inp_former", "nut", "test", images, limit=25.0)
    page = build(results, root, RUNS[:1])
    browser.open(page)
    said = browser.run("document.querySelector('.quality strong').textContent")
    assert said.startswith("inp_former has too few labeled images to say whether")
    assert browser.run("document.querySelectorAll('.quality p').length") == 4
    open_images(browser, page, count=5)
    badges = "[...document.querySelectorAll('#list .badge')].map((one) => one.textContent)"
    assert sorted(browser.run(badges)) == ["clean", "clean", "found", "judged anomalous", "missed"]
    for judged, names in {
        "anomalous": ["bad/000", "new"],
        "normal": [NASTY, "good/000", "good/001"],
        "kept": ["good/000", "good/001"],
    }.items():
        choose(browser, "#judged", judged)
        assert rows(browser) == names, judged
    browser.wait("document.querySelectorAll('#list .final.kept path').length > 0")
    dashes = "getComputedStyle(document.querySelector('#list .final{} path:not(.rim)')).strokeDasharray"
    assert browser.run(dashes.format(".kept")) == "5px, 4px"
    caption = "document.querySelector('#list .sample:first-of-type figure:nth-of-type(3) figcaption').textContent"
    assert browser.run(caption) == "Masks, judged normal"
    choose(browser, "#judged", "")
    choose(browser, "#sort", "margin")
    assert rows(browser) == ["bad/000", "new", "good/000", NASTY, "good/001"]
    margin = "document.querySelector('#list .sample:first-of-type dl div:nth-of-type(3)')"
    assert browser.run(f"{margin}.textContent") == "Margin5"
    assert "minus the limit 25: the highest of 30 good images." in browser.run(f"{margin}.title")


def test_a_run_without_scores_is_compared_all_the_same(
    browser: Chromium, made: tuple[Path, Path], tmp_path: Path
) -> None:
    """A compared folder whose table has no finite score: dashes instead of numbers, last when sorted, and a note."""
    root, results = made
    other = tmp_path / "before" / "musc"
    shutil.copytree(results / "musc", other)
    table = pd.read_parquet(other / "image_scores" / "nut" / "test.parquet")
    write_table(other / "image_scores" / "nut" / "test.parquet", table.assign(rescored=float("nan")))
    files = made_files(results / "inp_former", "nut", "test")
    there = replace(made_files(other, "nut", "test", name="before: musc", compared=True), samples=files.samples)
    outputs = report_files(tmp_path / "report")
    build_report([files, there], outputs, made_facts(root, "inp_former"), images=10)
    browser.open(outputs.page)
    note = "document.querySelector('.notice li').textContent"
    assert browser.run(note) == "before: musc, nut/test: 4 images have no finite score or threshold."
    open_images(browser, outputs.page, "#images/1/2")
    facts = "[...document.querySelectorAll('#list .sample:first-of-type dd')].map((one) => one.textContent)"
    assert browser.run(facts) == ["0.0", "\N{EN DASH}", "\N{EN DASH}", "123.5", "0"]
    choose(browser, "#sort", "score")
    assert len(rows(browser)) == 4
    browser.click("#list .sample")
    browser.wait("document.getElementById('viewer').open")


def test_of_two_thousand_images_few_are_drawn_at_a_time(browser: Chromium, tmp_path: Path) -> None:
    """What keeps a long list fast, whatever the machine: only rows in sight exist."""
    root, results = tmp_path / "data", tmp_path / "results" / "many"
    write_many(root, results, results / "inp_former", "nut", "test", 2000)
    page = build(results, root, [["inp_former", "nut", "test"]])
    browser.open(page, "#images")
    ready = "document.querySelectorAll('#list .sample').length > 0 && [...document.images].every((one) => one.complete)"
    browser.wait(ready)
    drawn = "document.querySelectorAll('#list .sample').length"
    assert browser.run("document.getElementById('count').textContent") == "2,000 of 2,000 images."
    assert browser.run(drawn) < 20
    for share in (0.25, 0.5, 1.0):
        browser.run(f"scrollTo(0, document.documentElement.scrollHeight * {share})")
        there = f"(row) => row.dataset.position >= {int(1990 * share)}"
        browser.wait(f"[...document.querySelectorAll('#list .sample')].some({there})")
        assert browser.run(drawn) < 25
    assert rows(browser)[-1] == "good/00000"
    browser.run("dispatchEvent(new Event('beforeprint'))")
    assert browser.run(drawn) >= 200, "on paper there is no scrolling"
    browser.run("dispatchEvent(new Event('afterprint'))")
    assert browser.run(drawn) < 25
    browser.wait(ready)
    browser.press("l")
    browser.wait("document.querySelectorAll('#list .tile').length > 4")
    assert browser.run("document.querySelectorAll('#list .tile').length") < 100
    browser.run("document.getElementById('list').focus()")
    browser.press("End", 35)
    assert browser.run("document.activeElement.querySelector('.name').textContent") == "good/00000"


def test_the_data_view_shows_the_audits_findings_with_their_places(browser: Chromium, tmp_path: Path) -> None:
    root, results = tmp_path / "data", tmp_path / "results" / "shop"
    write_data(root, results, "nut", "test", TEST)
    write_run(results / "inp_former", "nut", "test", TEST, NUT)
    images = ["nut/test/2.png", "nut/test/3.png"]
    usual = {"x": 0, "y": 0, "width": 16, "height": 16, "image_width": 128, "image_height": 96}
    rows = [
        {"rank": n, "image": image, "split": "train", "reasons": "", "anomaly_rank": n, "duplicate_of": ""} | usual
        for n, image in enumerate(images, start=1)
    ]
    rows[0] |= {"reasons": f"same pixels as {images[1]}", "duplicate_of": images[1], "x": 32, "y": 24}
    audit = results / "audit" / "nut" / "images.csv"
    write_csv(audit, pd.DataFrame(rows))
    outputs = report_files(results / "report")
    facts = replace(made_facts(root, "inp_former"), audits={"nut": audit})
    build_report([made_files(results / "inp_former", "nut", "test")], outputs, facts, images=10)
    browser.open(outputs.page)
    browser.click(".bar nav a[href='#data']")
    browser.wait("document.querySelectorAll('.audit li').length === 2")
    # The image with a finding, its copy, and the other image.
    browser.wait("[...document.querySelectorAll('.audit img')].filter((one) => one.naturalWidth > 0).length === 3")
    assert "1 of 2 images have findings" in browser.run("document.querySelector('.audit h3').textContent")
    assert f"same pixels as {images[1]}" in browser.run("document.querySelector('.audit li.flagged').textContent")
    inside = """(() => { const of = (one) => document.querySelector(one).getBoundingClientRect();
        const image = of('.audit img'), mark = of('.audit i');
        return [(mark.left - image.left) / image.width, (mark.top - image.top) / image.height, mark.width / image.width]
    })()"""
    assert browser.run(inside) == pytest.approx([0.25, 0.25, 0.125], abs=0.02)
    link = browser.run("document.querySelector('.audit h3 a').href")
    assert link.endswith("shop/audit/nut/images.csv")
    browser.open(outputs.page, "#nowhere")
    assert browser.run("document.querySelector('.bar [aria-current]').getAttribute('href')") == "#overview"


def test_an_example_of_a_cluster_opens_its_image_at_its_region(browser: Chromium, tmp_path: Path) -> None:
    root, results = tmp_path / "data", tmp_path / "results" / "shop"
    write_data(root, results, "nut", "test", TEST)
    run = results / "inp_former"
    write_run(run, "nut", "test", TEST, NUT)
    place = {"split": "test", "region": 1, "y": 0, "width": 16, "height": 16, "area": 200, "distance": 0.5}
    shown = {"bad/000": (0, 1, 8, "bad"), "good/000": (2, 2, 0, "false alarm")}
    table = [
        {"sample_id": name, "image": f"nut/test/{number}.png", "cluster": 1, "rank": rank, "x": x, "kind": kind}
        for name, (number, rank, x, kind) in shown.items()
    ]
    folder = run / "region_clusters" / "nut"
    write_csv(folder / "regions.csv", pd.DataFrame(table).assign(**place))
    measures = dict.fromkeys(("silhouette", "items", "purity", "nmi", "largest_kind"), 0.5)
    measures |= dict.fromkeys(("purity_by_chance", "nmi_by_chance"), 0.25)
    write_csv(folder / "measures.csv", pd.DataFrame([measures]))
    outputs = report_files(results / "report")
    files = made_files(run, "nut", "test", clusters=folder)
    build_report([files], outputs, made_facts(root, "inp_former"), images=10)
    browser.resize(360, 700, dark=True)
    browser.open(outputs.page)
    browser.click(".bar nav a[href='#clusters']")
    browser.wait("[...document.querySelectorAll('.clusters img')].filter((one) => one.naturalWidth).length === 2")
    assert browser.run("document.documentElement.scrollWidth") == 360
    assert browser.run("[...document.querySelectorAll('.clusters img')].map((one) => one.alt)") == [
        "Region 1 of test/bad/000, bad",
        "Region 1 of test/good/000, false alarm",
    ]
    browser.resize(1200, 800)
    browser.run("document.querySelectorAll('.clusters a[data-example]')[1].focus()")
    browser.press("Enter", 13)
    browser.wait("document.querySelector('#lenses .frame') !== null")
    title = "document.getElementById('viewer-title').textContent"
    assert browser.run(title) == "good/000"
    assert browser.run("document.getElementById('review-region').textContent") == "Region 1 of 1"
    browser.press("ArrowLeft", 37)
    assert browser.run(title) == "bad/000"
    browser.press("Escape", 27)
    browser.wait("!document.getElementById('viewer').open")
    assert browser.run("document.activeElement.querySelector('img').alt") == "Region 1 of test/good/000, false alarm"
    # The list was filled while another view was shown, and had no width.
    browser.click(".bar nav a[href='#images']")
    browser.wait("document.querySelectorAll('#list .sample').length === 4")
    panel, width = browser.run("[$('list').style.getPropertyValue('--panel'), $('list').clientWidth]")
    assert panel == f"{round(0.8 * (width - 24) / 4)}px"
