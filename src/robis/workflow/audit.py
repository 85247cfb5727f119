"""What the audit of a category reads: images and tiles to learn from, and the images that are inspected."""

from __future__ import annotations

from typing import TYPE_CHECKING

from robis.datasets.samples import LEARNED
from robis.errors import DataError
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
        raise DataError(f"{category}: there are no images to learn from, which an audit looks at. See docs/datasets.md.")
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
