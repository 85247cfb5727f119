"""Which settings each stage of the workflow depends on, and which stages follow it.

The one source of the jobs' parameters, of `robis explain` and of the table in docs/config.md.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field

from robis.settings import Settings, section_of

THE_DETECTOR = "<detector>"
A_NUMBER = "a number"


@dataclass(frozen=True)
class Stage:
    """What makes a stage's result stale.

    Attributes:
        module: the library module it runs; empty for the detector's own.
        options: dotted keys, or sections, that its code takes by the key's own name.
        also: dotted keys that it depends on in another form: a value derived from them, or another input.
        unwatched: options that never make a result stale: they say where something is, or how often to save.
        only_with: option -> (option that selects, values with which it is read at all).
        sometimes: dotted key -> the condition, in words, under which it counts.
        after: the stages whose outputs it reads.
        reads_images: whether it opens the dataset's files.
    """

    module: str
    options: tuple[str, ...] = ()
    also: tuple[str, ...] = ()
    unwatched: tuple[str, ...] = ()
    only_with: Mapping[str, tuple[str, tuple[str, ...]]] = field(default_factory=dict)
    sometimes: Mapping[str, str] = field(default_factory=dict)
    after: tuple[str, ...] = ()
    reads_images: bool = False

    def option_keys(self, detector: str) -> Iterator[tuple[str, str]]:
        """(option, dotted key) of everything the stage's code takes from the config."""
        for key in self.options:
            key = detector if key == THE_DETECTOR else key
            section, _, name = key.partition(".")
            for option in [name] if name else section_of(section).model_fields:
                yield option, f"{section}.{option}"

    def ignored(self, options: Mapping[str, object]) -> list[str]:
        """Options that are not read with these values of the others."""

        def chosen(selector: str, values: tuple[str, ...]) -> bool:
            value = options[selector]
            return (A_NUMBER if isinstance(value, int) else value) in values

        return [option for option, (selector, values) in self.only_with.items() if not chosen(selector, values)]


_NO_VALIDATION = "where the dataset has no validation images of its own"
_SAM_ONLY = ("method", ("sam",))
_WITH_MEBIN = ("method", ("mebin", "robis"))

STAGES: dict[str, Stage] = {
    "index": Stage(
        "robis.datasets.index",
        options=("dataset.layout",),
        sometimes={"merge.normalize": _NO_VALIDATION, "binarize.calibrate": _NO_VALIDATION},
        reads_images=True,
    ),
    "crop": Stage(
        "robis.tiling",
        options=("tiling",),
        also=("encoder.input_size",),
        only_with={"overlap": ("window", (A_NUMBER,)), "edge": ("window", (A_NUMBER,))},
        sometimes={"encoder.name": "where encoder.input_size is null and the encoders' own sizes differ"},
        after=("index",),
        reads_images=True,
    ),
    "train": Stage(
        "",
        options=(THE_DETECTOR,),
        also=("encoder.name", "encoder.weights", "encoder.input_size", "encoder.blocks"),
        unwatched=("checkpoint_every",),
        after=("crop",),
    ),
    "infer": Stage(
        "",
        options=("inp_former.prototypes", "inp_former.seed", "tiling.window", "merge.scale", "infer"),
        also=("encoder.name", "encoder.weights", "encoder.input_size", "encoder.blocks"),
        only_with={"scale": ("window", (A_NUMBER,))},
        after=("crop", "train"),
    ),
    "merge": Stage(
        "robis.merging",
        options=("merge.scale", "merge.blend"),
        also=("merge.normalize", "binarize.calibrate"),
        after=("index", "infer"),
    ),
    "binarize": Stage(
        "robis.binarization.stage",
        options=(
            *("binarize.method", "binarize.std_factor", "binarize.rate", "binarize.min_interval"),
            *("binarize.erosion", "binarize.percentile", "binarize.percentile_factor"),
        ),
        also=("binarize.calibrate",),
        only_with={
            "std_factor": ("method", ("mean_std", "robis")),
            "rate": _WITH_MEBIN,
            "min_interval": _WITH_MEBIN,
            "erosion": ("method", ("mebin", "mean_std", "robis")),
            "percentile": ("method", ("percentile",)),
            "percentile_factor": ("method", ("percentile",)),
        },
        after=("merge",),
    ),
    "refine": Stage(
        "robis.refinement.stage",
        options=("refine",),
        unwatched=("sha256",),
        only_with={
            "boxes": ("method", ("sam", "grabcut")),
            "multimask": _SAM_ONLY,
            "model": _SAM_ONLY,
            "checkpoint": _SAM_ONLY,
            "precision": _SAM_ONLY,
        },
        after=("index", "binarize"),
        reads_images=True,
    ),
    "score_images": Stage("robis.image_scores", options=("score_images",), after=("index", "merge", "refine")),
    "evaluate": Stage(
        "robis.evaluation.stage",
        options=("evaluate",),
        after=("index", "merge", "refine", "score_images"),
        reads_images=True,
    ),
    "report": Stage(
        "robis.report",
        options=("report",),
        also=("detectors", "dataset.categories", "dataset.splits", "encoder.name", "encoder.weights"),
        after=("index", "merge", "binarize", "refine", "score_images", "evaluate"),
        reads_images=True,
    ),
    "submit": Stage(
        "robis.submission",
        options=("merge.scale",),
        also=("dataset.categories", "dataset.splits"),
        after=("index", "merge", "refine"),
    ),
}


def readers(key: str, detector: str = "inp_former") -> dict[str, str | None]:
    """Stages that a changed key re-runs first -> the condition in words, or None where there is none.

    Args:
        key: dotted, e.g. "binarize.std_factor".
        detector: whose training and inference are meant.
    """
    found: dict[str, str | None] = {}
    for name, stage in STAGES.items():
        if key in stage.also:
            found[name] = None
        elif key in stage.sometimes:
            found[name] = stage.sometimes[key]
        else:
            for option, dotted in stage.option_keys(detector):
                if dotted == key and option not in stage.unwatched:
                    found[name] = _condition(stage, option, key)
    return found


def _condition(stage: Stage, option: str, key: str) -> str | None:
    if option not in stage.only_with:
        return None
    selector, values = stage.only_with[option]
    section = "tiling" if selector == "window" else key.partition(".")[0]
    return f"with {section}.{selector} {' or '.join(values)}"


def followers(first: set[str]) -> set[str]:
    """The given stages and every stage that reads, directly or not, what they write."""
    found = set(first)
    for name, stage in STAGES.items():
        if found & set(stage.after):
            found.add(name)
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
