"""Published results beside ours, and what has to hold before the two compare.

A number is comparable where the same method ran on the same images and the metric was computed in the same way; every
other row is shown with the reason why it is not. The numbers are in published.yaml.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import yaml

from robis.evaluation.metrics import METRICS

MEAN = "mean"
PIXEL_METRICS = tuple(name for name in METRICS if name.startswith(("pixel", "aupro")))
# Settings whose effect on a comparison is not a published value.
_ALWAYS = ("encoder.weights", "evaluate.resolution")

Setup = Mapping[str, Any]


@dataclass(frozen=True)
class Published:
    """One row of a published table.

    Attributes:
        benchmark: what was measured.
        split: the split as robis names it.
        method: as its authors call it, with the variant.
        source: paper, and where in it.
        values: metric -> percent, for the category or the mean over all categories of the benchmark.
        category: name of the category, or MEAN.
        needs: setting of a run -> the values with which it computes the same, the published one last; "detector"
            among them.
        never: why no run of robis can be compared; empty where one can.
        pixels: resolution at which the source compares pixels; None where it does not say.
    """

    benchmark: str
    split: str
    method: str
    source: str
    values: Mapping[str, float]
    category: str = MEAN
    needs: Mapping[str, Sequence[Any]] = field(default_factory=dict)
    never: str = ""
    pixels: int | None = None


@dataclass(frozen=True)
class Benchmark:
    """Name of a benchmark, and its categories."""

    name: str
    categories: tuple[str, ...]


@dataclass(frozen=True)
class Literature:
    """Published results. benchmarks: layout of the config -> the benchmark that comes in it."""

    benchmarks: Mapping[str, Benchmark]
    results: Sequence[Published]

    def benchmark_of(self, layout: str, categories: Sequence[str]) -> Benchmark | None:
        """The benchmark that categories in a layout belong to; None where it lacks one of them."""
        benchmark = self.benchmarks.get(layout)
        return benchmark if benchmark and categories and set(categories) <= set(benchmark.categories) else None

    def setup_keys(self) -> list[str]:
        """Dotted keys of the config that decide whether a run compares with some published row, sorted."""
        keys = {key for row in self.results for key in row.needs if key != "detector"}
        return sorted({*keys, *_ALWAYS})


@dataclass(frozen=True)
class Comparison:
    """A published row beside a report: metrics that compare with the runs, and why the others do not."""

    row: Published
    runs: tuple[str, ...]
    comparable: tuple[str, ...]
    reasons: tuple[str, ...]


def read_literature() -> Literature:
    """The published results that come with this package."""
    content = yaml.safe_load(Path(__file__).with_name("published.yaml").read_text(encoding="utf-8"))
    benchmarks = {
        layout: Benchmark(entry["name"], tuple(entry["categories"])) for layout, entry in content["benchmarks"].items()
    }
    return Literature(benchmarks, [Published(**entry) for entry in content["results"]])


def comparisons(
    literature: Literature, layout: str, categories: Sequence[str], setups: Mapping[str, Setup]
) -> list[Comparison]:
    """Every published row of the reported benchmark, and what of it compares with which runs.

    Args:
        literature: what is published.
        layout: of the dataset.
        categories: of the report.
        setups: run -> dotted key -> value, for `literature.setup_keys()` and "detector", the name of the method.
    """
    benchmark = literature.benchmark_of(layout, categories)
    if benchmark is None:
        return []
    rows = [row for row in literature.results if row.benchmark == benchmark.name]
    return [_compare(row, benchmark, categories, setups) for row in rows]


def _compare(
    row: Published, benchmark: Benchmark, categories: Sequence[str], setups: Mapping[str, Setup]
) -> Comparison:
    reasons = _reasons(row, benchmark, categories, setups)
    if reasons:
        return Comparison(row, (), (), reasons)
    runs = tuple(run for run, setup in setups.items() if _same_method(row, setup) and not _differences(row, setup))
    why = _pixel_reason(row, [setups[run] for run in runs])
    comparable = tuple(name for name in row.values if not why or name not in PIXEL_METRICS)
    return Comparison(row, runs, comparable, (why,) if why else ())


def _reasons(
    row: Published, benchmark: Benchmark, categories: Sequence[str], setups: Mapping[str, Setup]
) -> tuple[str, ...]:
    """Why a row compares with no run; empty where it does."""
    if row.never:
        return (row.never,)
    if row.category == MEAN and set(categories) != set(benchmark.categories):
        return (f"a mean over {len(benchmark.categories)} categories; this report has {len(set(categories))}",)
    differences = [_differences(row, setup) for setup in setups.values() if _same_method(row, setup)]
    return tuple(sorted(differences, key=len)[0]) if differences else ("no run uses this method",)


def _same_method(row: Published, setup: Setup) -> bool:
    return setup["detector"] in row.needs["detector"]


def _differences(row: Published, setup: Setup) -> list[str]:
    """What in a run of the same method is not as published."""
    differences = ["the encoder's weights are random here"] if setup["encoder.weights"] == "random" else []
    for key, values in row.needs.items():
        if key != "detector" and setup[key] not in values:
            differences.append(f"{key}: published with {_text(values[-1])}, here {_text(setup[key])}")
    return differences


def _pixel_reason(row: Published, setups: Sequence[Setup]) -> str:
    """Why the pixel metrics of runs in the published setting do not compare; empty where they do."""
    resolutions = {setup["evaluate.resolution"] for setup in setups}
    if row.pixels is None:
        return "pixel metrics: the source does not say at which resolution"
    if resolutions == {row.pixels}:
        return ""
    ours = " and ".join(sorted(str(resolution).replace("_", " ") for resolution in resolutions))
    return f"pixel metrics: published at {row.pixels} pixels, ours at {ours} (evaluate.resolution)"


def _text(value: Any) -> str:
    return ", ".join(map(str, value)) if isinstance(value, list) else str(value)
