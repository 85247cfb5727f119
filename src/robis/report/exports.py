"""Metrics as files for other programs: CSV with all digits, LaTeX for papers."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import pandas as pd

from robis.evaluation.metrics import MEANINGS, METRICS
from robis.evaluation.tables import mean_metrics, seed_spread
from robis.io.tables import write_csv
from robis.report.overview import HEADINGS, MEAN, Cell, Column, Row, SplitTables
from robis.report.runs import COUNTS


def write_metrics_csv(path: Path, measured: pd.DataFrame) -> None:
    """One row per run with ground truth, then one per detector and split with their mean (category "mean")."""
    table = measured
    if len(measured):
        means = mean_metrics(measured).assign(category=MEAN)
        table = pd.concat([measured, means[["detector", "category", "split", "categories", *METRICS]]])
        counts = [*COUNTS, "categories"]
        table[counts] = table[counts].astype("Int64")
    write_csv(path, table)


def write_tables(folder: Path, measured: pd.DataFrame, tables: Sequence[SplitTables]) -> None:
    """Fill a folder with tables of metrics, each as .csv (all digits, 0..1) and .tex (percent).

    `means` (runs by metrics, all splits) and `seeds` (the same over seeds, with `_std` columns) at its top; per
    split, in a folder of its name, a table per metric (categories by runs) and one per run (categories by metrics),
    for means over seeds as .tex alone.

    Args:
        folder: to fill.
        measured: metrics of this report's runs, a row per run and category.
        tables: the same as `split_tables` arranges them; runs of other folders in them are left out.
    """
    if not len(measured):
        return
    write_csv(folder / "means.csv", mean_metrics(measured)[["detector", "split", "categories", *METRICS]])
    _write_means(folder / "means.tex", tables, ("run", "seed"))
    spread = seed_spread(measured)
    if len(spread):
        write_csv(folder / "seeds.csv", spread)
        _write_means(folder / "seeds.tex", tables, ("seeds",))
    for table in tables:
        _write_matrices(folder / table.split, table)
        _write_runs(folder / table.split, table)


def _write_means(path: Path, tables: Sequence[SplitTables], kinds: Sequence[str]) -> None:
    rows = [
        Row(f"{_printed(row.column)}, {table.split}", row.cells)
        for table in tables
        for row in table.means
        if row.column and row.column.kind in kinds
    ]
    _write_tex(path, "Run", _metric_names(), [_unmarked(row) for row in rows], METRICS)


def _write_matrices(folder: Path, table: SplitTables) -> None:
    """A table per metric. Single seeds are in the CSV alone; what is set in print is their mean."""
    places = [place for place, column in enumerate(table.columns) if column.kind != "other"]
    printed = [place for place in places if table.columns[place].kind != "seed"]
    for metric, rows in table.matrices.items():
        write_csv(
            folder / f"{metric}.csv", _frame(_chosen(rows, places), [table.columns[place].name for place in places])
        )
        names = [_printed(table.columns[place]) for place in printed]
        _write_tex(folder / f"{metric}.tex", "Category", names, _chosen(rows, printed), [metric])


def _write_runs(folder: Path, table: SplitTables) -> None:
    for column, rows in table.runs:
        if column.kind != "other":
            unmarked = [_unmarked(row) for row in rows]
            _write_tex(folder / f"{column.name}.tex", "Category", _metric_names(), unmarked, METRICS)
        if column.kind in ("run", "seed"):
            write_csv(folder / f"{column.name}.csv", _frame(rows, METRICS))


def _chosen(rows: Sequence[Row], places: Sequence[int]) -> list[Row]:
    return [Row(row.name, [row.cells[place] for place in places]) for row in rows]


def _printed(column: Column) -> str:
    return column.name if column.kind != "seeds" else f"{column.name} ({column.seeds} seeds)"


def _metric_names() -> list[str]:
    return [HEADINGS[name][2] for name in METRICS]


def _unmarked(row: Row) -> Row:
    return Row(row.name, [Cell(cell.value, std=cell.std, categories=cell.categories) for cell in row.cells])


def _frame(rows: Sequence[Row], columns: Sequence[str]) -> pd.DataFrame:
    values = [[row.name, *(cell.value for cell in row.cells)] for row in rows]
    return pd.DataFrame(values, columns=["category", *columns])


def _write_tex(path: Path, first: str, columns: Sequence[str], rows: Sequence[Row], metrics: Sequence[str]) -> None:
    """Write a table, and below it what its metrics are, as comments that a paper's notes can take over."""
    cells = [[row.name, *map(_tex_cell, row.cells)] for row in rows]
    style = pd.DataFrame(cells, columns=[first, *columns]).style.hide(axis="index")
    # Names are text; the numbers hold LaTeX of their own.
    style = style.format(escape="latex", subset=[first]).format_index(escape="latex", axis="columns")
    text = style.to_latex(hrules=True, column_format="l" + "r" * len(columns))
    if len(rows) > 1 and rows[-1].name == MEAN:
        text = text.replace(f"\n{MEAN} & ", f"\n\\midrule\n{MEAN} & ")
    path.parent.mkdir(parents=True, exist_ok=True)
    note = "% Percent; the best of a row is bold. Needs \\usepackage{booktabs}.\n"
    meanings = "".join(f"% {HEADINGS[name][2]}: {_escaped(MEANINGS[name])}.\n" for name in metrics)
    path.write_text(note + text + meanings, encoding="utf-8", newline="\n")


def _escaped(text: str) -> str:
    return text.replace("%", "\\%")


def _tex_cell(cell: Cell) -> str:
    if cell.value is None:
        return "--"
    text = f"{100 * cell.value:.1f}"
    text = f"\\textbf{{{text}}}" if cell.best else text
    return text if cell.std is None else f"{text} $\\pm$ {100 * cell.std:.1f}"
