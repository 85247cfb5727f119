"""Helpers of the rules: the checked config, parameters of a job, and the files that targets ask for."""

import gc
import sys

from snakemake.exceptions import WorkflowError

from robis.detectors import DETECTORS
from robis.errors import RobisError
from robis.project import Project
from robis.settings import parse as parse_settings

# A plan of many categories makes objects that all stay: looking for garbage among them takes 7 % of its time.
gc.set_threshold(200_000, 50, 100)

try:
    project = Project(parse_settings(config))
    # Linting looks at the rules alone and needs neither data nor weights.
    linting = "--lint" in sys.argv
    categories = [] if linting else project.categories
    if not linting:
        project.check()
except RobisError as error:
    raise WorkflowError(str(error)) from error


wildcard_constraints:
    dataset=re.escape(project.name),
    detector="|".join(map(re.escape, project.detectors)),
    category="|".join(map(re.escape, categories)) or "[^/]+",
    split="|".join(map(re.escape, [*project.splits, "train", "validation"])),


def settings(stage):
    """The one parameter of a rule: what its stage reads, for the job's own wildcards."""

    def of_job(wildcards):
        chosen = {kind: wildcards.get(kind) for kind in ("detector", "category", "split")}
        try:
            return project.params(stage, **chosen)
        except RobisError as error:
            raise WorkflowError(str(error)) from error

    return of_job


def model_of_detector(wildcards):
    """The trained model that `infer` needs; none for a detector that is not trained."""
    if DETECTORS[wildcards.detector].train is None:
        return []
    return expand(rules.train.output.model, **wildcards)


def range_maps(wildcards):
    """Raw maps whose range becomes 0..255: the split's own or the validation split's."""
    split = project.reference_split("merge.normalize", **_job(wildcards))
    return expand(rules.infer.output.maps, **{**wildcards, "split": split})


def calibration_maps(wildcards):
    """Anomaly maps that thresholds are taken from: the split's own or the validation split's."""
    split = project.reference_split("binarize.calibrate", **_job(wildcards))
    return expand(rules.merge.output.maps, **{**wildcards, "split": split})


def _job(wildcards):
    return {kind: wildcards[kind] for kind in ("detector", "category", "split")}


def _every(pattern, splits, **also):
    return [
        path
        for category in categories
        for path in expand(
            pattern,
            dataset=project.name,
            detector=project.detectors,
            category=category,
            split=splits(category),
            **also,
        )
    ]


def every_map(wildcards):
    return _every(rules.merge.output.maps, lambda category: project.splits)


def every_mask(wildcards):
    return [
        *_every(rules.binarize.output.masks, lambda category: project.splits),
        *_every(rules.refine.output.masks, lambda category: project.splits),
    ]


def every_metric(wildcards):
    return _every(rules.evaluate.output.metrics, project.labeled_splits)


def report_of_dataset(wildcards):
    return expand(rules.report.output.page, dataset=project.name)


def every_submission(wildcards):
    if not project.private_splits:
        raise WorkflowError(
            "submission: dataset.splits has no private split. Add test_private and test_private_mixed."
        )
    return expand(rules.submit.output.archive, dataset=project.name, detector=project.detectors)


def submitted(pattern):
    """Files of the private splits of every category."""
    return lambda wildcards: expand(pattern, category=categories, split=project.private_splits, **wildcards)


def reported(pattern, splits=None):
    """Files of every detector, category and split that the report shows."""
    return lambda wildcards: _every(pattern, splits or (lambda category: project.splits))
