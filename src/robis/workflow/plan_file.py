"""What a plan knows of the data set, in a file: jobs on machines that do not see the data set take it from there."""

from __future__ import annotations

import ast
import gzip
import hashlib
import json
from collections.abc import Iterator, Mapping
from contextlib import suppress
from dataclasses import astuple, dataclass, field
from itertools import product
from pathlib import Path
from typing import TYPE_CHECKING, Any

from robis.datasets.samples import LEARNED, Sample
from robis.errors import RobisError
from robis.io.atomic import atomic_file
from robis.workflow import results
from robis.workflow.archives import EMBEDDINGS
from robis.workflow.params import Params
from robis.workflow.stages import STAGES, stage

if TYPE_CHECKING:
    from robis.workflow.project import Project

# Stands for Params in a literal.
PARAMS = "<Params>"
# Names of a job, as `Project.params` takes them.
Key = tuple[str | None, ...]


@dataclass(frozen=True)
class PlanFile:
    """What is known of the data set; empty where the data set itself is there.

    Attributes:
        categories: those of the config.
        sides: category -> shortest side of its images in pixels.
        samples: category and split -> the fields of each sample.
        params: a job -> its parameters as a literal of Python, see `_written`.
        archived: a job -> path and source of each archive and copied file that it reads.
    """

    categories: list[str] = field(default_factory=list)
    sides: Mapping[str, int | None] = field(default_factory=dict)
    samples: Mapping[str, list[list[Any]]] = field(default_factory=dict)
    params: Mapping[str, str] = field(default_factory=dict)
    archived: Mapping[str, list[list[str]]] = field(default_factory=dict)

    def samples_of(self, category: str, split: str) -> list[Sample] | None:
        """The samples of a split; None where they are not known."""
        rows = self.samples.get(_text((category, split)))
        return None if rows is None else [Sample(*row) for row in rows]

    def params_of(self, key: Key) -> Params | None:
        """The parameters of a job; None where they are not known."""
        text = self.params.get(_text(key))
        return _read(ast.literal_eval(text)) if text else None

    def archived_of(self, key: Key) -> list[list[str]] | None:
        """Path and source of what a job reads; None where it is not known."""
        return self.archived.get(_text(key))


def plan_file(project: Project) -> Path:
    """Where the file is: every config has its own, since several may run at the same time."""
    config = hashlib.sha256(project.settings.model_dump_json().encode()).hexdigest()[:8]
    return results.place(results.PLAN, project.results, config=config)


def read_plan(project: Project) -> PlanFile:
    """The plan of a project's config; an empty one where there is none."""
    try:
        with gzip.open(plan_file(project), "rt", encoding="utf-8") as stream:
            return PlanFile(**json.load(stream))
    except FileNotFoundError:
        return PlanFile()


def write_plan(project: Project) -> Path:
    """Write what the jobs of a project need to know of its data set."""
    places = list(product(project.categories, dict.fromkeys([*LEARNED, *project.splits])))
    samples = {_text(place): [astuple(sample) for sample in project.samples(*place)] for place in places}
    params: dict[str, str] = {}
    archived: dict[str, list[list[str]]] = {}
    for key in dict.fromkeys(_jobs(project)):
        name, detector, category, split = key
        # A job that cannot run is none of the plan, or says so itself.
        with suppress(RobisError):
            of_job = project.params(str(name), detector=detector, category=category, split=split)
            params[_text(key)] = repr(_written(of_job))
            for kind in (str(name), *([EMBEDDINGS] if name == "score_images" else [])):
                entries = project.archived(kind, detector=detector, category=category, split=split)
                archived[_text((kind, *key[1:]))] = [[entry.path, entry.source] for entry in entries]
    sides = {category: project.shortest_side(category) for category in project.categories}
    content = {
        "categories": project.categories,
        "sides": sides,
        "samples": samples,
        "params": params,
        "archived": archived,
    }
    path = plan_file(project)
    with atomic_file(path, sole_writer=False) as partial:
        # Without a time, equal plans are equal files.
        partial.write_bytes(gzip.compress(json.dumps(content).encode(), mtime=0))
    return path


def _jobs(project: Project) -> Iterator[Key]:
    """The names of all jobs, as rules ask for them; some of them may not exist."""
    splits = dict.fromkeys([*LEARNED, *project.splits])
    for name in (*STAGES, "infer_shard"):
        for run in project.detectors:
            kind = project.kind(run)
            declared = stage("infer" if name == "infer_shard" else name, kind)
            if declared is None:
                continue
            # Tiles are all detectors' or one's own.
            detectors = [None, kind] if name == "crop" else [run] if "run" in declared.per else [None]
            categories = project.category_names if "category" in declared.per else [None]
            yield from product([name], detectors, categories, splits if "split" in declared.per else [None])


def _written(value: Any) -> Any:
    """A value of parameters as a plain literal: Params become a dict with the names that they leave out."""
    if isinstance(value, Params):
        return {PARAMS: (_written(dict(value)), sorted(value.unwatched), sorted(value.identity))}
    if isinstance(value, dict):
        return {name: _written(entry) for name, entry in value.items()}
    return type(value)(map(_written, value)) if isinstance(value, list | tuple) else value


def _read(value: Any) -> Any:
    """The value that `_written` made a literal of."""
    if isinstance(value, dict) and PARAMS in value:
        entries, unwatched, identity = value[PARAMS]
        params = Params(_read(entries))
        params.unwatched, params.identity = frozenset(unwatched), frozenset(identity)
        return params
    if isinstance(value, dict):
        return {name: _read(entry) for name, entry in value.items()}
    return type(value)(map(_read, value)) if isinstance(value, list | tuple) else value


def _text(key: Key) -> str:
    return json.dumps(key)
