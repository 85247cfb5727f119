"""What can be told to be wrong before any job starts: names, files, options that do not fit the data or each other."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

from robis.config.settings import Settings
from robis.datasets.index import nothing_found
from robis.datasets.layouts import inspected_splits, list_categories, list_splits
from robis.detectors.registry import DETECTORS
from robis.encoders.names import CLIP_ARCHITECTURES, is_clip, is_pretrained_tag, own_input_size
from robis.errors import ConfigError, DataError, first_few, one_of
from robis.io.weights import check_file
from robis.refinement.methods import check_checkpoint
from robis.workflow.compared import check_compared, compared_runs
from robis.workflow.stages import readers

if TYPE_CHECKING:
    from robis.workflow.project import Project

# Jobs that several detectors, or several runs of one detector, share.
OF_ALL_RUNS = {"crop", "embed_prompts", "embed_tiles"}
OF_ALL_SPLITS = {"train", "embed_prompts"}


def check_plan(project: Project) -> None:
    """Compare a config with what is on disk.

    Raises:
        DataError: the dataset is not where the config says, or lacks images that are needed.
        ConfigError: a name that does not exist, or options that fit neither the data nor each other.
        WeightsError: a weights file that is not there.
    """
    check_splits(project)
    check_compared(project.settings.report.compare, project.results)
    compared_runs(project.settings.report.compare, project.sample_tables)
    for number, override in enumerate(project.settings.overrides):
        for kind, names in override.where.items():
            for name in _as_list(names):
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
    _check_images(project)
    for detector, category, split in project.runs:
        _check_numbers(project, detector, category, split)


def check_splits(project: Project) -> None:
    """Raise ConfigError for a split that the dataset does not have to inspect."""
    known = inspected_splits(project.source)
    for split in project.splits:
        if split not in known:
            raise ConfigError(
                f"dataset.splits: layout {project.source.layout} has no {split!r} to inspect. {one_of(split, known)}"
            )


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


def _check_reach(project: Project, key: str, where: Mapping[Any, Any], source: str) -> None:
    """An override must hold for every stage that reads its key: several jobs share one model, one set of tiles."""
    named = _as_list(where.get("detector", list(project.variants)))
    stages = set(readers(key, dict.fromkeys(project.kind(name) for name in named)))
    if not any(_learns(project, name) for name in named):
        stages.discard("train")
    if "split" in where and (hit := OF_ALL_SPLITS & stages):
        raise ConfigError(
            f"{source}: {key} is read by {hit.pop()}, which is the same job for every split. "
            f"Set it in the config itself, or use where: category."
        )
    runs = set(_as_list(where.get("detector", []))) - set(DETECTORS)
    if runs and (hit := OF_ALL_RUNS & stages):
        raise ConfigError(
            f"{source}: {key} is read by {hit.pop()}, which is the same job for every run of a detector. "
            f"Use where: {{detector: {project.kind(runs.pop())}}}."
        )


def _learns(project: Project, name: str) -> bool:
    """Whether a run, or any run of a detector, has a `train` job in some category."""
    runs = [run for run in project.detectors if name in (run, project.kind(run))]
    return any(project.trains(detector=d, category=c, split=s) for d, c, s in project.runs if d in runs)


def _check_options(project: Project, kind: str, settings: Settings) -> None:
    name = settings.encoder.name
    if kind == "winclip" and not is_clip(name):
        raise ConfigError(
            f"encoder.name: found {name!r}; winclip needs a model with language. {one_of(name, CLIP_ARCHITECTURES)}"
        )
    if kind == "inp_former" and is_clip(name):
        raise ConfigError(f"encoder.name: found {name!r}; inp_former needs a ViT of timm, such as dinov2_reg_vitb14.")
    own_input_size(name)  # raises for a name that no model has
    rates_images = DETECTORS[kind].rates_images
    if settings.score_images.top_fraction == "own" and not rates_images:
        raise ConfigError(
            f"score_images.top_fraction: {kind} gives images no score of its own. Set a share of the map's pixels."
        )
    embeddings = settings.rescore.embeddings
    if settings.rescore.method != "rscin":
        return
    if embeddings == "own" and not rates_images:
        raise ConfigError(
            f"rescore.embeddings: {kind} has no image embeddings of its own. "
            f"Set musc, with musc among the detectors, or the path of a file."
        )
    if embeddings == "musc" and "musc" not in project.variants:
        raise ConfigError("rescore.embeddings: musc is not among the detectors. Add it, or give a file's path.")
    if embeddings not in ("own", "musc") and not embeddings.endswith((".npy", ".parquet")):
        raise ConfigError(f"rescore.embeddings: found {embeddings!r}; expected own, musc, or a .npy or .parquet file.")


def _check_files(settings: Settings) -> None:
    name, weights = settings.encoder.name, settings.encoder.weights
    if weights not in ("auto", "random") and not (is_clip(name) and is_pretrained_tag(name, weights)):
        check_file(weights, "encoder.weights")
    if settings.refine.method == "sam":
        check_checkpoint(settings.refine.model, settings.refine.checkpoint)


def _check_images(project: Project) -> None:
    """Every split that some job reads has images."""
    needed: dict[tuple[str, str], None] = {}
    for detector, category, split in project.runs:
        job = {"detector": detector, "category": category, "split": split}
        needed[category, split] = None
        if project.trains(**job):
            needed[category, "train"] = None
        if "validation" in [project.reference_split(key, **job) for key in ("merge.normalize", "binarize.calibrate")]:
            needed[category, "validation"] = None
    empty = [(category, split) for category, split in needed if not project.samples(category, split)]
    if empty:
        what = first_few([nothing_found(project.source, category, split) for category, split in empty])
        asked = any(split == "validation" for _, split in empty)
        hint = "\nmerge.normalize: split and binarize.calibrate: split need no validation images." if asked else ""
        raise DataError(f"dataset.root: {len(empty)} split{'s' * (len(empty) > 1)} without images:\n{what}{hint}")


def _check_numbers(project: Project, detector: str, category: str, split: str) -> None:
    """Options that ask for more images than there are."""
    job = {"detector": detector, "category": category, "split": split}
    kind, settings = project.kind(detector), project.effective(**job)
    images = len(project.samples(category, split))
    if trained := project.given_model(kind, settings, category):
        check_file(trained, "inp_former.weights")
    project.embeddings(**job)
    if settings.rescore.method == "rscin" and max(settings.rescore.neighborhood_sizes) > images:
        raise ConfigError(
            f"rescore.neighborhood_sizes: found {settings.rescore.neighborhood_sizes}; {category}/{split} has {images} "
            f"images, and no size may be larger. Set smaller sizes, or rescore.method: none."
        )
    if kind == "musc":
        for one in dict.fromkeys([split, project.reference_split("merge.normalize", **job)]):
            found = len(project.samples(category, one))
            if found // settings.musc.subsets < 2:
                raise ConfigError(
                    f"musc.subsets: found {settings.musc.subsets} for the {found} images of {category}/{one}; mutual "
                    f"scoring needs at least 2 images in each part."
                    + (" Or set merge.normalize and binarize.calibrate to split." if one == "validation" else "")
                )
    if kind == "winclip" and settings.winclip.shots:
        known = [sample.sample_id for sample in project.samples(category, "train")]
        shots, listed = settings.winclip.shots, settings.winclip.references
        if isinstance(shots, int) and shots > len(listed or known):
            raise ConfigError(
                f"winclip.shots: found {shots}; {category} has {len(listed or known)} "
                f"{'listed references' if listed else 'training images'}. Set fewer."
            )
        for name in listed:
            if name not in known:
                near = one_of(name, known[:20])
                raise ConfigError(f"winclip.references: {category} has no training image {name!r}. {near}")


def _as_list(value: str | list[str]) -> list[str]:
    return [value] if isinstance(value, str) else value
