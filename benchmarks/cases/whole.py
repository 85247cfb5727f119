"""Images through the real workflow, from the first crop to the report: the demo's, or a folder of photos."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

from benchmarks import inputs
from benchmarks.cases.jobs import CONFIG, write_category
from benchmarks.harness import REPOSITORY, Fact, Options, timed
from benchmarks.workflow import rule_benchmarks, snakemake
from robis.cli import main


@dataclass(frozen=True)
class Sizes:
    """Data and config.

    Attributes:
        data: "demo"; "parts": a folder of photos of 300 x 400 pixels with config/folder_cpu.yaml; "tiny": one category
            of three images.
        images: of "parts", in train/ and as many in test/.
    """

    data: str = "demo"
    images: int = 150


FULL = Sizes()
QUICK = Sizes("tiny")


def rows(options: Options, sizes: Sizes) -> Iterator[Fact]:
    """Wall-clock time of the run, and each rule's share of the jobs' seconds."""
    folder, config = options.folder, REPOSITORY / "config" / "config.yaml"
    # Several categories are faster side by side than one after the other with more threads.
    more = () if sizes.data == "parts" else ("--max-threads", "1")
    if sizes.data == "demo":
        main(["data", "demo", "--out", str(folder / "data" / "demo")])
    elif sizes.data == "parts":
        inputs.write_photos(folder / "data" / "parts", sizes.images, (300, 400))
        config = REPOSITORY / "config" / "folder_cpu.yaml"
    else:
        write_category(folder / "data" / "nut")
        config = folder / "config.yaml"
        config.write_text(CONFIG, encoding="utf-8")
    run = timed(lambda: snakemake(folder, config, *more, cores=options.threads))
    command = " ".join(["snakemake", "--cores", str(options.threads), *more])
    table = f"Images to metrics and report ({sizes.data}): `{command}`"
    jobs = rule_benchmarks(folder / "results" / sizes.data)
    yield Fact(table, "whole run", {"jobs": sum(map(len, jobs.values())), "seconds": run.seconds})
    for rule, figures in jobs.items():
        values = {
            "jobs": len(figures),
            "seconds": sum(job["s"] for job in figures),
            "peak of a job, MB": max(job["max_rss"] for job in figures),
        }
        yield Fact(table, rule, values)
