"""Overlays of final masks, and the warnings on the report's page."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from robis.io.images import read_image
from robis.report.overlays import OUTLINE, overlay
from tests.made_results import made_facts, report_files
from tests.unit.test_report import PRIVATE, TEST, Page, build, results

__all__ = ["results"]


def test_the_outline_lies_around_the_mask() -> None:
    """A mask of half the size: pixels 2 to 3 are pixels 4 to 7 of the image; 60 pixels take a line of one."""
    image = np.full((40, 60, 3), 90, np.uint8)
    mask = np.zeros((20, 30), bool)
    mask[2:4, 2:4] = True
    drawn = overlay(image, mask)
    marked = (drawn == OUTLINE).all(axis=2)
    expected = np.zeros((40, 60), bool)
    expected[3:9, 3:9] = True
    expected[4:8, 4:8] = False
    np.testing.assert_array_equal(marked, expected)
    assert (drawn[~marked] == 90).all()
    assert (image == 90).all(), "the image itself stays as it is"


def test_lines_are_as_wide_as_the_image_needs() -> None:
    mask = np.zeros((1000, 2000), bool)
    mask[500, 500] = True
    marked = (overlay(np.zeros((1000, 2000, 3), np.uint8), mask) == OUTLINE).all(axis=2)
    assert marked.sum() == 11**2 - 1, "five pixels on each side of one"


@pytest.mark.parametrize("wanted", [False, True])
def test_every_image_gets_one_on_request(results: Path, wanted: bool) -> None:
    build(results, images=1, overlays=wanted)
    folder = report_files(results / "report").overlays
    files = {str(file.relative_to(folder)) for file in folder.rglob("*.jpg")}
    expected = {f"inp_former/nut/test/{made.sample_id}.jpg" for made in TEST}
    expected |= {f"inp_former/nut/private/{made.sample_id}.jpg" for made in PRIVATE}
    assert files == (expected if wanted else set())
    if wanted:
        sizes = {
            made.sample_id: read_image(folder / f"inp_former/nut/test/{made.sample_id}.jpg").shape for made in TEST
        }
        assert sizes == {made.sample_id: (*made.size, 3) for made in TEST}


def test_the_page_repeats_warnings_as_text(results: Path) -> None:
    facts = made_facts(results.parents[1] / "data", "inp_former")
    text = "1 category has few <training> images:\n  nut: 4 in train"
    page = Page(build(results, facts=replace(facts, warnings=[text])))
    assert text in page.text
    assert "few <training>" not in Page(build(results, facts=facts)).text
