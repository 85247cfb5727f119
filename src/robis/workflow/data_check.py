"""A data set checked as a config uses it: whatever the plan of the config refuses or warns of is in the report."""

from __future__ import annotations

from collections.abc import Sequence
from contextlib import suppress
from dataclasses import dataclass, field

from robis.config.settings import SharedSettings
from robis.datasets import problems
from robis.datasets.check import DatasetReport, Needs, aligned, check_dataset
from robis.datasets.layouts import inspected_splits, list_categories
from robis.datasets.problems import Problem
from robis.datasets.samples import Source
from robis.errors import RobisError
from robis.workflow.advice import MethodRow, method_rows
from robis.workflow.checks import check_plan, needed_images
from robis.workflow.project import Project
from robis.workflow.tile_budget import tile_counter


@dataclass
class ConfigReport:
    """What a check of a data set with a config finds.

    Attributes:
        dataset: what is in the data set, and what is wrong with it.
        method: what a token, the erosion block and a mask pixel are in image pixels; empty where the plan fails.
        advice: settings that do not fit the images.
    """

    dataset: DatasetReport
    method: Sequence[MethodRow] = field(default_factory=list)
    advice: Sequence[Problem] = field(default_factory=list)


def check_for_config(settings: SharedSettings, source: Source, *, threads: int = 1) -> ConfigReport:
    """Check the data set of a config, and the plan of that config on it. Writes nothing.

    Problems in categories and splits that the config does not run are listed apart.

    Raises DataError when the categories cannot be listed, and ConfigError for a split that the data set does not have.
    """
    project: Project | None = None
    refusal: RobisError | None = None
    needs = None
    try:
        project = Project(settings, remembers=False)
        needs = Needs(
            frozenset(needed_images(project)),
            frozenset(category for category in project.categories if project.hold_out(category)),
            settings.dataset.hold_out_every,
        )
        check_plan(project)
    except RobisError as error:
        refusal = error
    tiles = tile_counter(settings, project.effective if project else None)
    depth = settings.dataset.bit_depth
    report = ConfigReport(check_dataset(source, tiles, needs=needs, bit_depth=depth, threads=threads))
    # The plan stops at its first mistake, and most of those are among the problems already.
    if refusal and not any(problem.text in str(refusal) for problem in report.dataset.problems):
        report.dataset.problems.append(Problem(problems.PLAN, str(refusal)))
    if project and not refusal:
        report.method, report.advice = method_rows(project), project.advice
    return report


def check_without_config(settings: SharedSettings, source: Source, *, threads: int = 1) -> ConfigReport:
    """Check a data set that the config is not for, all categories and splits of it. Writes nothing.

    Raises DataError when the categories cannot be listed.
    """
    # First: it says what is wrong where the layout does not fit.
    list_categories(source)
    alone = settings.model_copy(update={"overrides": []}).with_values(_dataset_values(source))
    project = Project(alone, remembers=False)
    report = ConfigReport(check_dataset(source, tile_counter(settings, project.effective), threads=threads))
    # Problems of a split would stop what follows; they are in the report.
    with suppress(RobisError):
        report.method, report.advice = method_rows(project), project.advice
    return report


def _dataset_values(source: Source) -> dict[str, object]:
    return {
        "dataset.layout": source.layout,
        "dataset.root": str(source.root),
        "dataset.table": source.table,
        "dataset.allow_outside_root": source.allow_outside_root,
        "dataset.ignore": source.ignore,
        "dataset.exclude": source.exclude,
        "dataset.categories": "all",
        "dataset.splits": inspected_splits(source),
    }


_HEADER = (
    *("category", "run", "image", "tile", "input", "token", "erosion", "mask pixel", "padding"),
    *("defects", "< token", "< erosion", "< mask pixel"),
)


def format_method(rows: Sequence[MethodRow]) -> str:
    """Set out what the settings mean in image pixels, one line per category and runs that share the units."""
    return aligned(_HEADER, [_cells(row) for row in rows], left=("category", "run"))


def _cells(row: MethodRow) -> tuple[str, ...]:
    scales = row.scales
    units = (scales.token, scales.erosion, scales.mask_pixel)
    lengths = ["-" if unit is None else f"{unit:.3g}" for unit in units]
    below = [str(row.below(unit)) if row.widths and unit else "-" for unit in units]
    image = f"{scales.image[1]} x {scales.image[0]}"
    padding = f"{100 * scales.padding:.0f} %"
    defects = str(len(row.widths)) if row.widths else "-"
    sides = (image, str(scales.tile), str(scales.input_size))
    return (row.category, ", ".join(row.runs), *sides, *lengths, padding, defects, *below)
