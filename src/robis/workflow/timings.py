"""Time and memory of the stages of a run, from Snakemake's benchmark files."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import pandas as pd

from robis.io.damage import damaged, why_unreadable

# Of Snakemake's columns.
MEASURED = ("s", "cpu_time", "max_rss")
COLUMNS = {"jobs": "int64", "wall_s": "float64", "cpu_s": "float64", "longest_s": "float64", "peak_mb": "float64"}


def stage_timings(results: Path, stages: Sequence[str] = ()) -> pd.DataFrame:
    """What the jobs of every stage took.

    Args:
        results: results/NAME, in which `benchmarks/STAGE/...tsv` are of stages that all runs share, and
            `RUN/benchmarks/STAGE/...tsv` of a run.
        stages: the order of the stages; others follow by name.

    Returns:
        A row per run and stage with a benchmark file: `run` (empty for what all runs share), `stage`, `jobs`, `wall_s`
        and `cpu_s` (seconds, of all jobs together; jobs that ran side by side count each), `longest_s` (the longest
        job), `peak_mb` (highest resident memory of a job in MB). CPU time and memory are NaN where all jobs were too
        short for Snakemake to measure them.
    """
    files = [*results.glob("benchmarks/**/*.tsv"), *results.glob("*/benchmarks/**/*.tsv")]
    jobs = [row for path in sorted(files) for row in _read(results, path)]
    table = pd.DataFrame(jobs, columns=["run", "stage", "s", "cpu_time", "max_rss"])
    groups = table.groupby(["run", "stage"], sort=False)
    timings = groups.agg(
        jobs=("s", "size"),
        wall_s=("s", "sum"),
        cpu_s=("cpu_time", lambda values: values.sum(min_count=1)),
        longest_s=("s", "max"),
        peak_mb=("max_rss", "max"),
    )
    timings = timings.reset_index().astype(COLUMNS)
    order = {stage: place for place, stage in enumerate(stages)}
    key = timings["stage"].map(lambda stage: order.get(stage, len(order)))
    return timings.iloc[key.argsort(kind="stable")].reset_index(drop=True)


def format_timings(timings: pd.DataFrame) -> str:
    """The table of `stage_timings` as text; a dash stands for what was too short to measure."""
    names = {name: name.replace("_", " ") for name in timings.columns}
    text = timings.assign(
        run=timings["run"].replace("", "all runs"),
        **{name: timings[name].map(_rounded) for name in ("wall_s", "cpu_s", "longest_s", "peak_mb")},
    )
    return text.rename(columns=names).to_string(index=False)


def _rounded(value: float) -> str:
    return "-" if pd.isna(value) else f"{value:.0f}" if value >= 100 else f"{value:.1f}"


def _read(results: Path, path: Path) -> list[dict[str, object]]:
    """The last line of a benchmark file with its run and stage; none of a file without one (a job that was killed)."""
    run, _, place = path.relative_to(results).as_posix().partition("benchmarks/")
    stage = place.removesuffix(".tsv").split("/")[0]
    try:
        # "NA" and "-" stand for what Snakemake could not measure.
        rows = pd.read_csv(path, sep="\t", na_values=["-"]) if path.stat().st_size else pd.DataFrame()
    except ValueError as error:  # also what pandas and a decoder raise
        raise damaged(path, f"not a benchmark file ({why_unreadable(path, error)})", stage) from error
    if not len(rows):
        return []
    if missing := [name for name in MEASURED if name not in rows]:
        raise damaged(path, f"no column {missing[0]!r}; expected {', '.join(MEASURED)}", stage)
    numbers = {name: pd.to_numeric(rows[name].iloc[-1], errors="coerce") for name in MEASURED}
    return [{"run": run.strip("/"), "stage": stage, **numbers}]
