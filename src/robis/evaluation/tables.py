"""Metrics of several runs set out as tables: means over categories, spread over seeds, plain text."""

from __future__ import annotations

import re
from collections.abc import Hashable, Mapping, Sequence
from typing import Any

import pandas as pd

from robis.evaluation.metrics import METRICS, typed

# Runs of one detector that differ in the seed of their draw alone, such as winclip_2shot_seed0.
_SEEDED = re.compile(r"(?P<detector>.+)_seed\d+")


def mean_metrics(table: pd.DataFrame) -> pd.DataFrame:
    """The plain mean over categories, one row per detector and split.

    table: rows that `evaluate_split` wrote, in any number. Returns `detector, split, categories` (rows that
    were averaged), METRICS, and for each metric `{metric}_categories`, the number of categories that
    define it: its mean is over these alone, and null where there are none.
    """
    groups = typed(table).groupby(["detector", "split"], sort=False)
    means = groups[list(METRICS)].mean()
    defined = groups[list(METRICS)].count().add_suffix("_categories")
    means.insert(0, "categories", groups.size())
    return means.join(defined).reset_index()


def seed_spread(table: pd.DataFrame) -> pd.DataFrame:
    """Mean and spread over runs that differ in their seed alone: one row per detector, split and category, and
    one with the category "mean" for the seeds' means over categories.

    table: rows that `evaluate_split` wrote. Returns `detector` (the runs' common name), `split, category, seeds`,
    METRICS (means over the seeds) and for each `{metric}_std`, the sample standard deviation. Runs of fewer than
    two seeds are left out.
    """
    rows = pd.concat([typed(table), mean_metrics(table).assign(category="mean")], ignore_index=True)
    names = rows["detector"].astype("str").str.extract(_SEEDED, expand=True)["detector"]
    rows = rows.assign(detector=names)[names.notna()]
    groups = rows.groupby(["detector", "split", "category"], sort=False)
    spread = groups[list(METRICS)].mean().join(groups[list(METRICS)].std().add_suffix("_std"))
    spread.insert(0, "seeds", groups.size())
    return spread[spread["seeds"] > 1].reset_index()


def format_table(table: pd.DataFrame) -> str:
    """Set metrics out as plain text in percent: a block per detector and split, a line per category.

    table: rows that `evaluate_split` wrote. A dash stands for undefined. The last line of a block is the mean
    over the categories that define the metric.
    """
    blocks = []
    for mean in mean_metrics(table).to_dict("records"):
        block = table[(table["detector"] == mean["detector"]) & (table["split"] == mean["split"])]
        lines = [[str(row["category"]), *_percent(row)] for row in block.to_dict("records")]
        lines.append(["mean", *_percent(mean)])
        blocks.append(f"{mean['detector']}, {mean['split']} (in percent)\n" + _aligned(lines))
    spread = seed_spread(table).sort_values(["detector", "split"], kind="stable")
    for (detector, split), block in spread.groupby(["detector", "split"], sort=False):
        lines = [[str(row["category"]), *_with_deviation(row)] for row in block.to_dict("records")]
        over = f"{detector}, {split}, mean ± standard deviation over {block['seeds'].iloc[0]} seeds (in percent)\n"
        blocks.append(over + _aligned(lines))
    return "\n\n".join(blocks)


def _percent(row: Mapping[Hashable, Any]) -> list[str]:
    cells = [row[name] for name in METRICS]
    return ["-" if pd.isna(cell) else f"{100 * float(cell):.1f}" for cell in cells]


def _with_deviation(row: Mapping[Hashable, Any]) -> list[str]:
    cells = [(row[name], row[f"{name}_std"]) for name in METRICS]
    return ["-" if pd.isna(std) else f"{100 * float(mean):.1f}±{100 * float(std):.1f}" for mean, std in cells]


def _aligned(lines: Sequence[Sequence[str]]) -> str:
    """Lines under two header lines: the metric's family (image, pixel, ...) and its name within it."""
    families, names = ["", *[""] * len(METRICS)], ["category"]
    for column, metric in enumerate(METRICS, start=1):
        family, _, name = metric.partition("_")
        families[column] = "" if family in families else family
        names.append(name)
    rows = [families, names, *lines]
    widths = [max(len(row[column]) for row in rows) for column in range(len(names))]
    return "\n".join(
        "  ".join(
            cell.ljust(width) if column == 0 or number == 0 else cell.rjust(width)
            for column, (cell, width) in enumerate(zip(row, widths, strict=True))
        ).rstrip()
        for number, row in enumerate(rows)
    )
