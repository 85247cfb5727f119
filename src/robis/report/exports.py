"""Metrics as files for other programs: CSV with all digits, LaTeX for papers."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import pandas as pd

from robis.evaluation.metrics import METRICS
from robis.evaluation.tables import mean_metrics, seed_spread
from robis.io.atomic import atomic_file
from robis.report.overview import HEADINGS, MEAN, Cell, Column, Row, SplitTables

COUNTS = ("images", "anomalous_images", "defects", "categories")
_LATEX = str.maketrans(
    {
        **{character: f"\\{character}" for character in "&%$#_{}"},
        "\\": r"\textbackslash{}",
        "~": r"\textasciitilde{}",
        "^": r"\textasciicircum{}",
    }
)


def write_metrics_csv(path: Path, measured: pd.DataFrame) -> None:
    """One row per run with ground truth, then one per detector and split with their mean (category "mean")."""
    table = measured
    if len(measured):
        means = mean_metrics(measured).assign(category=MEAN)
        table = pd.concat([measured, means[["detector", "category", "split", "categories", *METRICS]]])
        table[list(COUNTS)] = table[list(COUNTS)].astype("Int64")
    with atomic_file(path) as partial:
        table.to_csv(partial, index=False, lineterminator="\n")


def write_tables(folder: Path, measured: pd.DataFrame, tables: Sequence[SplitTables]) -> None:
    """Fill a folder with tables of metrics, each as .csv (all digits, 0..1) and .tex (percent).

    `means` (runs by metrics, all splits) and `seeds` (the same over seeds, with `_std` columns) at its top; per
    split, in a folder of its name, a table per metric (categories by runs) and one per run (categories by metrics),
    for means over seeds as .tex alone.

    measured: own metrics, a row per run and category; tables: the same as `split_tables` sets them out, in which
    runs of other folders are left out here.
    """
    if not len(measured):
        return
    means = mean_metrics(measured)[["detector", "split", "categories", *METRICS]]
    _write_csv(folder / "means.csv", means)
    metric_names = [HEADINGS[name][2] for name in METRICS]
    rows = [
        Row(f"{row.name}, {table.split}", row.cells)
        for table in tables
        for row in table.means
        if row.column and row.column.kind in ("run", "seed")
    ]
    _write_tex(folder / "means.tex", "Run", metric_names, [_unmarked(row) for row in rows])
    spread = seed_spread(measured)
    if len(spread):
        _write_csv(folder / "seeds.csv", spread)
        rows = [
            Row(f"{row.name} ({row.column.seeds} seeds), {table.split}", row.cells)
            for table in tables
            for row in table.means
            if row.column and row.column.kind == "seeds"
        ]
        _write_tex(folder / "seeds.tex", "Run", metric_names, [_unmarked(row) for row in rows])
    for table in tables:
        _write_split(folder / table.split, table, metric_names)


def _write_split(folder: Path, table: SplitTables, metric_names: Sequence[str]) -> None:
    own = [place for place, column in enumerate(table.columns) if column.kind != "other"]
    columns = [table.columns[place] for place in own]
    for metric, rows in table.matrices.items():
        kept = [Row(row.name, [row.cells[place] for place in own]) for row in rows]
        _write_csv(folder / f"{metric}.csv", _frame("category", kept, [column.name for column in columns]))
        # Single seeds stay out of what is set in print; their mean is there.
        printed = [place for place, column in enumerate(columns) if column.kind != "seed"]
        kept = [Row(row.name, [row.cells[place] for place in printed]) for row in kept]
        _write_tex(folder / f"{metric}.tex", "Category", [_printed(columns[place]) for place in printed], kept)
    for column, rows in table.runs:
        if column.kind != "other":
            _write_tex(folder / f"{column.name}.tex", "Category", metric_names, [_unmarked(row) for row in rows])
        if column.kind in ("run", "seed"):
            _write_csv(folder / f"{column.name}.csv", _frame("category", rows, METRICS))


def _printed(column: Column) -> str:
    return column.name if column.kind != "seeds" else f"{column.name} ({column.seeds} seeds)"


def _unmarked(row: Row) -> Row:
    return Row(row.name, [Cell(cell.value, std=cell.std, of=cell.of) for cell in row.cells])


def _frame(first: str, rows: Sequence[Row], columns: Sequence[str]) -> pd.DataFrame:
    values = [[row.name, *(cell.value for cell in row.cells)] for row in rows]
    return pd.DataFrame(values, columns=[first, *columns])


def _write_csv(path: Path, table: pd.DataFrame) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    table.to_csv(path, index=False, lineterminator="\n")


def _write_tex(path: Path, first: str, columns: Sequence[str], rows: Sequence[Row]) -> None:
    lines = [
        "% Percent; the best of a row is bold. Needs \\usepackage{booktabs}.",
        f"\\begin{{tabular}}{{l{'r' * len(columns)}}}",
        "\\toprule",
        " & ".join(escape_latex(name) for name in [first, *columns]) + r" \\",
        "\\midrule",
    ]
    for row in rows:
        if row.name == MEAN and len(rows) > 1:
            lines.append("\\midrule")
        lines.append(" & ".join([escape_latex(row.name), *map(_tex_cell, row.cells)]) + r" \\")
    lines += ["\\bottomrule", "\\end{tabular}", ""]
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text("\n".join(lines), encoding="utf-8", newline="\n")


def _tex_cell(cell: Cell) -> str:
    if cell.value is None:
        return "--"
    text = f"{100 * cell.value:.1f}"
    text = f"\\textbf{{{text}}}" if cell.best else text
    return text if cell.std is None else f"{text} $\\pm$ {100 * cell.std:.1f}"


def escape_latex(text: str) -> str:
    """A name as LaTeX sets it, character by character."""
    return text.translate(_LATEX)
