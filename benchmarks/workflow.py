"""The real workflow, run by benchmarks."""

from __future__ import annotations

import csv
import os
import subprocess
import sys
from collections.abc import Sequence
from pathlib import Path

from benchmarks.harness import REPOSITORY


def snakemake(folder: Path, config: Path, *options: str, cores: int = 1, targets: Sequence[str] = ()) -> str:
    """Run the workflow in a folder; returns what it printed. Raises RuntimeError with it when the run fails."""
    command = snakemake_command(folder, config, *options, cores=cores, targets=targets)
    done = subprocess.run(command, capture_output=True, text=True, env=environment())
    if done.returncode:
        raise RuntimeError((done.stdout + done.stderr)[-3000:])
    return done.stdout + done.stderr


def snakemake_command(
    folder: Path, config: Path, *options: str, cores: int = 1, targets: Sequence[str] = ()
) -> list[str]:
    """The command that runs the workflow in a folder."""
    return [
        *(sys.executable, "-m", "snakemake", "--snakefile", str(REPOSITORY / "Snakefile")),
        *("--directory", str(folder), "--configfile", str(config), "--cores", str(cores), "--nolock"),
        *("--workflow-profile", str(REPOSITORY / "profiles" / "default"), *options, "--", *targets),
    ]


def environment() -> dict[str, str]:
    """Environment in which the workflow finds this library."""
    return {**os.environ, "PYTHONPATH": str(REPOSITORY / "src")}


def rule_benchmarks(results: Path) -> dict[str, list[dict[str, float]]]:
    """Snakemake's benchmark files by rule: seconds `s`, `cpu_time` and megabytes `max_rss` of every job.

    Args:
        results: the results folder of one data set.
    """
    jobs: dict[str, list[dict[str, float]]] = {}
    for path in sorted(results.rglob("*.tsv")):
        parts = path.with_suffix("").relative_to(results).parts
        rule = parts[parts.index("benchmarks") + 1]
        with path.open(newline="") as stream:
            row = next(csv.DictReader(stream, delimiter="\t"))
        values = {name: _number(row[name]) for name in ("s", "cpu_time", "max_rss")}
        jobs.setdefault(rule, []).append(values)
    return jobs


def _number(cell: str) -> float:
    """Jobs that are too short for it are not measured."""
    return 0.0 if cell in ("-", "NA", "") else float(cell)
