"""How a run came about: time and memory of its stages, versions, devices."""

from __future__ import annotations

import csv
import platform
import re
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from importlib import metadata
from pathlib import Path

from robis import __version__

# Distributions whose versions say what computed the results, as far as they are installed where the page is made.
PACKAGES = (
    *("torch", "timm", "open_clip_torch", "segment-anything", "numpy", "opencv-python-headless", "pandas"),
    *("pillow", "numba", "snakemake"),
)
# Neither may count itself: the page would differ each time that it is made.
NOT_COUNTED = ("report", "submit")
# As `robis.encoders.devices` logs it.
_DEVICE = re.compile(r"Computing on (?:the )?(?P<name>.+?)\.$")


@dataclass(frozen=True)
class StageCost:
    """What the jobs of one stage took, from Snakemake's benchmark files.

    Attributes:
        owner: the run whose stage it is; empty for stages that all runs share.
        jobs: with a benchmark file.
        seconds, longest: of all jobs together, and of the longest one.
        memory: highest of the jobs, MB; None where all were too short to be measured.
        load: mean share of a core in percent, weighted by time; None likewise.
        devices: what the jobs' logs name.
    """

    owner: str
    stage: str
    jobs: int
    seconds: float
    longest: float
    memory: float | None
    load: float | None
    devices: tuple[str, ...]


def stage_costs(
    results: Path, owners: Iterable[str], categories: Sequence[str], stages: Sequence[str]
) -> list[StageCost]:
    """The costs of every stage and owner that has benchmark files of these categories, in the order of `stages`.

    results: results/NAME. owners: names of runs and of detectors whose stages several runs share.
    """
    costs = []
    for owner in ["", *dict.fromkeys(owners)]:
        folder = results / owner / "benchmarks"
        for stage in stages:
            if stage not in NOT_COUNTED:
                jobs = [job for category in categories for job in _jobs(folder / stage, category)]
                if jobs:
                    costs.append(_cost(owner, stage, jobs, results / owner / "logs" / stage, folder / stage))
    return sorted(costs, key=lambda cost: stages.index(cost.stage))


def _jobs(folder: Path, category: str) -> list[Path]:
    single = folder / f"{category}.tsv"
    return [*([single] if single.is_file() else []), *sorted((folder / category).glob("*.tsv"))]


def _cost(owner: str, stage: str, jobs: Sequence[Path], logs: Path, folder: Path) -> StageCost:
    rows = [row for job in jobs if (row := _read(job)) is not None]
    seconds = [row["s"] or 0.0 for row in rows]
    memory = [row["max_rss"] for row in rows if row["max_rss"] is not None]
    loads = [(row["mean_load"], row["s"] or 0.0) for row in rows if row["mean_load"] is not None]
    weight = sum(time for _, time in loads)
    devices = dict.fromkeys(
        name for job in jobs for name in _devices((logs / job.relative_to(folder)).with_suffix(".log"))
    )
    return StageCost(
        owner,
        stage,
        jobs=len(rows),
        seconds=sum(seconds),
        longest=max(seconds, default=0.0),
        memory=max(memory, default=None),
        load=sum(load * time for load, time in loads) / weight if weight else None,
        devices=tuple(sorted(devices)),
    )


def _read(path: Path) -> Mapping[str, float | None] | None:
    """The last line of a benchmark file; None where it has none. NA and - stand for what was not measured."""
    with open(path, encoding="utf-8", newline="") as stream:
        rows = list(csv.DictReader(stream, delimiter="\t"))
    if not rows:
        return None

    def number(text: str | None) -> float | None:
        try:
            return float(text or "")
        except ValueError:
            return None

    return {name: number(rows[-1].get(name)) for name in ("s", "max_rss", "mean_load")}


def _devices(log: Path) -> list[str]:
    if not log.is_file():
        return []
    lines = log.read_text(encoding="utf-8", errors="replace").splitlines()
    return [found["name"] for line in lines if (found := _DEVICE.search(line))]


def uncounted(costs: Sequence[StageCost], stages: Sequence[str]) -> list[str]:
    """Stages without a benchmark file."""
    counted = {cost.stage for cost in costs}
    return [stage for stage in stages if stage not in counted and stage not in NOT_COUNTED]


def versions() -> dict[str, str]:
    """What is installed where the page is made: name -> version."""
    found = {"robis": __version__, "Python": platform.python_version()}
    for name in PACKAGES:
        try:
            found[name] = metadata.version(name)
        except metadata.PackageNotFoundError:
            continue
    return found


def duration(seconds: float) -> str:
    """Seconds in words short enough for a table: 4.2 s, 3:05 min, 2:10 h."""
    if seconds < 59.95:
        return f"{seconds:.1f} s"
    if seconds < 3599.5:
        minutes, rest = divmod(round(seconds), 60)
        return f"{minutes}:{rest:02d} min"
    hours, minutes = divmod(round(seconds / 60), 60)
    return f"{hours}:{minutes:02d} h"
