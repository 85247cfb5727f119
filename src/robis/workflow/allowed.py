"""Regions that count as normal: which images a training reads besides its tiles, and what is wrong with their table."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from difflib import get_close_matches
from pathlib import Path
from typing import TYPE_CHECKING, Any

from robis.config.stage import Derived
from robis.datasets.allowed import Allowed, read_allowed
from robis.datasets.excluded import without_excluded
from robis.datasets.layouts import list_categories, list_category
from robis.datasets.samples import Sample
from robis.errors import ConfigError, first_few, one_of
from robis.io.names import composed, expanded
from robis.io.weights import sha256
from robis.workflow import results
from robis.workflow.remembered import remembered
from robis.workflow.runs import run_of

if TYPE_CHECKING:
    from robis.workflow.project import Project

# In the place of a split, in the path of what is remembered of the files.
REMEMBERED = "allowed"


@dataclass(frozen=True)
class _Region:
    """A row of the table with the sample that it names."""

    row: Allowed
    split: str
    sample: Sample


def allowed_images(project: Project, run: str, category: str) -> Derived:
    """The parameter `allowed` of a run's training: a dict for each image of its category, see `AllowedImage`.

    Its files count by their content, and only those of the category.
    """
    regions = _regions(project, run, category)
    if not regions:
        return Derived()
    values = [_arguments(project, run, category, region) for region in regions]
    memory = results.place(results.FINGERPRINTS, project.results, category=category, split=f"{REMEMBERED}.{run}")
    names = [str(path) for image in values for path in _files(image)]
    digests = remembered(project.root, names, memory, sha256)
    identity = [[*(digests[str(path)] for path in _files(image)), str(image["cutting"])] for image in values]
    return Derived({"allowed": values}, frozenset({"allowed"}), {"allowed_digests": identity})


def check_allowed(project: Project) -> None:
    """Raise ConfigError where a table names what is no category or image of the data set, or a mask is not there."""
    for run in project.detectors:
        for category in project.categories:
            if table := _table(project, run, category):
                _check_table(project, str(_key(project, run)), table, category)


def _check_table(project: Project, key: str, table: str, category: str) -> None:
    rows = read_allowed(expanded(table), key)
    categories, images = list_categories(project.source), _samples(project, category)
    problems = []
    for row in rows:
        if row.category not in categories:
            problems.append(f"{row.place}: category {row.category!r}. {one_of(row.category, categories)}")
        elif row.category == category and not row.mask.is_file():
            problems.append(f"{row.place}: there is no file {row.mask}")
        elif row.category == category and row.image not in images:
            near = get_close_matches(row.image, images, n=1, cutoff=0.5)
            hint = f" Did you mean {near[0]!r}?" if near else ""
            problems.append(f"{row.place}: {row.image!r} is no image of {category} that takes part.{hint}")
    if problems:
        raise ConfigError(f"{key}: {len(problems)} of {len(rows)} rows cannot be used:\n{first_few(problems)}")


def _regions(project: Project, run: str, category: str) -> Sequence[_Region]:
    table = _table(project, run, category)
    if table is None:
        return []
    samples = _samples(project, category)
    rows = read_allowed(expanded(table), str(_key(project, run)))
    return [_Region(row, *samples[row.image]) for row in rows if row.category == category and row.image in samples]


def _key(project: Project, run: str) -> str | None:
    return run_of(project.settings, run).detector.allow_key


def _table(project: Project, run: str, category: str) -> str | None:
    key = _key(project, run)
    if key is None:
        return None
    table: str | None = project.effective(detector=run, category=category).get(key)
    return table


def _samples(project: Project, category: str) -> dict[str, tuple[str, Sample]]:
    """Composed path of each image of a category, of all its splits, that takes part -> its split and sample."""
    return {
        composed(sample.image): (split, sample)
        for split, samples in list_category(project.source, category).items()
        for sample in without_excluded(project.source, samples)
    }


def _arguments(project: Project, run: str, category: str, region: _Region) -> dict[str, Any]:
    kind = project.kind(run)
    cutting = project.params("crop", detector=kind, category=category, split=region.split).options()
    root, ignored = project.root, region.sample.ignore
    return {
        "image": str(root / region.sample.image),
        "mask": str(region.row.mask.absolute()),
        "ignored": str(root / ignored) if ignored else None,
        "cutting": {name: value for name, value in cutting.items() if name != "root"},
    }


def _files(image: dict[str, Any]) -> list[Path]:
    paths = (image[name] for name in ("image", "mask", "ignored"))
    return [Path(path).absolute() for path in paths if path]
