"""The evidence beside an opened image: pictures with names, distances in words, and regions that can be chosen."""

from __future__ import annotations

from pathlib import Path

import pandas as pd
import pytest

from tests.browser.chromium import Chromium
from tests.browser.test_report_page import build
from tests.made_results import Made, write_data, write_run

IMAGES = [Made("a", None, final=(8, 8, 24, 24), score=50.0), Made("b", None, score=40.0)]


@pytest.fixture(scope="module")
def page(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A run of a memory bank and one of a reconstruction, on an image with a region and one without."""
    root, results = tmp_path_factory.mktemp("data"), tmp_path_factory.mktemp("results") / "shop"
    write_data(root, results, "nut", "test", IMAGES)
    images = pd.read_parquet(results / "samples" / "nut" / "test.parquet")["image"].tolist()
    box = {"x": 8, "y": 8, "width": 16, "height": 16}
    token = {f"token_{name}": value for name, value in box.items()}
    normal = {f"normal_{name}": value for name, value in {**box, "id": "good/7", "image": images[1]}.items()}
    group = {"percentile": 99.5, "normal_median": 0.1, "normal_99": 0.2, "normal_max": 0.3}
    evidence = {
        "superadd": [{**token, "rank": rank, "block": 3, "distance": rank / 8, **normal} for rank in (1, 2, 3)],
        "dinomaly": [{**token, "group": number, "distance": 0.4 * number, **group} for number in (1, 2)],
    }
    for name, rows in evidence.items():
        write_run(results / name, "nut", "test", IMAGES)
        for kind, table in (("regions", [box]), ("evidence", rows)):
            (results / name / kind / "nut").mkdir(parents=True)
            of_region = pd.DataFrame([{"sample_id": "a", "region": 1, **row} for row in table])
            of_region.to_parquet(results / name / kind / "nut" / "test.parquet")
    return build(results, root, [[name, "nut", "test"] for name in evidence])


def show(browser: Chromium, page: Path, address: str) -> str:
    """Open the image with a region; the text of its evidence."""
    browser.open(page, address)
    browser.wait("document.querySelectorAll('#list .sample').length === 2")
    browser.click("#list .sample:first-of-type figure")
    browser.wait("!document.getElementById('viewer-evidence').hidden")
    return browser.run("document.getElementById('viewer-evidence').innerText")


def test_a_region_stands_beside_the_most_similar_normal_patches(browser: Chromium, page: Path) -> None:
    text = show(browser, page, "#images/1/1")
    assert "Most similar normal: good/7 at (8, 8), distance 0.125" in text
    pictures = "[...document.querySelectorAll('#viewer-evidence img')]"
    browser.wait(f"{pictures}.every((picture) => picture.naturalWidth === 128)")
    names = browser.run(f"{pictures}.map((picture) => picture.alt)")
    assert len(names) == 4 and names[0].startswith("Region 1 of a") and names[1] == "Normal image good/7 at (8, 8)"
    browser.click("#viewer-evidence button")
    assert browser.run("document.querySelectorAll('#lenses .frame').length") > 0, "the region is framed"
    browser.press("ArrowRight", 39)
    browser.wait("document.getElementById('viewer-evidence').hidden")


def test_a_reconstruction_is_compared_with_normal_images(browser: Chromium, page: Path) -> None:
    browser.resize(420, 800)
    text = show(browser, page, "#images/1/2")
    assert "Layers, group 2: 0.8, above 99.5 % of normal tokens; 99 % of them are below 0.2" in text
    widths = browser.run("[...document.querySelectorAll('.rebuilt i')].map((bar) => bar.style.width)")
    assert widths == ["50%", "25%", "100%", "25%"]
    assert "Regions of" not in text
    assert browser.run("document.getElementById('viewer').scrollWidth <= innerWidth")
    browser.press("Escape", 27)
    assert show(browser, page, "#images/1/2/1").startswith("Regions of dinomaly"), "beside another run"
