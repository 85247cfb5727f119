"""The report: time to build, size on disk, memory, and time to open in a browser."""

from __future__ import annotations

import statistics
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path

from benchmarks.harness import Call, Fact, Options, run_alone, timed
from robis.report.page import build_report
from tests.made_results import made_facts, made_files, report_files, write_many

TABLE = "The report"


@dataclass(frozen=True)
class Sizes:
    """Sizes.

    Attributes:
        gallery: images of the first page, and of the short gallery of the second.
        images: images of the largest page that is opened.
        many: images of the split whose memory is measured.
        height, width: of an image.
    """

    gallery: int = 200
    images: int = 2_000
    many: int = 10_000
    height: int = 480
    width: int = 640


FULL = Sizes()
QUICK = Sizes(gallery=4, images=4, many=4, height=48, width=64)


def rows(options: Options, sizes: Sizes) -> Iterator[Fact]:
    """One line per number of images and length of the gallery."""
    pages = ((sizes.gallery, sizes.gallery), (sizes.images, sizes.gallery), (sizes.images, sizes.images))
    for images, shown in dict.fromkeys((*pages, (sizes.many, sizes.many))):
        folder = options.folder / f"{images}_{shown}"
        results = folder / "results" / "many"
        size = (sizes.height, sizes.width)
        write_many(folder / "data", results, results / "inp_former", "nut", "test", images, size=size)
        arguments = {"folder": str(folder), "shown": shown, "threads": options.threads}
        run = run_alone(Call("benchmarks.cases.report:build", arguments), options.threads)
        opened = open_page(folder / "report" / "index.html") if images <= sizes.images and not options.quick else None
        values = {
            "in the gallery": shown,
            "build, s": run.seconds,
            "ms per image": 1000 * run.seconds / images,
            "peak, MB": run.peak_mb,
            "libraries, MB": run.held_mb,
            "assets, MB": run.result["assets"] / 1e6,
            "page, kB": run.result["page"] / 1e3,
            "opens in, s": opened,
        }
        yield Fact(TABLE, f"{images:,} images of {size[0]} x {size[1]}", values)


def build(folder: str, shown: int, threads: int) -> Callable[[], dict[str, int]]:
    """Build the report; runs in the child, where OpenCV has one thread as in a job. Returns sizes in bytes."""
    run, outputs = Path(folder) / "results" / "many" / "inp_former", report_files(Path(folder) / "report")
    facts = made_facts(Path(folder) / "data", "inp_former")

    def write() -> dict[str, int]:
        build_report([made_files(run, "nut", "test")], outputs, facts, images=shown, threads=threads)
        assets = sum(path.stat().st_size for path in outputs.assets.rglob("*") if path.is_file())
        return {"assets": assets, "page": outputs.page.stat().st_size}

    return write


def open_page(page: Path) -> float | str:
    """Median seconds until the gallery's first images are drawn, in a browser that runs already; or why not."""
    from tests.browser.chromium import Chromium, find_chromium

    binary = find_chromium()
    if binary is None:
        return "no chromium"
    browser = Chromium(binary)
    drawn = (
        "document.querySelectorAll('#list .sample').length > 0 && [...document.images].every((image) => image.complete)"
    )

    def show() -> None:
        browser.open(page, "#images")
        browser.wait(drawn)

    try:
        browser.resize(1400, 1000)
        return statistics.median(timed(show).seconds for _ in range(3))
    finally:
        browser.close()
