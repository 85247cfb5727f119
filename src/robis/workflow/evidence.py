"""What the stage `describe_regions` reads besides masks and maps: the model, and normal images to compare with."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from robis.config.stage import Derived
from robis.workflow import results
from robis.workflow.packs import scorer_settings
from robis.workflow.runs import run_of

if TYPE_CHECKING:
    from robis.workflow.project import Project

TRAIN, VALIDATION = "train", "validation"


def normal_inputs(project: Project, *, detector: str, category: str, split: str) -> dict[str, list[str]]:
    """The normal images that evidence compares with, by the rule's names; no files for a run without evidence."""
    names = {"normal_samples": results.SAMPLES, "normal_tiles": results.TILES, "normal_table": results.TILE_TABLE}
    explains = run_of(project.settings, detector).detector.explains
    held_out = explains is not None and explains.held_out and bool(project.samples(category, VALIDATION))
    learned = VALIDATION if held_out else TRAIN
    if explains is None or not project.samples(category, learned):
        return {name: [] for name in names}
    place = {"category": category, "split": learned}
    owner = project.tiles_owner(detector=detector, **place)
    place["owner"] = f"{owner}/" if owner else ""
    return {name: [str(results.place(pattern, project.results, **place))] for name, pattern in names.items()}


def described_regions(project: Project, run: str, category: str, split: str) -> Derived:
    """The parameters of the stage: they count by the files that `infer` writes with them."""
    job = {"detector": run, "category": category, "split": split}
    settings = project.effective(**job)
    values: dict[str, Any] = {"scorer": scorer_settings(project, **job)}
    if model := run_of(project.settings, run).detector.given_model(settings, category):
        values["model"] = str(model)
    return Derived(values, frozenset(values))


def without_evidence(project: Project) -> list[str]:
    """A sentence where report.evidence is set and some runs have nothing to show."""
    if not project.settings.report.evidence:
        return []
    runs = [run for run in project.detectors if run_of(project.settings, run).detector.explains is None]
    if not runs:
        return []
    names = f"{', '.join(runs[:-1])} and {runs[-1]}" if runs[1:] else runs[0]
    return [
        f"report.evidence shows nothing for {names}: only detectors with a memory bank or a reconstruction can say why "
        f"a region was marked."
    ]
