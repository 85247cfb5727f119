"""The generated demo images through the real workflow, from the first crop to the metrics."""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Iterator

from benchmarks import harness
from benchmarks.stages.jobs import rule_benchmarks, snakemake

TABLE = "The demo, three categories, images to metrics and report: `snakemake --cores {threads} --max-threads 1`"


def rows(options: harness.Options) -> Iterator[harness.Fact]:
    """Wall time of the run, and each rule's share of the jobs' seconds."""
    if options.quick:
        return  # the tests run the workflow elsewhere
    folder = options.folder / "whole"
    demo = ["data", "demo", "--out", str(folder / "data" / "demo")]
    command = [sys.executable, "-c", f"from robis.cli import main; raise SystemExit(main({demo}))"]
    subprocess.run(command, check=True, capture_output=True)
    config = harness.REPOSITORY / "config" / "config.yaml"
    _, wall, cpu = harness.timed(lambda: snakemake(folder, config, options.threads, "--max-threads", "1"))
    title = TABLE.format(threads=options.threads)
    found = rule_benchmarks(folder / "results" / "demo")
    yield harness.Fact(title, "whole run", {"jobs": sum(map(len, found.values())), "seconds": wall, "CPU seconds": cpu})
    for rule, jobs in found.items():
        values = {
            "jobs": len(jobs),
            "seconds": sum(job["s"] for job in jobs),
            "peak of a job, MB": max(job["max_rss"] for job in jobs),
        }
        yield harness.Fact(title, rule, values)
