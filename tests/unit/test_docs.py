"""The documentation site: its navigation names every page, and links and anchors of the pages exist."""

from __future__ import annotations

import re
from pathlib import Path

import pytest
import yaml

REPOSITORY = Path(__file__).parents[2]
PAGES = {
    file.relative_to(REPOSITORY).as_posix(): file.read_text(encoding="utf-8")
    for pattern in ("*.md", "docs/*.md", "config/README.md", "benchmarks/README.md")
    for file in REPOSITORY.glob(pattern)
}


class Site(yaml.SafeLoader):
    """Reads mkdocs.yml without importing the function that a tag of it names."""


Site.add_multi_constructor("tag:yaml.org,2002:python/", lambda loader, suffix, node: suffix)


def site() -> dict:
    return yaml.load((REPOSITORY / "mkdocs.yml").read_text(), Loader=Site)


def pages_of(navigation: list | dict | str) -> list[str]:
    if isinstance(navigation, str):
        return [navigation]
    entries = navigation.values() if isinstance(navigation, dict) else navigation
    return [page for entry in entries for page in pages_of(entry)]


def without_code(page: str) -> str:
    return re.sub(r"^```.*?^```", "", page, flags=re.DOTALL | re.MULTILINE)


def anchors(page: str) -> set[str]:
    """Of its headings, as GitHub and the site make them: lower case, a hyphen for each blank, no punctuation."""
    headings = re.findall(r"^#+ (.*)", without_code(page), flags=re.MULTILINE)
    return {re.sub(r"[^\w\- ]", "", heading).strip().lower().replace(" ", "-") for heading in headings}


def broken_links(name: str, page: str) -> list[str]:
    """Links of a page to files that do not exist, or to headings that the linked page does not have."""
    text = re.sub(r"`[^`\n]*`", "", without_code(page))
    broken = []
    for link in re.findall(r"\]\(([^)\s]+)\)", text):
        place, _, anchor = link.partition("#")
        file = (REPOSITORY / name).parent / place if place else REPOSITORY / name
        if re.match(r"https?://", link):
            continue
        if not file.is_file() or (anchor and anchor not in anchors(file.read_text(encoding="utf-8"))):
            broken.append(link)
    return broken


def test_the_navigation_names_every_page_once() -> None:
    assert len(PAGES) >= 18
    assert sorted(pages_of(site()["nav"])) == sorted(PAGES)


@pytest.mark.parametrize("name", sorted(PAGES))
def test_links_and_anchors_exist(name: str) -> None:
    assert broken_links(name, PAGES[name]) == []


def test_broken_links_are_seen() -> None:
    page = "[a](running.md) [b](runing.md)\n[c](running.md#set-up) [d](running.md#setup) [e](#x-y) `[f](g)`\n## X, y\n"
    assert broken_links("docs/weights.md", page) == ["runing.md", "running.md#setup", "#x-y"]


def test_the_build_copies_what_the_site_shows() -> None:
    copied = re.search(r"^PAGES := (.*)", (REPOSITORY / "Makefile").read_text(), flags=re.MULTILINE)[1].split()
    linked = {
        ((REPOSITORY / name).parent / link).resolve().relative_to(REPOSITORY).as_posix()
        for name, page in PAGES.items()
        for link in re.findall(r"\]\(([^)\s#:]+)(?:#[^)\s]*)?\)", without_code(page))
    }
    assert [file for file in linked | set(PAGES) if not (file in copied or file.startswith("docs/"))] == []
