"""Other results folders that a report is compared with: what has to be there, and when it has changed."""

from __future__ import annotations

import hashlib
from collections.abc import Iterable, Sequence
from pathlib import Path

from robis.errors import ConfigError, one_of

# What a run of another folder needs for a place in the report; {} is category/split.
TABLES = ("image_scores/{}.parquet", "thresholds/{}.parquet")
FOLDERS = ("anomaly_images/{}", "coarse_masks/{}", "anomaly_images_thresholded/{}")
METRICS = "metrics/{}.parquet"
CURVES = "curves/{}.parquet"


def check_compared(paths: Sequence[str], own: Path) -> None:
    """Raise ConfigError for a path that is no finished results folder, is this run's own, or is given twice."""
    seen: set[Path] = set()
    for path in paths:
        folder = Path(path).expanduser()
        if not folder.is_dir():
            beside = sorted(other.name for other in folder.parent.glob("*/")) if folder.parent.is_dir() else []
            hint = f" {one_of(folder.name, beside)}" if beside else ""
            raise ConfigError(f"report.compare: {path} is not a folder. Expected another run's results/NAME.{hint}")
        if folder.resolve() == own.resolve():
            raise ConfigError(f"report.compare: {path} is this run's own folder. Give another run's results/NAME.")
        if folder.resolve() in seen:
            raise ConfigError(f"report.compare: {path} is listed twice. Give each folder once.")
        if not detectors_of(folder):
            raise ConfigError(
                f"report.compare: {path} holds no results: no DETECTOR/image_scores in it. Expected a results/NAME "
                f"that `snakemake` has finished."
            )
        seen.add(folder.resolve())


def detectors_of(folder: Path) -> list[str]:
    """Names of the runs below a results folder, sorted."""
    return sorted(path.parent.name for path in folder.glob("*/image_scores") if path.is_dir())


def is_complete(run: Path, category: str, split: str) -> bool:
    """Whether a run's folder (results/NAME/DETECTOR) has all that the report shows of a category and split."""
    part = f"{category}/{split}"
    return all((run / name.format(part)).is_file() for name in TABLES) and all(
        (run / name.format(part)).is_dir() for name in FOLDERS
    )


def compared_digest(paths: Iterable[str], parts: Iterable[tuple[str, str]]) -> str | None:
    """Digest of the tables of other folders for (category, split) of `parts`; None without folders.

    Maps and masks are not read: none of them changes without a change of its threshold, score or metrics.
    """
    names = sorted({f"{category}/{split}" for category, split in parts})
    total = hashlib.sha256()
    count = 0
    for path in paths:
        count += 1
        folder = Path(path).expanduser()
        for detector in detectors_of(folder):
            for name in names:
                for table in (*TABLES, METRICS, CURVES):
                    file = folder / detector / table.format(name)
                    content = hashlib.sha256(file.read_bytes()).hexdigest() if file.is_file() else "missing"
                    total.update(f"{detector}/{table.format(name)} {content}\n".encode())
    return total.hexdigest()[:32] if count else None
