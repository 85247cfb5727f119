"""Copies of images and local files below results/NAME/inputs/: what jobs read where they do not see the data set."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from itertools import product
from pathlib import Path
from typing import TYPE_CHECKING, Any

from robis.datasets.samples import LEARNED, sample_files
from robis.errors import DataError
from robis.io.atomic import atomic_file
from robis.io.names import expanded
from robis.io.weights import sha256
from robis.refinement.methods import default_checkpoint
from robis.workflow import results
from robis.workflow.packs import pack_split
from robis.workflow.params import ARCHIVED, Params, names_of_job

if TYPE_CHECKING:
    from robis.workflow.project import Project

IMAGES, MASKS = "images", "masks"
# In the place of a stage: the file of `rescore.embeddings`, which the rule names.
EMBEDDINGS = "embeddings"
# What stages read of the data set.
KINDS = {
    **dict.fromkeys(("crop", "audit_images", "refine", "pack", "measure_detectability"), (IMAGES,)),
    "evaluate": (MASKS,),
    "report": (IMAGES, MASKS),
}
# Stages that state settings and open no file that these name.
STATING = ("evaluate", "report")
# Parameters that name a file, wherever they are in a job's options.
FILES = ("weights", "model", "crops", "image", "mask", "ignored")


@dataclass(frozen=True)
class Archived:
    """An archive of images or masks, or the copy of a file.

    Attributes:
        path: below the folder of all results.
        source: the path of the file in the job's options; empty for an archive.
    """

    path: str
    source: str = ""


def archived(project: Project, name: str, job: Mapping[str, str | None]) -> list[Archived]:
    """What a job reads instead of files of the data set and local weights; `name` is a stage, or EMBEDDINGS."""
    if name == EMBEDDINGS:
        path = project.embeddings(**{kind: str(value) for kind, value in job.items()})
        return [copied(project, str(path))] if path and not path.is_relative_to(project.results) else []
    options = {} if name in STATING else project.params(name, **job).options()
    if name == "measure_detectability":
        # It loads the pack, which names weights by their paths.
        options = {**options, ARCHIVED: project.params("pack", **job).options()}
    files = dict.fromkeys(path for path in _local_files(options) if expanded(path).is_file())
    return [*_of_images(project, name, job), *(copied(project, path) for path in files)]


def embeddings_of(project: Project, job: Mapping[str, str]) -> list[str]:
    """The file whose image embeddings re-score a run, or its copy; none where nothing is re-scored."""
    if copies := project.archived(EMBEDDINGS, **job):
        return [copies[0].path]
    path = project.embeddings(**job)
    return [str(path)] if path else []


def copied(project: Project, path: str) -> Archived:
    """The copy of a local file. Its path holds the digest of the content: what reads it is stale when that changes."""
    digest = str(project.file_digest(path))
    project.copied_files[digest] = path
    copy = results.place(results.COPIED_FILE, project.results, digest=digest, file=Path(path).name)
    return Archived(str(copy), path)


def archive_params(project: Project, kind: str, category: str, split: str) -> Params:
    """The parameters of the job that archives the images or masks of a split."""
    samples = project.samples(category, split)
    files = [sample_files(project.root, sample) for sample in samples]
    names = [name for of_sample in files for name in (of_sample[:1] if kind == IMAGES else of_sample[1:])]
    identity = {"fingerprint": project.fingerprint(category, split)}
    return Params.of({"root": str(project.root), "names": names}, unwatched=("root", "names"), identity=identity)


def copy_params(project: Project, digest: str) -> Params:
    """The parameters of the job that copies a file."""
    return Params.of({"source": project.copied_files[digest], "digest": digest}, unwatched=("source",))


def copy_file(copy: Path, source: str, digest: str) -> None:
    """Copy a file. Raises DataError when its content is not that of the plan any more."""
    with atomic_file(copy) as partial:
        partial.write_bytes(expanded(source).read_bytes())
        if sha256(partial)[: len(digest)] != digest:
            raise DataError(f"{source}: the file changed while robis ran. Run it again.")


def archives_of(project: Project, name: str, wildcards: Any) -> list[str]:
    """Paths of what a job reads in place of images, masks and local files; nothing without `dataset.archive`."""
    return [entry.path for entry in project.archived(name, **names_of_job(wildcards))]


def job_params(project: Project, name: str, wildcards: Any) -> Params:
    """A job's parameters, with the sources of its archives in the order of `archives_of` if it has any."""
    job = names_of_job(wildcards)
    params = project.params(name, **job)
    entries = project.archived(name, **job)
    if not entries:
        return params
    sources = Params({**params, ARCHIVED: [entry.source for entry in entries]})
    sources.unwatched, sources.identity = params.unwatched | {ARCHIVED}, params.identity
    return sources


def _of_images(project: Project, name: str, job: Mapping[str, str | None]) -> Iterator[Archived]:
    if name == "refine" and project.effective(**job).refine.method == "none":
        return
    for category, split in dict.fromkeys(_places(project, name, job)):
        for kind in KINDS.get(name, ()):
            if kind == IMAGES or any(sample.mask for sample in project.samples(category, split)):
                place = {"kind": kind, "category": category, "split": split}
                yield Archived(str(results.place(results.ARCHIVE, project.results, **place)))


def _places(project: Project, name: str, job: Mapping[str, str | None]) -> list[tuple[str, str]]:
    """The categories and splits whose images a job opens."""
    category = job.get("category")
    if name == "pack" and category:
        return [(category, pack_split(project, category))]
    if name == "measure_detectability" and category:
        return [(category, "validation")]
    places = project.read_by(name, category, job.get("split"))
    shown = project.settings.report
    if name == "report" and (shown.evidence or shown.audit):
        # Beside the images that are inspected it shows those that they are compared with.
        learned = product(project.categories, LEARNED)
        places += [place for place in learned if project.samples(*place)]
    return places


def _local_files(options: object) -> Iterator[str]:
    """Values of a job's options that may be paths of files."""
    if isinstance(options, Mapping):
        if options.get("method") == "sam":
            yield options["checkpoint"] or default_checkpoint(options["model"])
        for name, value in options.items():
            if name == "name" and str(value).endswith(".json"):
                yield value
            elif name in FILES:
                yield from ([value] if isinstance(value, str) else value if isinstance(value, list) else [])
            else:
                yield from _local_files(value)
    elif isinstance(options, list | tuple):
        for entry in options:
            yield from _local_files(entry)
