"""Reviewing images in the report by keyboard: verdicts stay, go to a file and come back, and reviewers can differ."""

from __future__ import annotations

import csv
import json
import time
from pathlib import Path

import pytest

from robis.workflow.verdict_files import read_verdicts
from tests.browser.chromium import Chromium
from tests.browser.test_report_page import build, choose, rows
from tests.made_results import Made, write_data, write_run

NAMES = [f"part, {number:02}" for number in range(12)]
IMAGES = [
    Made(name, None, final=(8, 8, 24, 24) if number % 2 else None, score=50.0 - number)
    for number, name in enumerate(NAMES)
]
KEYS = "dfmgudfmgu"
VERDICTS = {"d": "defect", "f": "false alarm", "m": "missed", "g": "good", "u": "unsure"}


@pytest.fixture(scope="module")
def page(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """One run on twelve images without labels; every second one has a region."""
    root, results = tmp_path_factory.mktemp("data"), tmp_path_factory.mktemp("results") / "shop"
    write_data(root, results, "nut", "test", IMAGES)
    write_run(results / "superadd", "nut", "test", IMAGES)
    return build(results, root, [["superadd", "nut", "test"]])


@pytest.fixture
def fresh(browser: Chromium, page: Path) -> Chromium:
    """The page in a browser that has no verdicts."""
    browser.open(page)
    browser.run("localStorage.clear()")
    open_grid(browser, page)
    return browser


def open_grid(browser: Chromium, page: Path) -> None:
    """All images are in sight as a grid."""
    browser.open(page, "#images/1/1")
    browser.wait("document.querySelectorAll('#list .sample').length > 1")
    browser.press("l")
    browser.wait("document.querySelectorAll('#list .tile').length === 12")


def progress(browser: Chromium) -> str:
    return browser.run("document.getElementById('review-count').textContent")


def saved(browser: Chromium, folder: Path) -> list[dict[str, str]]:
    """The rows of the file that the button saves."""
    browser.send("Browser.setDownloadBehavior", behavior="allow", downloadPath=str(folder))
    file = folder / "verdicts.csv"
    file.unlink(missing_ok=True)
    browser.click("#review-save")
    deadline = time.monotonic() + 20
    while not file.is_file() or not file.read_bytes().endswith(b"\r\n"):
        assert time.monotonic() < deadline, "no file was saved"
        time.sleep(0.02)
    with file.open(newline="", encoding="utf-8") as stream:
        rows = list(csv.DictReader(stream))
    assert [verdict.verdict for verdict in read_verdicts(file)] == [row["verdict"] for row in rows]
    return rows


def load(browser: Chromium, file: Path) -> str:
    """Choose a file of verdicts; what the page says of it."""
    browser.run("document.getElementById('review-note').textContent = ''")
    document = browser.send("DOM.getDocument")["root"]["nodeId"]
    node = browser.send("DOM.querySelector", nodeId=document, selector="#review-load")["nodeId"]
    browser.send("DOM.setFileInputFiles", nodeId=node, files=[str(file)])
    return browser.wait("document.getElementById('review-note').textContent")


def test_ten_images_are_judged_by_keyboard_and_saved(fresh: Chromium, page: Path, tmp_path: Path) -> None:
    fresh.press("j")
    fresh.press("k")
    for key in KEYS:
        fresh.press(key)
        fresh.press("j")
    assert progress(fresh) == "10 of 12 images reviewed"
    badges = "[...document.querySelectorAll('#list .sample .reviewed')].length"
    assert fresh.run(badges) == 10
    open_grid(fresh, page)
    assert progress(fresh) == "10 of 12 images reviewed", "a reload keeps them"
    expected = {name: VERDICTS[key] for name, key in zip(NAMES, KEYS, strict=False)}
    assert {row["sample_id"]: row["verdict"] for row in saved(fresh, tmp_path)} == expected
    choose(fresh, "#reviewed", "no")
    assert rows(fresh) == NAMES[10:]
    choose(fresh, "#reviewed", "false alarm")
    assert rows(fresh) == [NAMES[1], NAMES[6]]


def test_the_same_key_takes_a_verdict_back(fresh: Chromium) -> None:
    fresh.press("d")
    assert progress(fresh).startswith("1 of 12")
    fresh.press("g")
    assert progress(fresh).startswith("1 of 12")
    fresh.press("g")
    assert progress(fresh).startswith("0 of 12")
    assert fresh.run("document.getElementById('review-save').disabled")


def test_a_region_and_a_note_have_their_own_row(fresh: Chromium, tmp_path: Path) -> None:
    fresh.press("j")
    fresh.press("Enter", 13)
    fresh.wait("document.getElementById('viewer').open")
    fresh.press("d")
    fresh.press("r")
    assert fresh.run("document.getElementById('review-region').textContent") == "Region 1 of 1"
    assert fresh.run("document.querySelectorAll('#lenses .frame').length") == 3, "over image, map and masks"
    fresh.press("g")
    fresh.press("f")
    fresh.press("n")
    fresh.send("Input.insertText", text='oil, "not" a pit')
    fresh.press("Enter", 13)
    fresh.run("document.getElementById('review-text').blur()")
    fresh.press("Escape", 27)
    image, region = sorted(saved(fresh, tmp_path), key=lambda row: row["run"])
    assert {name: region[name] for name in ("sample_id", "run", "verdict", "note")} == {
        "sample_id": NAMES[1],
        "run": "superadd",
        "verdict": "false alarm",
        "note": 'oil, "not" a pit',
    }
    assert [region[name] for name in ("x", "y", "width", "height")] == ["8", "8", "16", "16"]
    assert (image["run"], image["x"], image["verdict"]) == ("", "", "defect")


def test_two_reviewers_who_differ_are_listed(fresh: Chromium, tmp_path: Path) -> None:
    fresh.press("d")
    fresh.press("j")
    fresh.press("g")
    other = tmp_path / "other.csv"
    rows_of = saved(fresh, tmp_path)
    rows_of[1]["verdict"] = "unsure"
    rows_of.append(rows_of[0] | {"sample_id": NAMES[5], "verdict": "missed"})
    rows_of.append(rows_of[0] | {"category": "bolt"})
    with other.open("w", newline="", encoding="utf-8-sig") as stream:
        writer = csv.DictWriter(stream, list(rows_of[0]))
        writer.writeheader()
        writer.writerows(rows_of)
    said = load(fresh, other)
    assert said == (
        "2 verdicts loaded. 1 are of other categories or splits. "
        f"1 differ from those here, which stay: {NAMES[1]}: good here, unsure there."
    )
    assert {row["sample_id"]: row["verdict"] for row in saved(fresh, tmp_path)} == {
        NAMES[0]: "defect",
        NAMES[1]: "good",
        NAMES[5]: "missed",
    }


@pytest.mark.parametrize(
    ("text", "message"),
    [("a,b\n1,2\n", "other.csv: no column category"), ('a,"b\n', "other.csv: not a CSV file near line 1.")],
)
def test_another_file_is_refused(fresh: Chromium, text: str, message: str, tmp_path: Path) -> None:
    (tmp_path / "other.csv").write_text(text)
    assert load(fresh, tmp_path / "other.csv").startswith(message)
    assert json.loads(fresh.run("localStorage.getItem('robis-review-' + location.pathname) ?? '[]'")) == []


def test_verdicts_of_another_tab_stay(fresh: Chromium, tmp_path: Path) -> None:
    """Another page of the same report has written meanwhile."""
    fresh.press("d")
    name = "'robis-review-' + location.pathname"
    other = {"category": "nut", "split": "test", "sample_id": NAMES[7], "run": "", "box": None, "verdict": "good"}
    fresh.run(
        f"localStorage.setItem({name}, JSON.stringify([...JSON.parse(localStorage.getItem({name})), "
        f"{json.dumps(other | {'note': '', 'reviewer': ''})}]))"
    )
    fresh.press("j")
    fresh.press("u")
    verdicts = {row["sample_id"]: row["verdict"] for row in saved(fresh, tmp_path)}
    assert verdicts == {NAMES[0]: "defect", NAMES[1]: "unsure", NAMES[7]: "good"}
