"""Runs as the report reads them: one table per run of a category and split, and which of its images are shown."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd

from robis.errors import DataError
from robis.evaluation.metrics import METRICS, typed
from robis.io.damage import damaged
from robis.io.samples import COLUMNS, read_samples
from robis.io.tables import read_table
from robis.report.inputs import RunFiles
from robis.scoring.limits import Limit

ANOMALOUS = "anomalous"
COUNTS = ("images", "anomalous_images", "defects")
CURVE_COLUMNS = ("curve", "x", "y")
# Columns that the tables of a run must have.
SCORE_COLUMNS = ("rescored", "score")
VERDICT_COLUMNS = ("margin", "limit", "held_out", "held_out_above")
THRESHOLD_COLUMNS = ("threshold", "mean_std", "mebin", "defects", "stable_first", "stable_last")


@dataclass(frozen=True)
class Group:
    """All runs of one category and split, and its images.

    Attributes:
        number: from 1, in the order of the page.
        category: the product.
        split: the split.
        runs: those of this report, then those that it is compared with.
        samples: the sample table, `row` the place in the gallery or null; gallery rows come first, in their order.
        tables: a table per run, in the order of `samples`: SCORE_COLUMNS, THRESHOLD_COLUMNS, VERDICT_COLUMNS (null
            where the run has no limit), and `present`, whether the run has the image.
        held_out: run -> float64 scores of the normal images that its limit comes from, on the scale of `margin`; only
            runs of this report that have a limit.
    """

    number: int
    category: str
    split: str
    runs: Sequence[RunFiles]
    samples: pd.DataFrame
    tables: Mapping[str, pd.DataFrame] = field(default_factory=dict)
    held_out: Mapping[str, np.ndarray] = field(default_factory=dict)

    @property
    def folder(self) -> str:
        """Name of the group's folder among the page's assets."""
        return f"{self.number:03d}"

    def limit(self, run: str) -> Limit | None:
        """The limit that a run's images are judged by; None where they are judged by their final masks."""
        rows = self.tables[run].dropna(subset=list(VERDICT_COLUMNS))
        if rows.empty:
            return None
        row = rows.iloc[0]
        return Limit(float(row["limit"]), int(row["held_out"]), int(row["held_out_above"]))

    @property
    def shown(self) -> int:
        """Number of images in the gallery."""
        return int(self.samples["row"].notna().sum())


def groups_of(runs: Sequence[RunFiles], images: int) -> tuple[list[Group], list[str]]:
    """The report's groups, and what of the compared runs is left out, in sentences.

    Args:
        runs: of this report, and those it is compared with, which are shown after them.
        images: most images of a gallery.

    Raises:
        DataError: A table of a run of this report is missing or damaged, or lacks a column or an image.
    """
    parts = dict.fromkeys(run.part for run in runs if not run.compared)
    groups, remarks = [], []
    for number, part in enumerate(parts, start=1):
        of_part = sorted((run for run in runs if run.part == part), key=lambda run: run.compared)
        samples = pd.DataFrame([asdict(s) for s in read_samples(of_part[0].samples)], columns=list(COLUMNS))
        tables = {}
        for run in of_part:
            try:
                tables[run.name], remark = _read_run(run, samples)
                remarks += [f"{_where(run)}: {remark}"] if remark else []
            except DataError as error:
                if not run.compared:
                    raise
                remarks.append(f"{_where(run)} is left out: {error}")
        kept = [run for run in of_part if run.name in tables]
        row = _gallery_rows(samples, [tables[run.name] for run in kept if not run.compared], images)
        order = row.sort_values(kind="stable", na_position="last").index
        samples = samples.assign(row=row).loc[order].reset_index(drop=True)
        tables = {name: table.loc[order].reset_index(drop=True) for name, table in tables.items()}
        groups.append(Group(number, *part, kept, samples, tables, _held_out(kept)))
    return groups, [*remarks, *_absences(runs, parts)]


def _where(run: RunFiles) -> str:
    return f"{run.name}, {run.category}/{run.split}"


def _absences(runs: Sequence[RunFiles], parts: Mapping[tuple[str, str], None]) -> list[str]:
    """Which parts of this report the compared runs do not have."""
    remarks = []
    for name in dict.fromkeys(run.name for run in runs if run.compared):
        there = {run.part for run in runs if run.name == name}
        absent = [f"{category}/{split}" for category, split in parts if (category, split) not in there]
        if absent:
            remarks.append(f"{name} has no finished results of {', '.join(absent)}.")
    return remarks


def _read_run(run: RunFiles, samples: pd.DataFrame) -> tuple[pd.DataFrame, str]:
    """The run's values of each image, in the order of `samples`, and a remark on what a compared run lacks.

    Raises:
        DataError: A table cannot be used; for a run of this report also where it lacks an image or a number.
    """
    scores = _read_numbers(run, run.scores, "score_images", SCORE_COLUMNS)
    thresholds = _read_numbers(run, run.thresholds, "binarize", THRESHOLD_COLUMNS)
    names = samples["sample_id"]
    present = names.isin(scores.index) & names.isin(thresholds.index)
    if not run.compared:
        _require_all(run.scores, "score_images", names, scores)
        _require_all(run.thresholds, "binarize", names, thresholds)
    elif not present.any():
        raise DataError(f"{run.scores} and {run.thresholds} have none of the images of this report.")
    table = pd.DataFrame({"sample_id": names, "present": present})
    table = table.join(scores, on="sample_id").join(thresholds, on="sample_id")
    table = table.join(_read_verdicts(run, names), on="sample_id")
    lacking = (present & table[["rescored", "threshold"]].isna().any(axis=1)).sum()
    return table, f"{lacking} images have no finite score or threshold." if lacking else ""


def _read_verdicts(run: RunFiles, names: pd.Series) -> pd.DataFrame:
    """VERDICT_COLUMNS of each image, its index; without a row where no normal images are held out."""
    if run.verdicts is None:
        return pd.DataFrame(columns=list(VERDICT_COLUMNS), index=pd.Index([], dtype="str"), dtype=np.float64)
    table = _read_numbers(run, run.verdicts, "judge", VERDICT_COLUMNS)
    if not run.compared:
        _require_all(run.verdicts, "judge", names, table)
    return table


def _held_out(runs: Sequence[RunFiles]) -> dict[str, np.ndarray]:
    """Run -> scores of its held-out images. Raises DataError."""
    return {
        run.name: _read_numbers(run, run.held_out_scores, "judge", ["score"])["score"].to_numpy()
        for run in runs
        if run.held_out_scores is not None
    }


def _require_all(path: Path, stage: str, names: pd.Series, table: pd.DataFrame) -> None:
    """Raise DataError unless every image has a row, and a number in the first column."""
    missing = names[~names.isin(table.index)].tolist()
    if missing:
        problem = f"{len(missing)} of the {len(names)} images have no row ({_some(missing)}); expected one each"
        raise damaged(path, problem, stage)
    column = table.columns[0]
    broken = table.index[table[column].isna()].tolist()
    if broken:
        problem = f"the column {column!r} holds no finite number for {len(broken)} images ({_some(broken)})"
        raise damaged(path, problem, stage)


def _some(names: Sequence[str]) -> str:
    return ", ".join(names[:5]) + (", ..." if len(names) > 5 else "")


def _read_numbers(run: RunFiles, path: Path, stage: str, columns: Sequence[str]) -> pd.DataFrame:
    """Numeric columns of a table with a row per `sample_id`, its index; what is no finite number is NaN."""
    table = _read_columns(run, path, stage, ["sample_id", *columns])
    table["sample_id"] = table["sample_id"].astype(str)
    twice = table["sample_id"][table["sample_id"].duplicated()].unique().tolist()
    if twice:
        raise damaged(
            path, f"several rows for an image ({_some(twice)}); expected one", None if run.compared else stage
        )
    return _numbers(table.set_index("sample_id"), columns)


def _read_columns(run: RunFiles, path: Path, stage: str, columns: Sequence[str]) -> pd.DataFrame:
    """Columns of a table of a run. Raises DataError, which tells how to make it again if it is one of this report."""
    table = read_table(path, stage=None if run.compared else stage, columns=dict.fromkeys(columns, "anything"))
    return table[list(columns)].copy()


def _numbers(table: pd.DataFrame, columns: Sequence[str]) -> pd.DataFrame:
    """The table with these columns as float64; what is no finite number is NaN."""
    for column in columns:
        values = pd.to_numeric(table[column], errors="coerce").to_numpy(np.float64, na_value=np.nan)
        table[column] = np.where(np.isfinite(values), values, np.nan)
    return table


def _gallery_rows(samples: pd.DataFrame, tables: Sequence[pd.DataFrame], images: int) -> pd.Series:
    """Place of each image in the gallery, null for those beyond `images`.

    Anomalous images come first, then what any run scores high: the same images for all runs, so that they compare.
    """
    ranks = pd.concat([table["rescored"].rank(ascending=False, method="min") for table in tables], axis=1)
    ordered = samples.assign(first=samples["label"] == ANOMALOUS, rank=ranks.min(axis=1)).sort_values(
        ["first", "rank", "sample_id"], ascending=[False, True, True], kind="stable"
    )
    rows = pd.Series(pd.NA, index=samples.index, dtype="Int64")
    shown = ordered.index[:images]
    rows[shown] = range(len(shown))
    return rows


def metrics_of(groups: Sequence[Group]) -> tuple[pd.DataFrame, pd.DataFrame, list[str]]:
    """Metrics of this report's runs and of the compared ones, a row per run, and remarks on what cannot be used.

    Raises:
        DataError: Metrics of a run of this report are missing or damaged.
    """
    runs = [run for group in groups for run in group.runs]
    order = {name: place for place, name in enumerate(dict.fromkeys(run.name for run in runs))}
    reported: list[pd.DataFrame] = []
    others: list[pd.DataFrame] = []
    remarks = []
    for run in sorted(runs, key=lambda run: order[run.name]):
        if run.metrics is None:
            continue
        try:
            (others if run.compared else reported).append(_read_metrics(run, run.metrics))
        except DataError as error:
            if not run.compared:
                raise
            remarks.append(f"{_where(run)}: its metrics are left out: {error}")
    return _stacked(reported), _stacked(others), remarks


def _read_metrics(run: RunFiles, path: Path) -> pd.DataFrame:
    table = _read_columns(run, path, "evaluate", [*COUNTS, *METRICS])
    if len(table) != 1:
        raise damaged(path, f"{len(table)} rows; expected one", None if run.compared else "evaluate")
    table = _numbers(table, [*COUNTS, *METRICS])
    for place, (name, value) in enumerate({"detector": run.name, "category": run.category, "split": run.split}.items()):
        table.insert(place, name, value)
    return typed(table.astype(dict.fromkeys(COUNTS, "Int64")))


def _stacked(tables: Sequence[pd.DataFrame]) -> pd.DataFrame:
    return pd.concat(tables, ignore_index=True) if tables else no_metrics()


def no_metrics() -> pd.DataFrame:
    """A table of metrics without a row."""
    return typed(pd.DataFrame(columns=["detector", "category", "split", *COUNTS, *METRICS]))


def curves_of(group: Group) -> tuple[dict[str, pd.DataFrame], list[str]]:
    """Run -> its curves, for the runs that have some, and remarks on what cannot be used.

    Raises:
        DataError: Curves of a run of this report are missing or damaged.
    """
    curves, remarks = {}, []
    for run in group.runs:
        if run.curves is not None:
            try:
                table = _numbers(_read_columns(run, run.curves, "evaluate", CURVE_COLUMNS), ("x", "y"))
                curves[run.name] = table.dropna(subset=["x", "y"])
            except DataError as error:
                if not run.compared:
                    raise
                remarks.append(f"{_where(run)}: its curves are left out: {error}")
    return curves, remarks


def known(value: Any) -> str | None:
    """Tables hold an unknown string as None, NaN or NA."""
    return None if pd.isna(value) else str(value)
