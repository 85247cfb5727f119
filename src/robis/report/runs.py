"""Runs as the report reads them: one table per run of a category and split, and which of its images are shown."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pandas as pd

from robis.errors import DataError, first_few
from robis.evaluation.metrics import METRICS as METRIC_NAMES
from robis.evaluation.metrics import typed
from robis.io.tables import read_table
from robis.report.compared import CURVES, METRICS, detectors_of, is_complete

ANOMALOUS = "anomalous"

# Result of one image -> what it means; in the order of the page.
RESULTS = {
    "missed": "anomalous, but the final mask is empty",
    "false alarm": "normal, but the final mask is not empty",
    "found": "anomalous, and the final mask is not empty (SegF1 says how well it fits)",
    "clean": "normal, and the final mask is empty",
    "unknown": "the image's label is not known",
}


@dataclass(frozen=True)
class Run:
    """One detector's results on a category and split.

    Attributes:
        name: as the page shows it: the detector's, with the folder's where it is another one.
        folder: results/NAME/DETECTOR.
        own: whether it belongs to the run that is reported, and not to a folder it is compared with.
    """

    name: str
    folder: Path
    category: str
    split: str
    own: bool = True

    def file(self, output: str, sample_id: str, suffix: str) -> Path:
        """The file of an image in a folder of the run, e.g. its map in "anomaly_images"."""
        return self.folder / output / self.category / self.split / f"{sample_id}{suffix}"

    def table(self, pattern: str) -> Path:
        """A table of the run, `{}` in the pattern standing for category/split."""
        return self.folder / pattern.format(f"{self.category}/{self.split}")


@dataclass(frozen=True)
class Group:
    """All runs of one category and split, and its images.

    Attributes:
        number: from 1, in the order of the page.
        samples: the sample table, `row` the place in the gallery or null; gallery rows come first, in their order.
        tables: a table per run, in the order of `samples`: `rescored, threshold, mean_std, mebin, defects,
            stable_first, stable_last, result`.
    """

    number: int
    category: str
    split: str
    runs: Sequence[Run]
    samples: pd.DataFrame
    tables: Mapping[str, pd.DataFrame] = field(default_factory=dict)

    @property
    def folder(self) -> str:
        """Name of the group's folder among the page's assets."""
        return f"{self.number:03d}"

    @property
    def shown(self) -> int:
        """Number of images in the gallery."""
        return int(self.samples["row"].notna().sum())

    @property
    def labeled(self) -> bool:
        return bool(self.samples["label"].notna().any())


def groups_of(results: Path, runs: Sequence[Sequence[str]], compare: Sequence[str], images: int) -> list[Group]:
    """The report's groups, with the runs of other folders after the own ones.

    runs: [detector, category, split] of the folder `results`. images: most images of a gallery.

    Raises DataError where a table of an own run is missing or lacks an image, and where another folder has
    nothing of what is reported.
    """
    parts = list(dict.fromkeys((category, split) for _, category, split in runs))
    others = _others(compare, parts)
    groups = []
    for number, part in enumerate(parts, start=1):
        found = [Run(d, results / d, c, s) for d, c, s in runs if (c, s) == part]
        found += [run for run in others if (run.category, run.split) == part]
        samples = read_table(results / "samples" / part[0] / f"{part[1]}.parquet")
        tables = {run.name: _table(run, samples) for run in found}
        row = _gallery_rows(samples, [tables[run.name] for run in found if run.own], images)
        order = row.sort_values(kind="stable", na_position="last").index
        samples = samples.assign(row=row).loc[order].reset_index(drop=True)
        tables = {name: table.loc[order].reset_index(drop=True) for name, table in tables.items()}
        groups.append(Group(number, *part, found, samples, tables))
    return groups


def _others(compare: Sequence[str], parts: Sequence[tuple[str, str]]) -> list[Run]:
    folders = [Path(path).expanduser() for path in compare]
    names = Counter(folder.name for folder in folders)
    found = []
    for path, folder in zip(compare, folders, strict=True):
        label = folder.name if names[folder.name] == 1 else path
        of_folder = [
            Run(f"{label}: {detector}", folder / detector, category, split, own=False)
            for detector in detectors_of(folder)
            for category, split in parts
            if is_complete(folder / detector, category, split)
        ]
        if not of_folder:
            listed = ", ".join(f"{category}/{split}" for category, split in parts[:5])
            raise DataError(
                f"report.compare: {path} has no finished results of what is reported here ({listed}"
                f"{', ...' if len(parts) > 5 else ''}). Finish that run, or take the path out of report.compare."
            )
        found += of_folder
    return found


def _table(run: Run, samples: pd.DataFrame) -> pd.DataFrame:
    """What the run says of each image; another folder's may lack images, whose `result` is then null."""
    found = samples[["sample_id", "label"]]
    for name, columns in {
        "image_scores": ["rescored", "is_anomalous"],
        "thresholds": ["threshold", "mean_std", "mebin", "defects", "stable_first", "stable_last"],
    }.items():
        path = run.table(name + "/{}.parquet")
        table = read_table(path)
        lacking = [column for column in ["sample_id", *columns] if column not in table]
        if lacking:
            raise DataError(f"{path}: no column {', '.join(lacking)}. Make the table again with this version.")
        table = table.set_index("sample_id")
        missing = samples.loc[~samples["sample_id"].isin(table.index), "sample_id"].tolist()
        if missing and run.own:
            raise DataError(
                f"{path}: {len(missing)} of the {len(samples)} images of {run.category}/{run.split} have no row; "
                f"expected one each. Make the table again. Missing:\n{first_few(missing)}"
            )
        found = found.join(table[columns], on="sample_id", validate="1:1")
    results = [
        None if pd.isna(marked) else result_of(known(label), bool(marked))
        for label, marked in zip(found["label"], found["is_anomalous"], strict=True)
    ]
    return found.assign(result=pd.Series(results, index=found.index, dtype="str"))


def result_of(label: str | None, marked: bool) -> str:
    """One of RESULTS, from an image's label and whether its final mask has a pixel."""
    if label is None:
        return "unknown"
    if label == ANOMALOUS:
        return "found" if marked else "missed"
    return "false alarm" if marked else "clean"


def _gallery_rows(samples: pd.DataFrame, tables: Sequence[pd.DataFrame], images: int) -> pd.Series:
    """Place of each image in the gallery, null for those beyond `images`.

    Anomalous images come first, then what any run scores high: the same images for all runs, so that they compare.
    """
    ranks = pd.concat([table["rescored"].rank(ascending=False, method="min") for table in tables], axis=1)
    ordered = samples.assign(first=samples["label"].eq(ANOMALOUS).fillna(False), rank=ranks.min(axis=1)).sort_values(
        ["first", "rank", "sample_id"], ascending=[False, True, True], kind="stable"
    )
    rows = pd.Series(pd.NA, index=samples.index, dtype="Int64")
    shown = ordered.index[:images]
    rows[shown] = range(len(shown))
    return rows


def count_results(results: pd.Series) -> dict[str, int]:
    """How many images have each of RESULTS."""
    found = Counter(results)
    return {name: found[name] for name in RESULTS}


def metrics_of(groups: Sequence[Group], *, own: bool) -> pd.DataFrame:
    """The metric files of the own runs, or of the others, as one table: a row per run, named as the page names it.

    Other folders' rows are left out where they have none.
    """
    runs = [run for group in groups for run in group.runs if group.labeled and run.own == own]
    order = list(dict.fromkeys(run.name for run in runs))
    tables = [
        read_table(path).assign(detector=run.name)
        for run in sorted(runs, key=lambda run: order.index(run.name))
        if (path := run.table(METRICS)) and (own or path.is_file())
    ]
    return typed(pd.concat(tables, ignore_index=True)) if tables else no_metrics()


def no_metrics() -> pd.DataFrame:
    """A table of metrics without a row."""
    columns = ["detector", "category", "split", "images", "anomalous_images", "defects", *METRIC_NAMES]
    return typed(pd.DataFrame(columns=columns))


def curves_of(group: Group) -> dict[str, pd.DataFrame]:
    """Run -> its curves, for those of the group's runs that have metrics and curves."""
    return {
        run.name: read_table(run.table(CURVES))
        for run in group.runs
        if group.labeled and (run.own or (run.table(METRICS).is_file() and run.table(CURVES).is_file()))
    }


def known(value: Any) -> str | None:
    """Tables hold an unknown string as None, NaN or NA."""
    return None if pd.isna(value) else str(value)
