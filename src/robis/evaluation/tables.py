"""Tables of the metrics of several runs: means over categories, spread over seeds, plain text."""

from __future__ import annotations

import re
from collections.abc import Sequence

import pandas as pd

from robis.evaluation.metrics import METRICS, typed

# Runs of a detector that differ only in the seed of their references, such as winclip_2shot_seed0.
_SEEDED = re.compile(r"(?P<detector>.+)_seed\d+")


def mean_metrics(table: pd.DataFrame) -> pd.DataFrame:
    """The plain mean over categories.

    Args:
        table: rows of `evaluate_split`, any number. Rows with a true `other_settings` are left out.

    Returns:
        One row per detector and split: `detector, split, categories` (number of rows averaged), METRICS, and for each
        metric `{metric}_categories`, the number of categories in which it is defined. The mean is over these, and null
        where there are none.
    """
    groups = typed(_comparable(table)).groupby(["detector", "split"], sort=False)
    means = groups[list(METRICS)].mean()
    defined = groups[list(METRICS)].count().add_suffix("_categories")
    means.insert(0, "categories", groups.size())
    return means.join(defined).reset_index()


def seed_spread(table: pd.DataFrame) -> pd.DataFrame:
    """Mean and standard deviation over runs that differ only in their seed.

    Args:
        table: rows of `evaluate_split`. Rows with a true `other_settings` are left out.

    Returns:
        One row per detector, split and category, and one with the category "mean" for the mean over categories:
        `detector` (the common name of the runs), `split, category, seeds`, METRICS (means over the seeds) and for each
        `{metric}_std`, the sample standard deviation. Runs with a single seed are left out.
    """
    table = _comparable(table)
    rows = pd.concat([typed(table), mean_metrics(table).assign(category="mean")], ignore_index=True)
    names = rows["detector"].astype("str").str.extract(_SEEDED, expand=True)["detector"]
    rows = rows.assign(detector=names)[names.notna()]
    groups = rows.groupby(["detector", "split", "category"], sort=False)
    spread = groups[list(METRICS)].mean().join(groups[list(METRICS)].std().add_suffix("_std"))
    spread.insert(0, "seeds", groups.size())
    return spread[spread["seeds"] > 1].reset_index()


def _comparable(table: pd.DataFrame) -> pd.DataFrame:
    return table[~table["other_settings"].astype(bool)] if "other_settings" in table else table


def format_table(table: pd.DataFrame, differences: Sequence[str] = ()) -> str:
    """Metrics as plain text in percent: a block per detector and split, a line per category.

    A dash stands for an undefined metric. The last line of a block is the mean over the categories that define it.

    Args:
        table: rows that `evaluate_split` wrote, with the column `other_settings` where it is known which were computed
            with other settings than the rest; these are marked and not averaged.
        differences: a sentence about each of them.
    """
    means = mean_metrics(table).assign(category="mean")
    rows = pd.concat([typed(_marked(table)), means], ignore_index=True)
    blocks = []
    for (detector, split), block in rows.groupby(["detector", "split"], sort=False):
        cells = block[list(METRICS)].map(_percent)
        blocks.append(f"{detector}, {split} (in percent)\n" + _aligned(cells, block["category"]))
    spread = seed_spread(table).sort_values(["detector", "split"], kind="stable")
    for (detector, split), block in spread.groupby(["detector", "split"], sort=False):
        cells = pd.DataFrame(
            {name: block[name].map(_percent) + "±" + block[f"{name}_std"].map(_percent) for name in METRICS}
        ).mask(block[[f"{name}_std" for name in METRICS]].isna().to_numpy(), "-")
        over = f"mean ± standard deviation over {block['seeds'].iloc[0]} seeds"
        blocks.append(f"{detector}, {split}, {over} (in percent)\n" + _aligned(cells, block["category"]))
    if differences:
        note = "* Computed with other settings than the newest results, and not averaged. `snakemake` renews them."
        blocks.append("\n".join([note, *(f"  {sentence}" for sentence in differences)]))
    return "\n\n".join(blocks)


def _marked(table: pd.DataFrame) -> pd.DataFrame:
    """The table with a star at categories whose metrics were computed with other settings."""
    if "other_settings" not in table:
        return table
    stars = table["other_settings"].map({True: " *", False: ""})
    return table.assign(category=table["category"].astype("str") + stars)


def _percent(value: float) -> str:
    return "-" if pd.isna(value) else f"{100 * value:.1f}"


def _aligned(cells: pd.DataFrame, categories: pd.Series) -> str:
    """A line per category under two header lines: the metric's family (image, pixel, ...) and its name within it."""
    metrics = pd.MultiIndex.from_tuples([tuple(name.split("_", 1)) for name in METRICS], names=["", "category"])
    text = cells.set_axis(metrics, axis="columns").set_axis(categories.tolist(), axis="index").to_string()
    return "\n".join(line.rstrip() for line in text.splitlines())
