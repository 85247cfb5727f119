"""A data set checked as a config uses it: whatever the plan of the config refuses is among the problems."""

from __future__ import annotations

from robis.config.settings import SharedSettings
from robis.datasets import problems
from robis.datasets.check import DatasetReport, Needs, check_dataset
from robis.datasets.problems import Problem
from robis.datasets.samples import Source
from robis.errors import RobisError
from robis.workflow.checks import check_plan, needed_images
from robis.workflow.project import Project
from robis.workflow.tile_budget import tile_counter


def check_for_config(settings: SharedSettings, source: Source, *, threads: int = 1) -> DatasetReport:
    """Check the data set of a config, and the plan of that config on it. Writes nothing.

    Problems in categories and splits that the config does not run are listed apart.

    Raises DataError when the categories cannot be listed.
    """
    refusal: RobisError | None = None
    needs = None
    try:
        project = Project(settings)
        needs = Needs(
            frozenset(needed_images(project)),
            frozenset(category for category in project.categories if project.hold_out(category)),
        )
        check_plan(project)
    except RobisError as error:
        refusal = error
    report = check_dataset(source, tile_counter(settings), needs=needs, threads=threads)
    # The plan stops at its first mistake, and most of those are among the problems already.
    if refusal and not any(problem.text in str(refusal) for problem in report.problems):
        report.problems.append(Problem(problems.PLAN, str(refusal)))
    return report
