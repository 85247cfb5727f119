"""A checked config together with the dataset it names: what there is to do, and with which parameters."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterable
from dataclasses import astuple, replace
from functools import cached_property, partial
from pathlib import Path

from robis.config.settings import SharedSettings
from robis.config.stage import Derived
from robis.datasets.layouts import LAYOUTS, inspected_splits, list_categories, list_samples
from robis.datasets.samples import LEARNED, Sample, Source, read_files
from robis.detectors.registry import DETECTORS
from robis.errors import ConfigError, one_of
from robis.io.names import expanded, on_disk
from robis.report.inputs import RunFiles
from robis.report.published import read_literature
from robis.submission.upload import make_upload
from robis.workflow import results
from robis.workflow.advice import Advice, advice, advice_texts
from robis.workflow.allowed import allowed_images
from robis.workflow.archives import Archived, archived
from robis.workflow.audit import audited_splits
from robis.workflow.code_digest import code_digest
from robis.workflow.compared import compared_runs
from robis.workflow.detectability import tried
from robis.workflow.evidence import described_regions
from robis.workflow.fingerprints import file_digest, fingerprint
from robis.workflow.home import SCRIPTS
from robis.workflow.image_facts import ImageFacts
from robis.workflow.packs import frozen, pack_split
from robis.workflow.params import Params
from robis.workflow.plan_file import PlanFile
from robis.workflow.planned import PlannedJob
from robis.workflow.provenance import settings_record
from robis.workflow.report_facts import (
    encoder_names,
    random_weights,
    random_weights_notice,
    report_facts,
    run_conditions,
)
from robis.workflow.report_inputs import described, run_files
from robis.workflow.runs import effective, run_of, runs_of
from robis.workflow.stages import owner_of, stage


class Project:
    """What a config asks for on the dataset that it names.

    What it finds out about images is remembered below `folder` if `remembers`.

    Attributes:
        plan: what is known of a data set that is not there; empty for one that is.
        copied_files: digest -> path of each local file that some job reads as a copy.

    Raises ConfigError when the config names a split that the dataset does not have.
    """

    def __init__(
        self, settings: SharedSettings, folder: Path = Path(results.FOLDER), *, remembers: bool = True
    ) -> None:
        self.settings = settings
        self.root = on_disk(expanded(settings.dataset.root))
        dataset = settings.dataset
        kept = dataset.table, dataset.allow_outside_root, dataset.ignore, dataset.exclude
        self.source = Source(dataset.layout, self.root, *kept)
        self.name = settings.dataset.name
        self.results = folder / self.name
        self.variants = runs_of(settings)
        self.detectors = list(self.variants)
        self.splits = list(settings.dataset.splits)
        self.images = ImageFacts(self.source, self.results, self.splits, remembers)
        self._samples: dict[tuple[str, str], list[Sample]] = {}
        self._effective: dict[tuple[str | None, ...], SharedSettings] = {}
        self._params: dict[tuple[str | None, ...], Params] = {}
        self._archived: dict[tuple[str | None, ...], list[Archived]] = {}
        self._fingerprints: dict[tuple[str, str], str] = {}
        self.plan = PlanFile()
        self.copied_files: dict[str, str] = {}
        # The splits of a table are known once it is read; linting has no data.
        if isinstance(LAYOUTS[self.source.layout].splits, tuple):
            self.check_splits()

    def check_splits(self) -> None:
        """Raise ConfigError for a split that the dataset does not have to inspect."""
        known = inspected_splits(self.source)
        for split in self.splits:
            if split not in known:
                raise ConfigError(
                    f"dataset.splits: layout {self.source.layout} has no {split!r} to inspect. {one_of(split, known)}"
                )

    def embeddings(self, *, detector: str, category: str, split: str) -> Path | None:
        """The file whose image embeddings re-score a run; None where nothing is re-scored.

        Raises ConfigError when a file that the config names is not there.
        """
        rescore = self.effective(detector=detector, category=category, split=split).rescore
        if rescore.method != "rscin":
            return None
        if rescore.embeddings == "own" or rescore.embeddings in self.variants:
            run = detector if rescore.embeddings == "own" else rescore.embeddings
            return results.place(results.TILE_MAP_TABLE, self.results, detector=run, category=category, split=split)
        path = expanded(rescore.embeddings.replace("{category}", category).replace("{split}", split))
        if not self.plan.categories and not path.is_file():
            raise ConfigError(
                f"rescore.embeddings: {path} does not exist. Expected a .npy (N, D) or Parquet file for "
                f"{category}/{split}; {{category}} and {{split}} in the path are replaced."
            )
        return path

    def effective(
        self, *, detector: str | None = None, category: str | None = None, split: str | None = None
    ) -> SharedSettings:
        """The settings that hold for a job: overrides applied, `auto` resolved."""
        key = (detector, category, split)
        if key not in self._effective:
            shortest_side = partial(self.shortest_side, category) if category else None
            self._effective[key] = effective(
                self.settings, detector=detector, category=category, split=split, shortest_side=shortest_side
            )
        return self._effective[key]

    def shortest_side(self, category: str) -> int | None:
        """The shortest side in pixels of the images that a category's tiles are cut from; None without images."""
        return self.plan.sides[category] if category in self.plan.sides else self.images.shortest_side(category)

    def kind(self, run: str) -> str:
        """The name of a run's detector; a detector's own name stands for itself."""
        return run_of(self.settings, run).detector.name

    def trains(self, *, detector: str, category: str, split: str) -> bool:
        """Whether a run has a `train` job: zero-shot runs and those with a given model have none."""
        settings = self.effective(detector=detector, category=category, split=split)
        return run_of(self.settings, detector).detector.trains(settings)

    def shares_model(self, detector: str, category: str) -> bool:
        """Whether a run has one model for all categories, this one included."""
        settings = self.effective(detector=detector, category=category)
        kind = run_of(self.settings, detector).detector
        return kind.trains(settings) and kind.covers_all(settings)

    def model_category(self, *, detector: str, category: str, split: str) -> str | None:
        """The category in the path of the model that a run uses, ALL for a shared one; None without training."""
        if not self.trains(detector=detector, category=category, split=split):
            return None
        return results.ALL if self.shares_model(detector, category) else category

    @property
    def category_names(self) -> list[str]:
        """What stands for the category in paths: the categories, and ALL where a run shares one model."""
        shared = any(self.shares_model(run, category) for run in self.detectors for category in self.categories)
        return [*self.categories, *([results.ALL] if shared else [])]

    def covered(self, detector: str, category: str) -> list[str]:
        """The categories that stand behind a category in a path of `models`: itself, or those that share the model."""
        if category in self.categories:
            return [category]
        return [name for name in self.categories if self.shares_model(detector, name)]

    def tile_files(self, pattern: str, *, detector: str, category: str, split: str) -> list[str]:
        """The tiles (or their tables) that a job reads: those of every category that a shared model covers.

        The pattern is one of `results`.
        """
        places = [{"category": name, "split": split} for name in self.covered(detector, category)]
        owners = [self.tiles_owner(detector=detector, **place) for place in places]
        folders = [f"{owner}/" if owner else "" for owner in owners]
        return [
            str(results.place(pattern, self.results, owner=folder, **place))
            for folder, place in zip(folders, places, strict=True)
        ]

    def shards(self, *, detector: str, category: str, split: str) -> int:
        """How many jobs share the inference of a split."""
        settings = self.effective(detector=detector, category=category, split=split)
        return run_of(self.settings, detector).detector.shards(settings)

    def judges(self, *, detector: str, category: str, split: str) -> bool:
        """Whether a run has a `judge` job, which takes a limit from held-out normal images."""
        settings = self.effective(detector=detector, category=category, split=split)
        if settings.verdict.limit != "auto":
            return settings.verdict.limit == "validation"
        fewest = run_of(self.settings, detector).detector.fewest_images(settings)
        return len(self.samples(category, "validation")) >= fewest

    def empties_masks(self, *, detector: str, category: str, split: str) -> bool:
        """Whether the final masks of images judged normal are emptied."""
        job = {"detector": detector, "category": category, "split": split}
        return self.effective(**job).verdict.normal_masks == "empty" and self.judges(**job)

    def has_stage(self, name: str, run: str) -> bool:
        """Whether a run's detector has a stage."""
        return stage(name, self.kind(run)) is not None

    def tiles_owner(self, *, detector: str, category: str, split: str) -> str:
        """The detector whose tiles a run reads; empty for the tiles that all detectors share.

        A detector has tiles of its own where its window, size or filter differ.
        """
        kind = self.kind(detector)
        of_detector = self.params("crop", detector=kind, category=category, split=split)
        return "" if repr(of_detector) == repr(self.params("crop", category=category, split=split)) else kind

    @cached_property
    def categories(self) -> list[str]:
        """Categories to run, sorted as in the config or by name."""
        if self.plan.categories:
            return self.plan.categories
        existing = list_categories(self.source)
        wanted = self.settings.dataset.categories
        if wanted == "all":
            return existing
        for name in wanted:
            if name not in existing:
                raise ConfigError(f"dataset.categories: {name!r} is not in {self.root}. {one_of(name, existing)}")
        return list(wanted)

    @property
    def private_splits(self) -> list[str]:
        """Configured splits whose ground truth the benchmark's server keeps."""
        return [split for split in self.splits if split.startswith("test_private")]

    def check_submission(self) -> None:
        """Raise DataError, before any job starts, when what is configured makes up no submission."""
        places = [(category, split) for category in self.categories for split in self.private_splits]
        make_upload({place: [sample.sample_id for sample in self.samples(*place)] for place in places})

    def samples(self, category: str, split: str) -> list[Sample]:
        """Samples of a split, from file names alone."""
        key = (category, split)
        if key not in self._samples:
            if (known := self.plan.samples_of(category, split)) is not None:
                self._samples[key] = known
            elif split in LEARNED and self.hold_out(category):
                every = self.settings.dataset.hold_out_every
                self._samples[key] = list_samples(self.source, category, split, hold_out=True, hold_out_every=every)
            else:
                self._samples[key] = self.images.samples(category, split)
        return self._samples[key]

    @property
    def runs(self) -> list[list[str]]:
        """Every [detector, category, split] of the config."""
        return [[d, c, s] for d in self.detectors for c in self.categories for s in self.splits]

    @cached_property
    def advice(self) -> list[Advice]:
        """Settings that do not fit the images."""
        return advice(self)

    @cached_property
    def reported(self) -> list[RunFiles]:
        """What the report reads: this config's runs, then those of `report.compare`.

        Raises ConfigError when a folder of `report.compare` has nothing of what is reported.
        """
        runs = []
        for run, category, split in self.runs:
            files = run_files(self.results, run, run, (category, split))
            if split not in self.labeled_splits(category):
                files = replace(files, metrics=None, curves=None)
            model = self.model_category(detector=run, category=category, split=split)
            history = results.place(results.HISTORY, self.results, detector=run, category=model) if model else None
            files = replace(files, history=history)
            if not self.judges(detector=run, category=category, split=split):
                files = replace(files, verdicts=None, held_out_scores=None)
            if not self.settings.report.packs or split != pack_split(self, category):
                files = replace(files, pack=None)
            if not self.settings.report.detectability or split != pack_split(self, category):
                files = replace(files, detectability=None)
            encodes = run_of(self.settings, run).detector.has_encoder
            if not self.settings.report.evidence or not encodes:
                files = replace(files, regions=None, evidence=None)
            if not self.settings.report.clusters or not encodes or split != self.splits[0]:
                files = replace(files, clusters=None)
            runs.append(files)
        return [*runs, *compared_runs(self.settings.report.compare, {run.part: run.samples for run in runs})]

    def labeled_splits(self, category: str) -> list[str]:
        """Configured splits of a category in which some image's label is known."""
        return [
            split for split in self.splits if any(sample.label is not None for sample in self.samples(category, split))
        ]

    def reference_split(self, key: str, *, detector: str, category: str, split: str) -> str | None:
        """The split that `merge.normalize` or `binarize.calibrate` takes its statistics from; None without any."""
        effective = self.effective(detector=detector, category=category, split=split)
        if effective.get(key) == "none":
            return None
        # Thresholds from validation maps mean something only for maps on the same scale.
        keys = (key, "binarize.calibrate") if key == "merge.normalize" else (key,)
        return "validation" if any(effective.get(one) == "validation" for one in keys) else split

    def params(
        self, stage: str, *, detector: str | None = None, category: str | None = None, split: str | None = None
    ) -> Params:
        """One job's parameters: the settings its stage reads, after overrides, and digests of its code and files."""
        key = (stage, detector, category, split)
        if key not in self._params:
            self._params[key] = self.plan.params_of(key) or self._make_params(*key)
        return self._params[key]

    def archived(
        self, stage: str, *, detector: str | None = None, category: str | None = None, split: str | None = None
    ) -> list[Archived]:
        """What one job reads in place of images and local files; nothing unless the config says so."""
        key = (stage, detector, category, split)
        if not self.settings.dataset.archive:
            return []
        if key not in self._archived:
            job = {"detector": detector, "category": category, "split": split}
            known = self.plan.archived_of(key)
            self._archived[key] = archived(self, stage, job) if known is None else [Archived(*one) for one in known]
        return self._archived[key]

    def _make_params(self, name: str, detector: str | None, category: str | None, split: str | None) -> Params:
        detector = detector or owner_of(name) or (self.detectors[0] if name == "audit_images" else None)
        kind = self.kind(detector) if detector else None
        # A shard is a part of inference.
        declared = stage("infer" if name == "infer_shard" else name, kind)
        if declared is None:
            raise ConfigError(f"{detector} has no stage {name}.")
        settings = self.effective(detector=detector, category=category, split=split)
        job = PlannedJob(declared, settings, detector, category, split, self.file_digest)
        values, unwatched = job.options()
        identity: dict[str, object] = {}
        if declared.reads_images:
            values["root"] = str(self.root)
            unwatched.add("root")
            # Not `index` alone: a sample table that stays the same must not hide an image that changed.
            identity["fingerprint"] = _joined(self.fingerprint(*part) for part in self.read_by(name, category, split))
        if declared.encoder:
            values["encoder"], of_encoder = job.encoder()
            identity |= of_encoder
        for derived in (declared.derive(job), self._derived(name, job)):
            values |= derived.values
            unwatched |= derived.unwatched
            identity |= derived.identity
        if kind and name in ("train", "infer", "infer_shard", "describe_regions", "pack"):
            identity["detector"] = kind
        if name == "train" and detector and category == results.ALL:
            # Also for the state of a training that was stopped before a category was added.
            identity["covered"] = self.covered(detector, category)
        explains = DETECTORS[kind].explains if kind and name == "describe_regions" else None
        code = (*job.code(), *([explains.run] if explains else []))
        identity["code"] = code_digest(*code, scripts=(SCRIPTS / f"{name}.py",))
        return Params.of(values, unwatched=unwatched, identity=identity)

    def read_by(self, name: str, category: str | None, split: str | None) -> list[tuple[str, str]]:
        """The categories and splits whose images a job opens."""
        if name == "audit_images" and category:
            learned, inspected = audited_splits(self, category)
            return [(category, split) for split in (*learned, *inspected)]
        return [(category, split)] if category and split else [(c, s) for _, c, s in self.runs]

    def _derived(self, name: str, job: PlannedJob) -> Derived:
        """Parameters that depend on the data set or on other jobs."""
        if name == "index" and job.category:
            learned = job.split in ("train", "validation")
            every = self.settings.dataset.hold_out_every if learned else None
            held_out = {"hold_out": learned and self.hold_out(job.category), "hold_out_every": every}
            # The samples themselves are known by the fingerprint.
            return Derived(held_out | {"exclude": self.source.exclude}, frozenset({"exclude"}))
        if name == "evaluate" and job.run and job.category and job.split:
            record = settings_record(self.settings, run=job.run, category=job.category, split=job.split)
            return Derived({"settings": record}, frozenset({"settings"}))
        if name == "train" and job.run and job.category:
            return allowed_images(self, job.run, job.category)
        if name == "pack" and job.run and job.category:
            return frozen(self, job.run, job.category)
        if name == "describe_regions" and job.run and job.category and job.split:
            return described_regions(self, job.run, job.category, job.split)
        if name == "measure_detectability":
            return tried(job.settings, self.root, self.file_digest)
        if name == "report":
            values = {
                "dataset": self.name,
                "runs": described(self.reported),
                "encoder": encoder_names(self),
                "notice": random_weights_notice(self),
                "warnings": advice_texts(self.advice),
                "facts": report_facts(self.settings, self.variants, read_literature().setup_keys()),
                "conditions": run_conditions(self),
            }
            # Not watched: the words of texts, whose facts count instead, and what invalidates a result's own stage.
            unwatched = frozenset({"notice", "warnings", "facts", "conditions"})
            stated = {"random_weights": random_weights(self), "advice": [problem.facts for problem in self.advice]}
            return Derived(values, unwatched, stated)
        if name == "submit":
            scales = {
                f"{c}/{s}": self.effective(detector=job.run, category=c, split=s).merge.scale
                for c in self.categories
                for s in self.private_splits
            }
            return Derived({"scales": scales})
        return Derived()

    def hold_out(self, category: str) -> bool:
        """Whether training images of the category validate: the config says so, or a job needs images that it lacks."""
        if self.settings.dataset.hold_out_every:
            return True
        if LAYOUTS[self.source.layout].read(self.source, category, "validation"):
            return False
        for detector in self.detectors:
            for split in self.splits:
                effective = self.effective(detector=detector, category=category, split=split)
                keys = (effective.merge.normalize, effective.binarize.calibrate, effective.verdict.limit)
                if "validation" in keys:
                    return True
        return False

    def fingerprint(self, category: str, split: str) -> str:
        """Digest of the content of a split's images and masks, and of their labels."""
        key = (category, split)
        if key not in self._fingerprints:
            self._fingerprints[key] = self._make_fingerprint(category, split)
        return self._fingerprints[key]

    def _make_fingerprint(self, category: str, split: str) -> str:
        samples = self.samples(category, split)
        names = [name for sample in samples for name in read_files(self.root, sample)]
        # Which mask belongs to which image is part of it: a table can say that without another file.
        labels = json.dumps([astuple(sample) for sample in samples])
        memory = results.place(results.FINGERPRINTS, self.results, category=category, split=split)
        return fingerprint(self.root, names, memory, extra=labels)

    def file_digest(self, path: str | Path | None) -> str | None:
        """Content digest of a local file; None where there is none (yet): its stage then says so."""
        file = expanded(path or "")
        if not file.is_file():
            return None
        # Files of one name may lie in one folder per category.
        folder = hashlib.sha256(str(file.resolve().parent).encode()).hexdigest()[:8]
        memory = results.place(results.WEIGHT_DIGESTS, self.results, file=f"{file.name}.{folder}")
        return file_digest(file, memory)


def _joined(digests: Iterable[str]) -> str:
    """One digest for several; a single one stays as it is."""
    several = list(digests)
    return several[0] if len(several) == 1 else hashlib.sha256(" ".join(several).encode()).hexdigest()[:32]
