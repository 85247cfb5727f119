"""Helpers of the rules: the checked config, parameters of a job, and the files that targets ask for."""

import gc
import sys

from snakemake.exceptions import WorkflowError
from snakemake.logging import logger

from robis.detectors.settings import load
from robis.errors import RobisError
from robis.workflow import results
from robis.workflow.checks import check_plan, without_effect
from robis.workflow.project import Project
from robis.workflow.report_inputs import inputs_of
from robis.workflow.stages import owner_of

# A plan of many categories makes objects that all stay: looking for garbage among them takes 7 % of its time.
gc.set_threshold(200_000, 50, 100)

# Snakemake's own reading of these files converts values silently and takes the second of two equal keys.
config_files = workflow.overwrite_configfiles or [DEFAULT_CONFIG]

try:
    project = Project(load(*config_files, changes=workflow.config_settings.config))
    # Linting looks at the rules alone and needs neither data nor weights.
    linting = "--lint" in sys.argv
    categories = [] if linting else project.categories
    if not linting:
        check_plan(project)
        for sentence in without_effect(project):
            logger.warning(sentence)
except RobisError as error:
    raise WorkflowError(str(error)) from error


wildcard_constraints:
    dataset=re.escape(project.name),
    detector="|".join(map(re.escape, project.detectors)),
    owner="|".join(f"({run.detector.name}/)?" for run in project.variants.values()),
    category="|".join(map(re.escape, categories)) or "[^/]+",
    shard=r"\d+",
    split="|".join(map(re.escape, [*project.splits, "train", "validation"])),


def settings(stage):
    """The one parameter of a rule: what its stage reads, for the job's own wildcards."""

    def of_job(wildcards):
        names = {kind: wildcards.get(kind) for kind in ("detector", "category", "split")}
        # Tiles of one detector lie in its folder; other jobs that serve all of its runs belong to the stage's owner.
        names["detector"] = names["detector"] or wildcards.get("owner", "").rstrip("/") or None
        try:
            return project.params(stage, **names)
        except RobisError as error:
            raise WorkflowError(str(error)) from error

    return of_job


def tiles_of(part, stage=None):
    """The tiles (or their table) that a run, or the owner of a stage, reads: of the job's split or of train."""

    def of_job(wildcards):
        category, split = wildcards.category, wildcards.get("split", "train")
        reader = owner_of(stage) if stage else wildcards.detector
        owner = project.tiles_owner(detector=reader, category=category, split=split)
        return expand(
            rules.crop.output[part],
            dataset=wildcards.dataset,
            owner=f"{owner}/" if owner else "",
            category=category,
            split=split,
        )

    return of_job


def of_stage(stage, pattern):
    """What a detector's own stage writes; nothing for runs of detectors without it."""

    def of_job(wildcards):
        return expand(pattern, **wildcards) if project.has_stage(stage, wildcards.detector) else []

    return of_job


def model_of_run(wildcards):
    """The trained model that `infer` needs; none for a run that is not trained."""
    return expand(rules.train.output.model, **wildcards) if project.trains(**_job(wildcards)) else []


def shards_of_run(part):
    """What the shards of an inference wrote; nothing where one job does it all."""

    def of_job(wildcards):
        shards = project.shards(**_job(wildcards))
        return expand(rules.infer_shard.output[part], shard=range(shards), **wildcards) if shards > 1 else []

    return of_job


def embeddings_of_run(wildcards):
    """Image embeddings that re-score a run; none where nothing is re-scored."""
    try:
        path = project.embeddings(**_job(wildcards))
    except RobisError as error:
        raise WorkflowError(str(error)) from error
    return [str(path)] if path else []


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
    try:
        project.check_submission()
    except RobisError as error:
        raise WorkflowError(str(error)) from error
    return expand(rules.submit.output.archive, dataset=project.name, detector=project.detectors)


def submitted(pattern):
    """Files of the private splits of every category."""
    return lambda wildcards: expand(pattern, category=categories, split=project.private_splits, **wildcards)


def reported(kind):
    """Files of every run that the report shows, runs of other results folders included."""

    def of_job(wildcards):
        try:
            return inputs_of(project.reported)[kind]
        except RobisError as error:
            raise WorkflowError(str(error)) from error

    return of_job
