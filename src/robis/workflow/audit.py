"""What the audit of a category reads: images and tiles to learn from, and the images that are inspected."""

from __future__ import annotations

from collections.abc import Collection
from difflib import get_close_matches
from typing import TYPE_CHECKING

from robis.datasets.excluded import excluded_images, without_excluded
from robis.datasets.layouts import list_categories, list_category
from robis.datasets.samples import LEARNED
from robis.errors import ConfigError, DataError, first_few
from robis.io.names import composed
from robis.workflow import results

if TYPE_CHECKING:
    from robis.workflow.project import Project


def audited_splits(project: Project, category: str) -> tuple[list[str], list[str]]:
    """Splits of a category with images: those that models learn from, and those that are inspected."""
    learned = [split for split in LEARNED if project.samples(category, split)]
    return learned, [split for split in project.splits if project.samples(category, split)]


def audit_inputs(project: Project, category: str) -> dict[str, list[str]]:
    """The files that the audit of a category reads, by name; tiles are those of the first run.

    Raises DataError where there are no images to learn from.
    """
    learned, inspected = audited_splits(project, category)
    if not learned:
        raise DataError(
            f"{category}: there are no images to learn from, which an audit looks at. See docs/datasets.md."
        )
    run = project.detectors[0]

    def samples(splits: list[str]) -> list[str]:
        return [
            str(results.place(results.SAMPLES, project.results, category=category, split=split)) for split in splits
        ]

    def tiles(pattern: str) -> list[str]:
        owners = [project.tiles_owner(detector=run, category=category, split=split) for split in learned]
        return [
            str(
                results.place(
                    pattern, project.results, owner=f"{owner}/" if owner else "", category=category, split=split
                )
            )
            for owner, split in zip(owners, learned, strict=True)
        ]

    return {
        "learned": samples(learned),
        "inspected": samples(inspected),
        "tiles": tiles(results.TILES),
        "tables": tiles(results.TILE_TABLE),
    }


def reported_audits(project: Project) -> list[str]:
    """The tables that the report shows, of every category; none unless the config asks for them."""
    if not project.settings.report.audit:
        return []
    return [str(results.place(results.AUDIT, project.results, category=name)) for name in project.categories]


def check_excluded(project: Project) -> None:
    """Raise ConfigError where `dataset.exclude` names what is no image, or leaves a split of a category empty."""
    excluded = excluded_images(project.source)
    if not excluded:
        return
    _check_none_is_emptied(project)
    unknown = set(excluded)
    names: set[str] = set()
    # Categories of the config first: others are listed only for paths that these do not have.
    for category in dict.fromkeys([*project.categories, *list_categories(project.source)]):
        if not unknown:
            return
        of_category = {
            composed(sample.image) for samples in list_category(project.source, category).values() for sample in samples
        }
        unknown -= of_category
        names |= of_category
    if unknown:
        lines = [_unknown(path, names) for path in excluded if path in unknown]
        raise ConfigError(
            f"dataset.exclude: {project.source.exclude} names {len(lines)} of {len(excluded)} paths that are no images "
            f"of the data set:\n{first_few(lines)}\nExpected paths below {project.root}, as in the samples' tables."
        )


def _unknown(path: str, names: Collection[str]) -> str:
    near = get_close_matches(path, names, n=1, cutoff=0.5)
    return f"{path!r}" + (f". Did you mean {near[0]!r}?" if near else "")


def _check_none_is_emptied(project: Project) -> None:
    for category in project.categories:
        for split, samples in list_category(project.source, category).items():
            if samples and not without_excluded(project.source, samples):
                raise ConfigError(
                    f"dataset.exclude: {project.source.exclude} leaves out all {len(samples)} images of "
                    f"{category}/{split}. Keep some of them: delete their rows, which are images to leave out."
                )
