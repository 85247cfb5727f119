"""A real browser, where the machine has one."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from tests.browser.chromium import Chromium, find_chromium


@pytest.fixture(scope="session")
def chromium() -> Iterator[Chromium]:
    binary = find_chromium()
    if binary is None:
        pytest.skip("no chromium on this machine: `apt-get install chromium` (make test does so where it may)")
    browser = Chromium(binary)
    yield browser
    browser.close()


@pytest.fixture
def browser(chromium: Chromium) -> Iterator[Chromium]:
    """A window of one size in light colors; what the page complains about fails the test."""
    chromium.problems.clear()
    chromium.resize(1400, 1000)
    yield chromium
    assert chromium.problems == []
