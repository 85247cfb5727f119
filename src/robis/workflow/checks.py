"""What can be told to be wrong before any job starts: names, files, options that do not fit the data or each other."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from robis.binarization.promise import images_needed, rank_of, too_few
from robis.config.overrides import as_list
from robis.config.settings import SharedSettings
from robis.datasets.ignored import ignore_path
from robis.datasets.index import nothing_found
from robis.datasets.layouts import list_categories, list_splits
from robis.datasets.samples import LEARNED
from robis.detectors import base
from robis.detectors.registry import DETECTORS
from robis.encoders.names import check_encoder_name, is_clip, is_pretrained_tag
from robis.errors import ConfigError, DataError, first_few, one_of
from robis.io.weights import check_file
from robis.refinement.methods import check_checkpoint
from robis.workflow import results
from robis.workflow.advice import advice_texts
from robis.workflow.allowed import check_allowed
from robis.workflow.audit import check_excluded
from robis.workflow.compared import check_compared
from robis.workflow.evidence import without_evidence
from robis.workflow.project import Project
from robis.workflow.runs import run_of
from robis.workflow.stages import readers, stage, stages


def check_plan(project: Project) -> None:
    """Compare a config with what is on disk.

    Raises:
        DataError: the dataset is not where the config says, or lacks images that are needed.
        ConfigError: a name that does not exist, or options that fit neither the data nor each other.
        WeightsError: a weights file that is not there.
    """
    project.check_splits()
    check_excluded(project)
    check_compared(project.settings.report.compare, project.results)
    # Raises for a folder that has nothing of what is reported.
    _ = project.reported
    for number, override in enumerate(project.settings.overrides):
        for kind, names in override.where.items():
            for name in as_list(names):
                check_name(project, kind, name, f"overrides.{number}.where.{kind}")
        for key in override.set:
            _check_reach(project, key, override.where, f"overrides.{number}")
    # Without overrides all categories and splits have the same options.
    detectors, first = project.detectors, (project.categories[0], project.splits[0])
    for run in project.runs if project.settings.overrides else [[detector, *first] for detector in detectors]:
        detector, category, split = run
        settings = project.effective(detector=detector, category=category, split=split)
        _check_options(project, project.kind(detector), settings)
        _check_files(settings)
    _check_shared_models(project)
    _check_images(project)
    _check_ignored(project)
    check_allowed(project)
    _check_promises(project)
    for detector, category, split in project.runs:
        _check_numbers(project, detector, category, split)


def plan_warnings(project: Project) -> list[str]:
    """Check a plan and say what to warn of: keys without effect, then settings that do not fit the images.

    Raises ConfigError, DataError or WeightsError, see `check_plan`.
    """
    check_plan(project)
    return [*without_effect(project), *without_evidence(project), *advice_texts(project.advice)]


def check_names(project: Project, **names: str) -> None:
    """Raise ConfigError for a category, split or detector that the dataset or robis does not have."""
    for kind, name in names.items():
        check_name(project, kind, name, kind)


def check_name(project: Project, kind: str, name: str, source: str) -> None:
    """Raise ConfigError for a category, split or detector that the dataset or robis does not have.

    What exists is valid, run or not: a config may be narrowed down without dropping its overrides.
    """
    existing: Sequence[str] = {
        "category": lambda: list_categories(project.source),
        "split": lambda: list_splits(project.source),
        "detector": lambda: list(DETECTORS | project.variants),
    }[kind]()
    if name not in existing:
        raise ConfigError(f"{source}: {name!r} matches nothing here. {one_of(name, existing)}")


def without_effect(project: Project) -> list[str]:
    """One sentence for each key that differs from its default and that no stage of any run reads."""
    jobs = [
        (project.kind(d), project.effective(detector=d, category=c, split=s)) for d, c, s in _distinct_runs(project)
    ]
    detectors = {kind for kind, _ in jobs}
    sentences = []
    for key in project.settings.given():
        entries = [
            (option, settings)
            for kind, settings in jobs
            for declared in stages(kind).values()
            for option in (*declared.reads, *declared.stale_options())
            if option.key == key
        ]
        if key.partition(".")[0] in DETECTORS.keys() - detectors:
            sentences.append(f"{key} has no effect: {key.partition('.')[0]} is not among the detectors.")
        elif entries and not any(option.is_read(settings) for option, settings in entries):
            conditions = sorted({str(option.when).removeprefix("with ") for option, _ in entries})
            sentences.append(f"{key} has no effect here: it is read only with {' or '.join(conditions)}.")
    return sentences


def _distinct_runs(project: Project) -> list[list[str]]:
    """Every run, of one category and split where no override tells them apart."""
    if project.settings.overrides:
        return project.runs
    return [[detector, project.categories[0], project.splits[0]] for detector in project.detectors]


def _check_reach(project: Project, key: str, where: Mapping[Any, Any], source: str) -> None:
    """An override must hold for every stage that reads its key: several jobs share one model, one set of tiles."""
    names = as_list(where.get("detector", list(project.variants)))
    kinds = dict.fromkeys(project.kind(name) for name in names)
    read_by = set(readers(key, kinds))
    if not any(_learns(project, name) for name in names):
        read_by.discard("train")
    # It has the settings of the first run without a split, whatever single splits and runs have.
    read_by.discard("audit_images")
    declared = {name: one for name in read_by for kind in kinds if (one := stage(name, kind))}
    if "split" in where and (shared := [name for name, one in declared.items() if _shares(one.per, "split")]):
        raise ConfigError(
            f"{source}: {key} is read by {shared[0]}, which is the same job for every split. "
            f"Set it in the config itself, or use where: category."
        )
    if "category" in where and "train" in declared:
        _check_reach_of_category(project, key, where, source)
    runs = set(as_list(where.get("detector", []))) - set(DETECTORS)
    if runs and (shared := [name for name, one in declared.items() if _shares(one.per, "run") and name != "index"]):
        raise ConfigError(
            f"{source}: {key} is read by {shared[0]}, which is the same job for every run of a detector. "
            f"Use where: {{detector: {project.kind(runs.pop())}}}."
        )


def _check_reach_of_category(project: Project, key: str, where: Mapping[Any, Any], source: str) -> None:
    """An override by category must not change a key of a model that several categories share."""
    names = as_list(where.get("detector", project.detectors))
    for run in project.detectors:
        for category in as_list(where["category"]) if {run, project.kind(run)} & set(names) else []:
            if key in _train_keys(project, run) and project.shares_model(run, category):
                raise ConfigError(
                    f"{source}: {key} is read by train, and one model of {run} covers all categories. Set it in the "
                    f"config itself, or use where: {{detector: {project.kind(run)}}}."
                )


def _train_keys(project: Project, run: str) -> set[str]:
    declared = stage("train", project.kind(run))
    return {option.key for option in (*declared.reads, *declared.stale_options())} if declared else set()


def _check_shared_models(project: Project) -> None:
    """The folder of a model that covers all categories is not that of a category."""
    for run in project.detectors:
        if results.ALL in project.categories and any(project.shares_model(run, name) for name in project.categories):
            raise ConfigError(
                f"dataset.categories: found a category named {results.ALL!r}, but the model of {run} that covers all "
                f"categories lies in models/{results.ALL}. Rename the category, or train one model per category."
            )


def _shares(per: tuple[str, ...], kind: str) -> bool:
    """Whether the jobs of a stage that is done per category serve every run or split."""
    return "category" in per and kind not in per


def _learns(project: Project, name: str) -> bool:
    """Whether a run, or any run of a detector, has a `train` job in some category."""
    runs = [run for run in project.detectors if name in (run, project.kind(run))]
    return any(project.trains(detector=d, category=c, split=s) for d, c, s in project.runs if d in runs)


def _check_options(project: Project, kind: str, settings: SharedSettings) -> None:
    detector = DETECTORS[kind]
    detector.check_options(settings)
    check_encoder_name(settings.encoder.name)
    if settings.tiling.window == "joined" and not detector.joins_tokens:
        joining = [other.name for other in DETECTORS.values() if other.joins_tokens]
        raise ConfigError(
            f"tiling.window: found 'joined'; {kind} takes tiles one by one. Set a number or image, or use "
            f"{' or '.join(joining)}."
        )
    _check_raw_maps(settings)
    _check_promise(kind, settings)
    if settings.score_images.top_fraction == "own" and not detector.rates_images:
        raise ConfigError(
            f"score_images.top_fraction: {kind} gives images no score of its own. Set a share of the map's pixels."
        )
    if settings.rescore.method == "rscin":
        _check_embeddings(project, kind, settings.rescore.embeddings)


def _check_raw_maps(settings: SharedSettings) -> None:
    """Options that need maps from 0 to 255 do not go with maps as the detector gives them."""
    if settings.merge.normalize != "none":
        return
    if settings.binarize.method in ("robis", "mebin"):
        raise ConfigError(
            f"merge.normalize: none does not go with binarize.method: {settings.binarize.method}, whose thresholds are "
            f"gray levels from 0 to 255. Set binarize.method to mean_std, percentile or lines."
        )
    if settings.report.heatmap_range == "split":
        raise ConfigError(
            "merge.normalize: none does not go with report.heatmap_range: split, whose colors span 0 to 255. Set "
            "report.heatmap_range: single."
        )


def _check_promise(kind: str, settings: SharedSettings) -> None:
    """A promised rate needs maps of held-out images that are made as those of inspected images are."""
    if settings.binarize.method != "rate":
        return
    if settings.binarize.calibrate == "split":
        raise ConfigError(
            "binarize.calibrate: found 'split'; binarize.method: rate takes its threshold from held-out normal images. "
            "Set it to auto or validation."
        )
    if DETECTORS[kind].compares_tiles:
        raise ConfigError(
            f"binarize.method: found 'rate'; {kind} compares the images of a split with each other, so that held-out "
            f"images say nothing about those of another split. Use another method or detector."
        )


def _check_promises(project: Project) -> None:
    """Raise ConfigError that lists the categories with too few held-out images for the rate that is promised."""
    lines: dict[str, str] = {}
    every = []
    for detector, category, split in project.runs:
        binarize = project.effective(detector=detector, category=category, split=split).binarize
        if binarize.method != "rate":
            continue
        images = len(project.samples(category, "validation"))
        normal = len(project.samples(category, "train")) + (images if project.hold_out(category) else 0)
        every.append(normal // images_needed(binarize.rate, binarize.confidence))
        if rank_of(images, binarize.rate, binarize.confidence) is None:
            lines[category] = f"{category}: {too_few(images, binarize.rate, binarize.confidence)}"
    if lines:
        lend = f" dataset.hold_out_every: {min(every)} holds out enough training images." if min(every) >= 2 else ""
        raise ConfigError(
            f"binarize.rate: too few held-out normal images:\n{first_few(list(lines.values()))}\nSet a rate that the "
            f"images allow, or add normal images.{lend}"
        )


def _check_embeddings(project: Project, kind: str, embeddings: str) -> None:
    rating = [detector.name for detector in DETECTORS.values() if detector.rates_images]
    if embeddings == "own":
        if kind not in rating:
            raise ConfigError(
                f"rescore.embeddings: {kind} has no image embeddings of its own. Set {' or '.join(rating)}, with that "
                f"detector among the detectors, or the path of a file."
            )
    elif embeddings in project.variants:
        if project.kind(embeddings) not in rating:
            raise ConfigError(f"rescore.embeddings: {embeddings} has no image embeddings. {one_of(embeddings, rating)}")
    elif embeddings in DETECTORS:
        raise ConfigError(
            f"rescore.embeddings: {embeddings} is not among the detectors. Add it, or give the path of a file."
        )
    elif not embeddings.endswith((".npy", ".parquet")):
        raise ConfigError(
            f"rescore.embeddings: found {embeddings!r}; expected own, {', '.join(rating)}, or a .npy or .parquet file."
        )


def _check_files(settings: SharedSettings) -> None:
    name, weights = settings.encoder.name, settings.encoder.weights
    if weights not in ("auto", "random") and not (is_clip(name) and is_pretrained_tag(name, weights)):
        check_file(weights, "encoder.weights")
    if settings.refine.method == "sam":
        check_checkpoint(settings.refine.model, settings.refine.checkpoint)


def needed_images(project: Project) -> list[tuple[str, str]]:
    """Every (category, split) whose images some job reads."""
    needed: dict[tuple[str, str], None] = {}
    for detector, category, split in project.runs:
        job = {"detector": detector, "category": category, "split": split}
        needed[category, split] = None
        if project.trains(**job):
            needed[category, "train"] = None
        for read in _read_splits(project, job):
            needed[category, read] = None
    return list(needed)


def _check_images(project: Project) -> None:
    """Every split that some job reads has images."""
    needed = needed_images(project)
    empty = [(category, split) for category, split in needed if not project.samples(category, split)]
    if empty:
        what = first_few([nothing_found(project.source, category, split) for category, split in empty])
        wants_validation = any(split == "validation" for _, split in empty)
        hint = "\nmerge.normalize: split, binarize.calibrate: split and verdict.limit: none need no validation images."
        raise DataError(
            f"dataset.root: {len(empty)} split{'s' * (len(empty) > 1)} without images:\n{what}"
            f"{hint if wants_validation else ''}"
        )


def _check_ignored(project: Project) -> None:
    """Some image has the mask of ignored pixels that the config names; with one per image, some of each category."""
    pattern = project.settings.dataset.ignore
    if pattern is None:
        return
    needed = needed_images(project)
    having = {place for place in needed if any(sample.ignore for sample in project.samples(*place))}
    without = [category for category in project.categories if not any(place[0] == category for place in having)]
    if not without or (having and "{name}" not in pattern):
        return
    category, split = next(place for place in needed if place[0] == without[0])
    sample = project.samples(category, split)[0]
    # Held-out images lie in train.
    place = "train" if split in LEARNED and project.hold_out(category) else split
    path = project.root / ignore_path(project.source, category=category, split=place, name=sample.sample_id)
    raise ConfigError(
        f"dataset.ignore: found {pattern!r}, which no image of {', '.join(without)} has a file for, such as {path}. "
        f"Correct the path, or set it to null."
    )


def _read_splits(project: Project, job: Mapping[str, str]) -> Iterator[str]:
    """Splits whose maps a run reads: its own, those of its references and of its limit, each once."""
    keys = ("merge.normalize", "binarize.calibrate")
    references = [split for key in keys if (split := project.reference_split(key, **job))]
    limit = ["validation"] if project.judges(**job) else []
    yield from dict.fromkeys((job["split"], *references, *limit))


def _check_numbers(project: Project, detector: str, category: str, split: str) -> None:
    """Options that ask for more images than there are."""
    job = {"detector": detector, "category": category, "split": split}
    settings = project.effective(**job)
    run_of(project.settings, detector).detector.check_plan(PlannedRun(project, settings, category, split, detector))
    project.embeddings(**job)
    images = len(project.samples(category, split))
    if settings.rescore.method == "rscin" and max(settings.rescore.neighborhood_sizes) > images:
        raise ConfigError(
            f"rescore.neighborhood_sizes: found {settings.rescore.neighborhood_sizes}; {category}/{split} has {images} "
            f"images, and no size may be larger. Set smaller sizes, or rescore.method: none."
        )


@dataclass
class PlannedRun(base.Plan):
    """A run of a category and split as its detector sees it."""

    project: Project
    settings: SharedSettings
    category: str
    split: str
    run: str

    def sample_ids(self, split: str) -> list[str]:
        return [sample.sample_id for sample in self.project.samples(self.category, split)]

    def splits(self) -> list[str]:
        job = {"detector": self.run, "category": self.category, "split": self.split}
        return list(_read_splits(self.project, job))
