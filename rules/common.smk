"""Helpers of the rules: the checked config, parameters of a job, and the files that targets ask for."""

import sys
from contextlib import contextmanager

from snakemake.exceptions import WorkflowError
from snakemake.logging import logger
from snakemake.settings.types import DeploymentMethod

from robis.errors import RobisError
from robis.workflow import results
from robis.workflow.archives import archives_of, embeddings_of, job_params
from robis.workflow.home import CONTAINER
from robis.workflow.packs import own_files, pack_inputs
from robis.workflow.process import given_settings, prepare_plan, prepare_process
from robis.workflow.project import Project
from robis.workflow.report_inputs import inputs_of
from robis.workflow.stages import owner_of

prepare_process()


@contextmanager
def readable_errors():
    """Show a user's mistake as its message, without a traceback."""
    try:
        yield
    except RobisError as error:
        raise WorkflowError(str(error)) from error


# Linting looks at the rules alone and needs neither data nor weights.
linting = "--lint" in sys.argv
# Otherwise no container is declared: Snakemake would say in every run that it ignores it.
in_containers = DeploymentMethod.APPTAINER in workflow.deployment_settings.deployment_method
try:
    project = Project(given_settings(workflow, config, DEFAULT_CONFIG))
    warnings = [] if linting else prepare_plan(project, workflow)
    categories = [] if linting else project.categories
except RobisError as error:
    raise WorkflowError(str(error)) from error
for sentence in warnings:
    logger.warning(sentence)


wildcard_constraints:
    dataset=re.escape(project.name),
    detector="|".join(map(re.escape, project.detectors)),
    owner="|".join(f"({run.detector.name}/)?" for run in project.variants.values()),
    category="|".join(map(re.escape, [] if linting else project.category_names)) or "[^/]+",
    shard=r"\d+",
    kind="images|masks",
    digest="[0-9a-f]+",
    split="|".join(map(re.escape, [*project.splits, "train", "validation"])),


def settings(stage):
    """The one parameter of a rule: what its stage reads, for the job's own wildcards."""
    return readable_errors()(lambda job: job_params(project, stage, job))


def archives(stage):
    """What a job reads in place of images, masks and local weights; nothing without `dataset.archive`."""
    return readable_errors()(lambda job: archives_of(project, stage, job))


run_of_job = lambda wildcards: {kind: wildcards[kind] for kind in ("detector", "category", "split")}


def tiles_of(pattern, stage=None):
    """The tiles (or their table) that a run, or the owner of a stage, reads: of the job's split or of train."""

    def of_job(wildcards):
        reader = owner_of(stage) if stage else wildcards.detector
        place = {"category": wildcards.category, "split": wildcards.get("split", "train")}
        return project.tile_files(pattern, detector=reader, **place)

    return of_job


def of_stage(stage, pattern):
    """What a detector's own stage writes; nothing for runs of detectors without it."""
    return lambda job: own_files(project, stage, pattern, job)


def where(needed, pattern):
    """A file of a run for which a method of the project says that it is needed; nothing for other runs."""
    return lambda job: expand(pattern, **job) if needed(**run_of_job(job)) else []


def model_of_run(wildcards):
    """The trained model that `infer` needs; none for a run that is not trained."""
    model = project.model_category(**run_of_job(wildcards))
    return expand(results.MODEL, **{**wildcards, "category": model}) if model else []


def shards_of_run(pattern):
    """What the shards of an inference wrote; nothing where one job does it all."""

    def of_job(wildcards):
        shards = project.shards(**run_of_job(wildcards))
        return expand(pattern, shard=range(shards), **wildcards) if shards > 1 else []

    return of_job


def from_its_place(path):
    """An input of the run's own results, or one that lies where the config says, whatever storage holds results."""
    return path if path.startswith(f"{project.results}/") else local(path)


@readable_errors()
def embeddings_of_run(wildcards):
    """Image embeddings that re-score a run; none where nothing is re-scored."""
    return [*map(from_its_place, embeddings_of(project, run_of_job(wildcards)))]


def reference(key, pattern):
    """Maps that a range (merge.normalize; none for none) or thresholds (binarize.calibrate) are taken from."""
    return lambda w: expand(pattern, **{**w, "split": project.reference_split(key, **run_of_job(w)) or []})


def every(pattern, splits=lambda category: project.splits):
    """Files of every detector, category and split; splits: those of a category."""

    def of_target(wildcards):
        common = {"dataset": project.name, "detector": project.detectors}
        parts = [expand(pattern, category=name, split=splits(name), **common) for name in categories]
        return [path for part in parts for path in part]

    return of_target


@readable_errors()
def every_submission(wildcards):
    project.check_submission()
    return expand(results.SUBMISSION, dataset=project.name, detector=project.detectors)


def submitted(pattern):
    """Files of the private splits of every category."""
    return lambda wildcards: expand(pattern, category=categories, split=project.private_splits, **wildcards)


def reported(kind):
    """Files of every run that the report shows, runs of other results folders included."""
    return readable_errors()(lambda wildcards: [*map(from_its_place, inputs_of(project.reported)[kind])])
