"""Tables of metrics for comparison: means per run, a matrix per metric, a table per run, spread over seeds."""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

import pandas as pd

from robis.evaluation.metrics import METRICS
from robis.evaluation.tables import mean_metrics, seed_spread

MEAN = "mean"

# Metric -> heading of its group, heading of its column, its full name. What it is: MEANINGS.
HEADINGS = {
    "image_auroc": ("Image", "AUROC", "Image AUROC"),
    "image_ap": ("Image", "AP", "Image AP"),
    "image_f1_max": ("Image", "F1 max", "Image F1 max"),
    "pixel_auroc": ("Pixel", "AUROC", "Pixel AUROC"),
    "pixel_ap": ("Pixel", "AP", "Pixel AP"),
    "pixel_f1_max": ("Pixel", "F1 max", "Pixel F1 max"),
    "aupro_0.30": ("AU-PRO", "0.30", "AU-PRO 0.30"),
    "aupro_0.05": ("AU-PRO", "0.05", "AU-PRO 0.05"),
    "seg_f1": ("Final masks", "SegF1", "SegF1"),
    "seg_iou": ("Final masks", "IoU", "SegIoU"),
    "seg_precision": ("Final masks", "Prec.", "Seg. precision"),
    "seg_recall": ("Final masks", "Recall", "Seg. recall"),
    "class_f1": ("Final masks", "ClassF1", "ClassF1"),
}
# The metric that is selected at first.
FIRST_METRIC = "seg_f1"


@dataclass(frozen=True)
class Cell:
    """One number.

    Attributes:
        value: 0..1, None where it is undefined.
        best: whether it is the highest of the compared cells, unless all of them are equal.
        std: sample standard deviation over seeds, of a mean over seeds.
        categories: number of categories that a mean is over, where others leave the metric undefined.
    """

    value: float | None
    best: bool = False
    std: float | None = None
    categories: int | None = None


@dataclass(frozen=True)
class Column:
    """A run, or several that differ only in their seed.

    kind: "run"; "seed", one of several such runs; "seeds", their mean; "other", a run of another folder.
    """

    name: str
    kind: str
    seeds: int = 0


@dataclass(frozen=True)
class Row:
    """A line of a table: a category in a run's table and in a matrix, a run in a table of means."""

    name: str
    cells: Sequence[Cell]
    column: Column | None = None
    categories: int = 0


@dataclass(frozen=True)
class SplitTables:
    """All tables of one split.

    means: a row per column, with METRICS. matrices: metric -> a row per category and one of means, with the columns.
    runs: a table per column, a row per category and one of means, with METRICS.
    """

    split: str
    columns: Sequence[Column]
    categories: Sequence[str]
    means: Sequence[Row]
    matrices: Mapping[str, Sequence[Row]]
    runs: Sequence[tuple[Column, Sequence[Row]]]


def split_tables(metrics: pd.DataFrame, others: pd.DataFrame) -> list[SplitTables]:
    """The tables of every split with metrics.

    Args:
        metrics: of this report's runs, a row per run and category, as `evaluate_split` writes.
        others: the same of the runs that it is compared with.
    """
    measured = pd.concat([metrics, others], ignore_index=True) if len(others) else metrics
    if not len(measured):
        return []
    values = _values(measured)
    spread = seed_spread(metrics) if len(metrics) else metrics
    for row in _records(spread):
        key = (row["split"], row["detector"], row["category"])
        values[key] = {name: Cell(_value(row[name]), std=_value(row[f"{name}_std"])) for name in METRICS}
    tables = []
    for split in dict.fromkeys(measured["split"]):
        here = measured[measured["split"] == split]
        seeds = {row["detector"]: int(row["seeds"]) for row in _records(spread) if row["split"] == split}
        columns = _columns(dict.fromkeys(here["detector"]), set(others.get("detector", ())), seeds)
        tables.append(_tables_of(split, columns, list(dict.fromkeys(here["category"])), values))
    return tables


def _values(measured: pd.DataFrame) -> dict[tuple[str, str, str], dict[str, Cell]]:
    """(split, run, category or MEAN) -> metric -> its cell."""
    values = {
        (row["split"], row["detector"], row["category"]): {name: Cell(_value(row[name])) for name in METRICS}
        for row in _records(measured)
    }
    for row in _records(mean_metrics(measured)):
        defined = {name: int(row[f"{name}_categories"]) for name in METRICS}
        values[row["split"], row["detector"], MEAN] = {
            name: Cell(_value(row[name]), categories=defined[name] if defined[name] < row["categories"] else None)
            for name in METRICS
        }
    return values


def _columns(runs: Iterable[str], others: set[str], seeds: Mapping[str, int]) -> list[Column]:
    """Runs in their order, with the mean over seeds before the first of its runs."""
    columns: list[Column] = []
    for run in runs:
        family = re.sub(r"_seed\d+$", "", run)
        seeded = run not in others and family != run and family in seeds
        if seeded and Column(family, "seeds", seeds[family]) not in columns:
            columns.append(Column(family, "seeds", seeds[family]))
        columns.append(Column(run, "other" if run in others else "seed" if seeded else "run"))
    return columns


def without_seeds(runs: Sequence[str]) -> list[str]:
    """Names of runs; those that differ only in their seed are one name with their number."""
    families = [re.sub(r"_seed\d+$", "", run) for run in runs]
    shown = {
        family if families.count(family) > 1 else run: families.count(family)
        for family, run in zip(families, runs, strict=True)
    }
    return [f"{name} ({number} seeds)" if number > 1 else name for name, number in shown.items()]


def _tables_of(
    split: str,
    columns: Sequence[Column],
    categories: Sequence[str],
    values: Mapping[tuple[str, str, str], Mapping[str, Cell]],
) -> SplitTables:
    def cell(column: Column, category: str, metric: str) -> Cell:
        return values.get((split, column.name, category), {}).get(metric, Cell(None))

    compared = [column.kind != "seed" for column in columns]
    matrices, mean_cells = {}, {}
    for metric in METRICS:
        rows = [
            Row(category, mark_best([cell(column, category, metric) for column in columns], compared))
            for category in (*categories, MEAN)
        ]
        matrices[metric] = rows
        mean_cells[metric] = rows[-1].cells
    means = [
        Row(column.name, [mean_cells[metric][place] for metric in METRICS], column, _count(values, split, column))
        for place, column in enumerate(columns)
    ]
    runs = [
        (
            column,
            [
                Row(category, [cell(column, category, metric) for metric in METRICS])
                for category in (*categories, MEAN)
                if (split, column.name, category) in values
            ],
        )
        for column in columns
    ]
    return SplitTables(split, columns, categories, means, matrices, runs)


def _count(values: Mapping[tuple[str, str, str], object], split: str, column: Column) -> int:
    return sum(key[:2] == (split, column.name) and key[2] != MEAN for key in values)


def mark_best(cells: Sequence[Cell], compared: Sequence[bool]) -> list[Cell]:
    """Mark the highest of the compared cells, all of them where several are; nothing where all are equal."""
    values = [cell.value for cell, counts in zip(cells, compared, strict=True) if counts and cell.value is not None]
    best = max(values, default=0.0)
    if min(values, default=0.0) == best:
        return list(cells)
    return [replace(cell, best=counts and cell.value == best) for cell, counts in zip(cells, compared, strict=True)]


def _records(table: pd.DataFrame) -> list[dict[str, Any]]:
    return [{str(key): value for key, value in row.items()} for row in table.to_dict("records")]


def _value(value: Any) -> float | None:
    return None if pd.isna(value) else float(value)
