"""Other results folders that a report is compared with: what has to be there, and their files."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

from robis.errors import ConfigError, one_of
from robis.io.names import expanded
from robis.report.inputs import RunFiles
from robis.workflow import results
from robis.workflow.report_inputs import run_files

Part = tuple[str, str]


def check_compared(paths: Sequence[str], results_folder: Path) -> None:
    """Raise ConfigError for a path that is no finished results folder, is this run's own, or is given twice."""
    seen: set[Path] = set()
    for path in paths:
        folder = expanded(path)
        if not folder.is_dir():
            beside = sorted(other.name for other in folder.parent.glob("*/")) if folder.parent.is_dir() else []
            hint = f" {one_of(folder.name, beside)}" if beside else ""
            raise ConfigError(f"report.compare: {path} is not a folder. Expected another run's results/NAME.{hint}")
        if folder.resolve() == results_folder.resolve():
            raise ConfigError(f"report.compare: {path} is this run's own folder. Give another run's results/NAME.")
        if folder.resolve() in seen:
            raise ConfigError(f"report.compare: {path} is listed twice. Give each folder once.")
        if not _detectors(folder):
            raise ConfigError(
                f"report.compare: {path} holds no results: no DETECTOR/image_scores in it. Expected a results/NAME "
                f"that `snakemake` has finished."
            )
        seen.add(folder.resolve())


def compared_runs(paths: Sequence[str], samples: Mapping[Part, Path]) -> list[RunFiles]:
    """The files of every finished run of other results folders, for the categories and splits that are reported.

    Args:
        paths: results folders.
        samples: category and split -> this run's sample table, with whose images theirs are matched.

    Raises:
        ConfigError: A folder has nothing of what is reported.
    """
    folders = [expanded(path) for path in paths]
    names = Counter(folder.name for folder in folders)
    runs = []
    for path, folder in zip(paths, folders, strict=True):
        label = folder.name if names[folder.name] == 1 else path
        of_folder = list(_finished(folder, label, samples))
        if not of_folder:
            listed = [f"{category}/{split}" for category, split in samples]
            more = ", ..." if len(listed) > 5 else ""
            raise ConfigError(
                f"report.compare: {path} has no finished results of what is reported here "
                f"({', '.join(listed[:5])}{more}). Finish that run, or take the path out of report.compare."
            )
        runs += of_folder
    return runs


def _finished(folder: Path, label: str, samples: Mapping[Part, Path]) -> Iterator[RunFiles]:
    for detector in _detectors(folder):
        for part, table in samples.items():
            run = replace(run_files(folder, detector, f"{label}: {detector}", part, compared=True), samples=table)
            tables, folders = (run.scores, run.thresholds), (run.maps, run.coarse_masks, run.masks)
            if all(path.is_file() for path in tables) and all(path.is_dir() for path in folders):
                optional = ("verdicts", "metrics", "curves")
                there: dict[str, Any] = dict.fromkeys(optional)
                there |= {name: path for name in optional if (path := getattr(run, name)).is_file()}
                there |= dict.fromkeys(
                    ("held_out_scores", "history", "pack", "detectability", "regions", "evidence", "clusters")
                )
                yield replace(run, **there)


def _detectors(folder: Path) -> list[str]:
    """Names of the runs below a results folder, sorted."""
    return sorted({path.relative_to(folder).parts[0] for path in results.places(results.IMAGE_SCORES, folder)})
