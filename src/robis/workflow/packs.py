"""What packs are made of: the files of a run that their job reads, and the settings that they freeze."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

from robis.config.stage import Derived
from robis.errors import ConfigError
from robis.workflow import results
from robis.workflow.runs import run_of

if TYPE_CHECKING:
    from robis.workflow.project import Project

# What scores an image by itself.
COMPUTE = ("batch_size", "precision")
SIZE = ("window", "scale")
NO_OPTIONS = ("root", "shards", "model", *COMPUTE, *SIZE, "encoder")


def pack_split(project: Project, category: str) -> str:
    """The split whose settings, limit and metrics a pack has: the first with labels, else the first."""
    return next(iter(project.labeled_splits(category)), project.splits[0])


def own_files(project: Project, stage: str, pattern: str, job: Mapping[str, str]) -> list[str]:
    """What a detector's own stage writes for a job, given its wildcards; nothing for runs of detectors without it.

    A job without a split is that of a pack and reads those of `pack_split`.
    """
    if not project.has_stage(stage, job["detector"]):
        return []
    fields = {"split": job.get("split") or pack_split(project, job["category"])}
    return [str(results.place(pattern, project.results, detector=job["detector"], category=job["category"], **fields))]


def pack_inputs(project: Project, run: str, category: str) -> dict[str, list[str]]:
    """The files that the job of a pack reads, by name; the detector's own are named by the rule.

    Raises ConfigError where the run cannot be packed.
    """
    check_pack(project, run, category)
    split = pack_split(project, category)
    job = {"detector": run, "category": category, "split": split}

    def of(pattern: str, **changes: str) -> list[str]:
        return [str(results.place(pattern, project.results, **{**job, **changes}))]

    model = project.model_category(**job)
    scaling = project.reference_split("merge.normalize", **job)
    return {
        "samples": of(results.SAMPLES),
        "maps": of(results.ANOMALY_MAPS),
        "masks": of(results.MASKS),
        "scores": of(results.IMAGE_SCORES),
        "verdicts": of(results.VERDICTS) if project.judges(**job) else [],
        "metrics": of(results.METRICS) if split in project.labeled_splits(category) else [],
        "range_maps": of(results.TILE_MAPS, split=scaling) if scaling else [],
        "range_table": of(results.TILE_MAP_TABLE, split=scaling) if scaling else [],
        "reference_samples": of(results.SAMPLES, split="validation"),
        "reference_maps": of(results.ANOMALY_MAPS, split="validation"),
        "model": of(results.MODEL, category=model) if model else [],
    }


def check_pack(project: Project, run: str, category: str) -> None:
    """Raise ConfigError where a run needs the other images of a split to judge one."""
    if "{name}" in (project.settings.dataset.ignore or ""):
        raise ConfigError(
            "dataset.ignore: found {name} in the path, a mask of ignored pixels for each image; a pack inspects images "
            "that have none. Give each category one mask, as in ignore/{category}.png, for this target."
        )
    job = {"detector": run, "category": category, "split": pack_split(project, category)}
    keys = ("merge.normalize", "binarize.calibrate")
    if wrong := [key for key in keys if project.reference_split(key, **job) not in (None, "validation")]:
        raise ConfigError(
            f"{' and '.join(wrong)}: found 'split' for {run}/{category}; a pack inspects images one at a time and has "
            f"no split. Set {' and '.join(wrong)} to validation."
        )
    if project.effective(**job).rescore.method != "none":
        raise ConfigError(
            f"rescore.method: found 'rscin' for {run}/{category}, which needs the other images of a split. Set "
            f"rescore.method to none; verdicts do not depend on it."
        )


def pack_settings(project: Project, run: str, category: str) -> dict[str, Any]:
    """What a pack freezes, as `robis.packs.format.PackSettings` takes it."""
    split = pack_split(project, category)
    job = {"detector": run, "category": category, "split": split}
    kind = project.kind(run)

    def options(stage: str, run: str = run) -> dict[str, Any]:
        return project.params(stage, detector=run, category=category, split=split).options()

    crop, refine, merge = (_without(options(*of), "root") for of in (("crop", kind), ("refine",), ("merge",)))
    return {
        "crop": crop,
        "scorer": scorer_settings(project, **job),
        "merge": merge,
        "binarize": options("binarize"),
        "refine": refine,
        "top_fraction": project.effective(**job).score_images.top_fraction,
        "empties_masks": project.empties_masks(**job),
    }


def scorer_settings(project: Project, *, detector: str, category: str, split: str) -> dict[str, Any]:
    """What a run scores with: `encoder`, `options`, how it computes, and the `size` of maps."""
    scoring: dict[str, Any] = {}
    for stage in run_of(project.settings, detector).detector.scoring_stages:
        scoring |= project.params(stage, detector=detector, category=category, split=split).options()
    return {
        "encoder": dict(scoring.get("encoder", {})),
        "options": _without(scoring, *NO_OPTIONS),
        **{name: scoring[name] for name in COMPUTE if name in scoring},
        "size": {name: scoring[name] for name in SIZE},
    }


def frozen(project: Project, run: str, category: str) -> Derived:
    """The parameters of a pack's job that are no option of its own: they count by the files that it reads."""
    job = {"detector": run, "category": category, "split": pack_split(project, category)}
    settings = project.effective(**job)
    values: dict[str, Any] = {
        "run": {**job, "run": run, "detector": project.kind(run), "dataset": project.name},
        "settings": pack_settings(project, run, category),
        "root": str(project.root),
    }
    if model := run_of(project.settings, run).detector.given_model(settings, category):
        values["model"] = str(model)
    return Derived(values, frozenset(values))


def _without(options: dict[str, Any], *names: str) -> dict[str, Any]:
    return {name: value for name, value in options.items() if name not in names}
