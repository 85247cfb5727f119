"""The files that a report reads: declared as inputs of its rule, and put together again in its job."""

from __future__ import annotations

import os
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

from robis.report.inputs import RunFiles
from robis.workflow import results

# What of RunFiles is no file.
NAMES = ("name", "category", "split", "masks_link", "compared")
# Where its files lie.
PATTERNS = {
    "samples": results.SAMPLES,
    "maps": results.ANOMALY_MAPS,
    "thresholds": results.THRESHOLDS,
    "coarse_masks": results.COARSE_MASKS,
    "masks": results.MASKS,
    "scores": results.IMAGE_SCORES,
    "verdicts": results.VERDICTS,
    "held_out_scores": results.HELD_OUT_SCORES,
    "metrics": results.METRICS,
    "curves": results.CURVES,
    "history": results.HISTORY,
    "pack": results.PACK,
    "detectability": results.DETECTABILITY,
    "regions": results.REGIONS,
    "evidence": results.EVIDENCE,
    "clusters": results.REGION_CLUSTERS,
}
FILES = tuple(PATTERNS)


def run_files(folder: Path, run: str, name: str, part: tuple[str, str], *, compared: bool = False) -> RunFiles:
    """Where the files of a run are, whether or not they exist.

    Args:
        folder: results/NAME.
        run: name of the run's folder.
        name: of the run, as the page shows it.
        part: category and split.
        compared: whether it is a run that this report is compared with.
    """
    fields = {"detector": run, "category": part[0], "split": part[1]}
    paths: dict[str, Any] = {kind: results.place(pattern, folder, **fields) for kind, pattern in PATTERNS.items()}
    masks_link = os.path.relpath(paths["masks"], results.place(results.REPORT, folder).parent)
    return RunFiles(name, *part, **paths, masks_link=Path(masks_link).as_posix(), compared=compared)


def inputs_of(runs: Sequence[RunFiles]) -> dict[str, list[str]]:
    """The files of runs, by the names of FILES, each in the order of the runs that have it."""
    return {name: [str(path) for run in runs if (path := getattr(run, name)) is not None] for name in FILES}


def described(runs: Sequence[RunFiles]) -> list[dict[str, Any]]:
    """Plain data of runs without their paths: NAMES, and `files`, which of FILES they have."""
    return [
        {name: getattr(run, name) for name in NAMES}
        | {"files": [name for name in FILES if getattr(run, name) is not None]}
        for run in runs
    ]


def paired(runs: Sequence[Mapping[str, Any]], inputs: Mapping[str, Sequence[str]]) -> list[RunFiles]:
    """The runs of `described` with their files of `inputs_of`, wherever these lie now."""
    files: dict[str, Iterator[str]] = {name: iter(inputs.get(name, ())) for name in FILES}
    of_run: dict[str, Any]
    pairs = []
    for run in runs:
        of_run = {name: Path(next(files[name])) for name in run["files"]}
        pairs.append(RunFiles(**{name: run[name] for name in NAMES}, **of_run))
    return pairs
