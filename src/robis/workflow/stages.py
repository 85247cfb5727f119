"""The stages of the workflow, in its order, and the one answer to what a changed key re-runs.

The one source of the jobs' parameters, of `robis explain` and of the table in docs/config.md. Stages that are a
detector's own stand with the detector, in `robis.detectors`.
"""

from __future__ import annotations

from collections.abc import Iterable

from robis.config.settings import Settings
from robis.config.stage import A_NUMBER, Stage
from robis.detectors.registry import DETECTORS

_NO_VALIDATION = "where the dataset has no validation images of its own"
_SAM_ONLY = ("method", ("sam",))
_WITH_MEBIN = ("method", ("mebin", "robis"))

_SHARED: dict[str, Stage] = {
    "index": Stage(
        "robis.datasets.index",
        options=("dataset.layout", "dataset.table", "dataset.allow_outside_root"),
        # The samples themselves are known by the fingerprint.
        unwatched=("table", "allow_outside_root"),
        sometimes={"merge.normalize": _NO_VALIDATION, "binarize.calibrate": _NO_VALIDATION},
        reads_images=True,
    ),
    "crop": Stage(
        "robis.tiles.store",
        options=("tiling",),
        also=("encoder.input_size",),
        only_with={"overlap": ("window", (A_NUMBER,)), "edge": ("window", (A_NUMBER,))},
        sometimes={"encoder.name": "where encoder.input_size is null and the encoders' own sizes differ"},
        after=("index",),
        reads_images=True,
    ),
    "merge": Stage(
        "robis.tiles.merge",
        options=("merge.scale", "merge.blend"),
        also=("merge.normalize", "binarize.calibrate"),
        after=("index", "infer"),
    ),
    "binarize": Stage(
        "robis.binarization.stage",
        options=(
            *("binarize.method", "binarize.std_factor", "binarize.threshold_step", "binarize.min_interval"),
            *("binarize.erosion_size", "binarize.percentile", "binarize.percentile_factor"),
            *("binarize.closing_sizes", "binarize.closing_threshold_factor"),
        ),
        also=("binarize.calibrate",),
        only_with={
            "std_factor": ("method", ("mean_std", "robis")),
            "threshold_step": _WITH_MEBIN,
            "min_interval": _WITH_MEBIN,
            "erosion_size": ("method", ("mebin", "mean_std", "robis")),
            "percentile": ("method", ("percentile",)),
            "percentile_factor": ("method", ("percentile",)),
            "closing_sizes": ("method", ("percentile",)),
            "closing_threshold_factor": ("method", ("percentile",)),
        },
        after=("merge",),
    ),
    "refine": Stage(
        "robis.refinement.stage",
        options=("refine",),
        unwatched=("sha256",),
        only_with={
            "max_boxes": ("method", ("sam", "grabcut")),
            "multimask": _SAM_ONLY,
            "model": _SAM_ONLY,
            "checkpoint": _SAM_ONLY,
            "precision": _SAM_ONLY,
        },
        after=("index", "binarize"),
        reads_images=True,
    ),
    "score_images": Stage(
        "robis.scoring.image_scores",
        options=("score_images", "rescore"),
        only_with={"neighborhood_sizes": ("method", ("rscin",)), "embeddings": ("method", ("rscin",))},
        after=("index", "infer", "merge", "refine"),
    ),
    "evaluate": Stage(
        "robis.evaluation.stage",
        options=("evaluate",),
        after=("index", "merge", "refine", "score_images"),
        reads_images=True,
    ),
    "report": Stage(
        "robis.report.page",
        options=("report",),
        also=("detectors", "dataset.categories", "dataset.splits", "encoder.name", "encoder.weights"),
        after=("index", "train", "merge", "binarize", "refine", "score_images", "evaluate"),
        reads_images=True,
    ),
    "submit": Stage(
        "robis.submission.stage",
        options=("merge.scale",),
        also=("dataset.categories", "dataset.splits"),
        after=("index", "merge", "refine"),
    ),
}


# Every stage's name, in the order of the workflow.
STAGES = (
    *("index", "crop", "embed_prompts", "embed_tiles", "train", "infer", "merge", "binarize", "refine"),
    *("score_images", "evaluate", "report", "submit"),
)


def stage(name: str, detector: str | None = None) -> Stage | None:
    """A stage, the detector's own where it has one; None where this detector has no such stage."""
    if name in _SHARED:
        return _SHARED[name]
    return DETECTORS[detector].stages.get(name) if detector else None


def stages(detector: str) -> dict[str, Stage]:
    """The stages that a detector's maps and masks come from, and those that follow, in their order."""
    return {name: found for name in STAGES if (found := stage(name, detector))}


def readers(key: str, detectors: Iterable[str] = tuple(DETECTORS)) -> dict[str, str | None]:
    """Stages that a changed key re-runs first -> the condition in words, or None where there is none.

    Args:
        key: dotted, e.g. "binarize.std_factor".
        detectors: whose stages are meant.
    """
    detectors = list(detectors)
    found: dict[str, str | None] = {}
    for name in STAGES:
        reading = {d: one.reads(key) for d in detectors if (one := stage(name, d))}
        conditions = {condition for reads, condition in reading.values() if reads}
        if conditions:
            found[name] = _with_detectors(reading, conditions)
    return found


def _with_detectors(reading: dict[str, tuple[bool, str | None]], conditions: set[str | None]) -> str | None:
    """The condition, and which detectors read the key where not all that have the stage do."""
    reading_detectors = [detector for detector, (reads, _) in reading.items() if reads]
    condition = None if None in conditions else " or ".join(sorted(str(one) for one in conditions))
    if len(reading_detectors) == len(reading):
        return condition
    names = f"of {' and '.join(reading_detectors)}"
    return f"{names}, {condition}" if condition else names


def followers(first: set[str], detectors: Iterable[str] = tuple(DETECTORS)) -> set[str]:
    """The given stages and every stage that reads, directly or not, what they write."""
    found = set()
    for detector in detectors:
        own = stages(detector)
        reached = first & set(own)
        for name, one in own.items():
            if reached & set(one.after):
                reached.add(name)
        found |= reached
    return found


def every_key(settings: type[Settings] = Settings) -> list[str]:
    """All dotted keys of the config, `overrides` left out, in its order."""
    keys = []
    for section, info in settings.model_fields.items():
        fields = getattr(info.annotation, "model_fields", None)
        if fields is not None:
            keys += [f"{section}.{name}" for name in fields]
        elif section != "overrides":
            keys.append(section)
    return keys
