"""The generated demo images through the real workflow, from the first crop to the metrics."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

from benchmarks.cases.jobs import CONFIG, write_category
from benchmarks.harness import REPOSITORY, Fact, Options, timed
from benchmarks.workflow import rule_benchmarks, snakemake
from robis.cli import main


@dataclass(frozen=True)
class Sizes:
    """Data and config: "demo", or "tiny" for one category of three images."""

    data: str = "demo"


FULL = Sizes()
QUICK = Sizes("tiny")


def rows(options: Options, sizes: Sizes) -> Iterator[Fact]:
    """Wall-clock time of the run, and each rule's share of the jobs' seconds."""
    folder, config = options.folder, REPOSITORY / "config" / "config.yaml"
    if sizes.data == "demo":
        main(["data", "demo", "--out", str(folder / "data" / "demo")])
    else:
        write_category(folder / "data" / "nut")
        config = folder / "config.yaml"
        config.write_text(CONFIG, encoding="utf-8")
    run = timed(lambda: snakemake(folder, config, "--max-threads", "1", cores=options.threads))
    table = f"Images to metrics and report ({sizes.data}): `snakemake --cores {options.threads} --max-threads 1`"
    jobs = rule_benchmarks(folder / "results" / sizes.data)
    yield Fact(table, "whole run", {"jobs": sum(map(len, jobs.values())), "seconds": run.seconds})
    for rule, figures in jobs.items():
        values = {
            "jobs": len(figures),
            "seconds": sum(job["s"] for job in figures),
            "peak of a job, MB": max(job["max_rss"] for job in figures),
        }
        yield Fact(table, rule, values)
