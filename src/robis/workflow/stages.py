"""The stages of the workflow, in its order, and which of them a changed key re-runs.

The one source of the jobs' parameters, of `robis explain` and of the table in docs/config.md. Stages that belong to
one detector are declared by the detector.
"""

from __future__ import annotations

from collections.abc import Iterable

from robis.config.detectability import Detectability
from robis.config.sections import Evaluate, Report
from robis.config.stage import NUMBER, Derived, Job, Option, Stage, When, options, section
from robis.detectors.registry import DETECTORS
from robis.encoders.names import own_input_size
from robis.refinement.methods import default_checkpoint
from robis.workflow.scales import ERODES, WINDOWS

_NO_VALIDATION = "where the dataset has no validation images of its own"
_TO_RATE = "to or from rate with binarize.calibrate auto"
_MEBIN = When("binarize.method", ("mebin", "robis"))
_MEAN_STD = When("binarize.method", ("mean_std", "robis"))
_RATE = When("binarize.method", ("rate",))
_PERCENTILE = When("binarize.method", ("percentile",))
_LINES = When("binarize.method", ("lines",))
_CUT = When("tiling.window", (NUMBER, "image"))
_SAM = When("refine.method", ("sam",))
_BOXES = When("refine.method", ("sam", "grabcut"))
_EMPTIES = When("verdict.normal_masks", ("empty",))
_RSCIN = When("rescore.method", ("rscin",))
# By reading archives.
_ARCHIVE = Option("dataset.archive", passed=False)
# Options of the report that count by reading what their stages write.
BY_FILES = ("packs", "detectability", "audit", "evidence", "clusters")


def _tile_size(job: Job) -> Derived:
    encoder = job.settings.encoder
    if not _CUT.holds(job.settings.tiling.window):
        return Derived({"size": None})
    return Derived({"size": encoder.input_size or own_input_size(encoder.name)})


def _input_size(job: Job) -> Derived:
    encoder = job.settings.encoder
    return Derived({"size": encoder.input_size or own_input_size(encoder.name)})


def _sam_weights(job: Job) -> Derived:
    """The checkpoint counts by its content where it is there, else by its path."""
    refine = job.settings.refine
    if refine.method != "sam":
        return Derived()
    digest = job.file_digest(refine.checkpoint or default_checkpoint(refine.model))
    return Derived(unwatched=frozenset({"checkpoint"} if digest else ()), identity={"weights_digest": digest})


SHARED: dict[str, Stage] = {
    "index": Stage(
        "robis.datasets.index:index_split",
        reads=(
            # The samples themselves are known by the fingerprint.
            *options("dataset.layout", "dataset.table", "dataset.allow_outside_root", "dataset.ignore", stale=False),
            *options("merge.normalize", "binarize.calibrate", "verdict.limit", when=_NO_VALIDATION, passed=False),
            Option("binarize.method", when=f"{_TO_RATE}, {_NO_VALIDATION}", passed=False),
            *options("dataset.hold_out_every", "dataset.exclude", passed=False),
        ),
        reads_images=True,
        per=("category", "split"),
    ),
    "crop": Stage(
        "robis.tiles.store:crop_split",
        reads=(
            _ARCHIVE,
            Option("dataset.bit_depth"),
            Option("tiling.window"),
            *options("tiling.overlap", "tiling.edge", when=WINDOWS),
            Option("tiling.resample", when=_CUT),
            Option("encoder.input_size", when=_CUT, passed=False),
            Option(
                "encoder.name",
                when="where encoder.input_size is null and the encoders' own sizes differ",
                passed=False,
            ),
        ),
        after=("index",),
        reads_images=True,
        per=("category", "split"),
        derive=_tile_size,
    ),
    # It takes the encoder and tiles of the first run; see `audit_inputs`.
    "audit_images": Stage(
        "robis.audit.stage:audit_category",
        reads=(
            _ARCHIVE,
            Option("dataset.bit_depth"),
            *options("infer.batch_size", "infer.precision"),
            Option("dataset.splits", passed=False),
        ),
        encoder=("name", "weights", "input_size", "blocks"),
        after=("index", "crop"),
        reads_images=True,
        per=("category",),
        derive=_input_size,
    ),
    "merge": Stage(
        "robis.tiles.merge:merge_split",
        reads=(
            *options("merge.scale", "merge.blend"),
            *options("merge.normalize", "binarize.calibrate", passed=False),
            Option("binarize.method", when=_TO_RATE, passed=False),
        ),
        after=("index", "infer"),
    ),
    "binarize": Stage(
        "robis.binarization.stage:binarize_split",
        reads=(
            Option("binarize.method"),
            Option("binarize.calibrate", passed=False),
            Option("binarize.std_factor", when=_MEAN_STD),
            *options("binarize.threshold_step", "binarize.min_interval", when=_MEBIN),
            Option("binarize.erosion_size", when=ERODES),
            *options("binarize.rate", "binarize.confidence", when=_RATE),
            *options(
                "binarize.percentile",
                "binarize.percentile_factor",
                when=When("binarize.method", ("percentile", "lines")),
            ),
            *options("binarize.line_reach", "binarize.line_angles", "binarize.line_threshold_factor", when=_LINES),
            *options("binarize.closing_sizes", "binarize.closing_threshold_factor", when=_PERCENTILE),
        ),
        after=("index", "merge"),
    ),
    "judge": Stage(
        "robis.scoring.judge:judge_split",
        reads=(
            *options("score_images.top_fraction", "merge.scale", "merge.blend", "verdict.allowed_false_alarms"),
            *options("merge.normalize", "binarize.calibrate", passed=False),
            Option("binarize.method", when=_TO_RATE, passed=False),
        ),
        after=("index", "infer", "merge"),
    ),
    "refine": Stage(
        "robis.refinement.stage:refine_split",
        reads=(
            # By reading what `judge` writes.
            Option("verdict.normal_masks", passed=False),
            *options("verdict.limit", "verdict.allowed_false_alarms", when=_EMPTIES, passed=False),
            Option("score_images.top_fraction", when=_EMPTIES, passed=False),
            Option("refine.method"),
            *options("dataset.archive", when=_BOXES, passed=False),
            Option("dataset.bit_depth", when=_BOXES),
            Option("refine.max_boxes", when=_BOXES),
            *options("refine.multimask", "refine.model", "refine.checkpoint", "refine.precision", when=_SAM),
            Option("refine.sha256", when=_SAM, stale=False),
        ),
        after=("index", "binarize"),
        reads_images=True,
        derive=_sam_weights,
    ),
    # It takes what `infer` computes with: a change of that changes the masks.
    "describe_regions": Stage(
        "robis.regions.stage:describe_regions",
        after=("index", "crop", "train", "merge", "refine"),
    ),
    "cluster_regions": Stage(
        "robis.clusters.stage:cluster_regions",
        reads=(
            Option("report.cluster_count", when=When("report.clusters", ("true",))),
            Option("dataset.splits", when="where a split is added or left out", passed=False),
        ),
        after=("index", "describe_regions"),
        per=("run", "category"),
    ),
    "score_images": Stage(
        "robis.scoring.image_scores:score_images",
        reads=(
            Option("score_images.top_fraction"),
            Option("rescore.method"),
            *options("rescore.neighborhood_sizes", "rescore.embeddings", when=_RSCIN),
        ),
        after=("index", "infer", "merge", "refine"),
    ),
    "evaluate": Stage(
        "robis.evaluation.stage:evaluate_split",
        reads=(_ARCHIVE, *section("evaluate", Evaluate)),
        after=("index", "merge", "refine", "score_images"),
        reads_images=True,
    ),
    # The settings that it freezes count by the files that their stages write.
    "pack": Stage(
        "robis.packs.write:write_pack",
        reads=(Option("packs.checked_images"),),
        after=("index", "train", "infer", "embed_references", "merge", "judge", "refine", "score_images", "evaluate"),
        per=("run", "category"),
    ),
    "measure_detectability": Stage(
        "robis.detectability.stage:measure_detectability",
        reads=(
            *section("detectability", Detectability, but=("crops",)),
            # By the content of its files.
            Option("detectability.crops", passed=False),
        ),
        after=("index", "pack"),
        per=("run", "category"),
    ),
    "report": Stage(
        "robis.report.page:build_report",
        reads=(
            _ARCHIVE,
            *section("report", Report, but=(*BY_FILES, "compare", "cluster_count")),
            Option("dataset.bit_depth"),
            *options("report.compare", *(f"report.{name}" for name in BY_FILES), passed=False),
            *options("detectors", "dataset.categories", "dataset.splits", passed=False),
            Option("verdict.limit", passed=False),
            *options("encoder.name", "encoder.weights", passed=False),
        ),
        after=("index", "train", "merge", "binarize", "judge", "refine", "score_images", "evaluate"),
        reads_images=True,
        per=(),
    ),
    "submit": Stage(
        "robis.submission.stage:pack",
        reads=options("merge.scale", "dataset.categories", "dataset.splits", passed=False),
        after=("index", "merge", "refine"),
        per=("run",),
    ),
}


def _names() -> tuple[str, ...]:
    """Every stage's name in the order of the workflow; a detector's own stages come before `train`."""
    declared_names = dict.fromkeys(name for detector in DETECTORS.values() for name in detector.stages)
    before = [name for name in declared_names if name not in ("train", "infer")]
    return ("index", "crop", *before, "train", "infer", *list(SHARED)[2:])


STAGES = _names()


def stage(name: str, detector: str | None = None) -> Stage | None:
    """A stage, the detector's own where it has one; None where this detector has no such stage."""
    if name in SHARED:
        return SHARED[name]
    return DETECTORS[detector].stages.get(name) if detector else None


def stages(detector: str) -> dict[str, Stage]:
    """The stages that a detector's maps and masks come from, and those that follow, in their order."""
    return {name: declared for name in STAGES if (declared := stage(name, detector))}


def owner_of(name: str) -> str | None:
    """The only detector that has a stage; None for a stage of several detectors."""
    owners = [detector.name for detector in DETECTORS.values() if name in detector.stages]
    return owners[0] if len(owners) == 1 else None


def readers(key: str, detectors: Iterable[str] = tuple(DETECTORS)) -> dict[str, str | None]:
    """Stages that a changed key re-runs first -> the condition in words, or None where there is none.

    Args:
        key: dotted, e.g. "binarize.std_factor".
        detectors: whose stages are meant.
    """
    detectors = list(detectors)
    conditions: dict[str, str | None] = {}
    for name in STAGES:
        declared = {detector: one for detector in detectors if (one := stage(name, detector))}
        reading = {detector: read for detector, one in declared.items() if (read := _read(one, key))}
        if reading:
            conditions[name] = _with_detectors(reading, len(declared))
    return conditions


def _read(declared: Stage, key: str) -> list[Option]:
    """The entries of a stage by which a changed key makes its result stale."""
    return [option for option in declared.stale_options() if option.key == key]


def _with_detectors(reading: dict[str, list[Option]], declared: int) -> str | None:
    """The condition, and which detectors read the key where not all that have the stage do."""
    whens = [option.when for read in reading.values() for option in read]
    condition = None if None in whens else " or ".join(sorted({str(when) for when in whens}))
    if len(reading) == declared:
        return condition
    names = f"of {' and '.join(reading)}"
    return f"{names}, {condition}" if condition else names


def followers(first: set[str], detectors: Iterable[str] = tuple(DETECTORS)) -> set[str]:
    """The given stages and every stage that reads, directly or not, what they write."""
    stale = set()
    for detector in detectors:
        of_detector = stages(detector)
        reached = first & set(of_detector)
        for name, declared in of_detector.items():
            if reached & set(declared.after):
                reached.add(name)
        stale |= reached
    return stale
