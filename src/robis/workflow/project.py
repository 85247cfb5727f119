"""A checked config together with the dataset it names: what there is to do, and with which parameters."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterable
from dataclasses import astuple, replace
from functools import cached_property
from pathlib import Path

from robis.config.settings import Settings
from robis.datasets.layouts import LAYOUTS, list_categories, list_samples
from robis.datasets.samples import Sample, Source
from robis.detectors.registry import DETECTORS
from robis.encoders.names import is_clip, own_input_size, weights_file
from robis.errors import ConfigError, one_of
from robis.refinement.methods import default_checkpoint
from robis.report.inputs import RunFiles
from robis.report.published import read_literature
from robis.submission.upload import make_upload
from robis.workflow.checks import check_name, check_plan, check_splits
from robis.workflow.code_digest import code_digest
from robis.workflow.compared import compared_runs
from robis.workflow.fingerprints import file_digest, fingerprint
from robis.workflow.params import Params
from robis.workflow.report_facts import report_facts
from robis.workflow.report_inputs import described, run_files
from robis.workflow.runs import effective, variants
from robis.workflow.stages import stage

SCRIPTS = Path(__file__).parents[3] / "workflow_scripts"


class Project:
    """What a config asks for on the dataset it names.

    Raises ConfigError when the config names a category, split or override that the dataset does not have.
    """

    def __init__(self, settings: Settings, results: Path = Path("results")) -> None:
        self.settings = settings
        self.root = Path(settings.dataset.root).expanduser()
        dataset = settings.dataset
        self.source = Source(dataset.layout, self.root, dataset.table, dataset.allow_outside_root)
        self.name = settings.dataset.name
        self.results = results / self.name
        self.variants = variants(settings)
        self.detectors = list(self.variants)
        self.splits = list(settings.dataset.splits)
        self._samples: dict[tuple[str, str], list[Sample]] = {}
        self._effective: dict[tuple[str | None, ...], Settings] = {}
        self._params: dict[tuple[str | None, ...], Params] = {}
        self._fingerprints: dict[tuple[str, str], str] = {}
        # The splits of a table are known once it is read; linting has no data.
        if isinstance(LAYOUTS[self.source.layout].splits, tuple):
            check_splits(self)

    def check(self) -> None:
        """Compare the config with what is on disk, before any job starts.

        Raises:
            DataError: the dataset is not where the config says.
            ConfigError: a category or an override's name that does not exist.
            WeightsError: a weights file that is not there.
        """
        check_plan(self)

    def embeddings(self, *, detector: str, category: str, split: str) -> Path | None:
        """The file whose image embeddings re-score a run; None where nothing is re-scored.

        Raises ConfigError when a file that the config names is not there.
        """
        rescore = self.effective(detector=detector, category=category, split=split).rescore
        if rescore.method != "rscin":
            return None
        if rescore.embeddings in ("own", "musc"):
            run = "musc" if rescore.embeddings == "musc" else detector
            return self.results / run / "tile_maps" / category / f"{split}.parquet"
        path = Path(rescore.embeddings.replace("{category}", category).replace("{split}", split)).expanduser()
        if not path.is_file():
            raise ConfigError(
                f"rescore.embeddings: {path} does not exist. Expected a .npy (N, D) or Parquet file for "
                f"{category}/{split}; {{category}} and {{split}} in the path are replaced."
            )
        return path

    def effective(
        self, *, detector: str | None = None, category: str | None = None, split: str | None = None
    ) -> Settings:
        """The settings that hold for a job: overrides applied, `auto` resolved."""
        key = (detector, category, split)
        if key not in self._effective:
            self._effective[key] = effective(self.settings, detector=detector, category=category, split=split)
        return self._effective[key]

    def kind(self, run: str) -> str:
        """The detector of a run; a detector's own name stands for itself."""
        return self.variants[run].detector if run in self.variants else run

    def trains(self, *, detector: str, category: str, split: str) -> bool:
        """Whether a run has a `train` job: zero-shot ones and those with a given model have none."""
        if "train" not in DETECTORS[self.kind(detector)].stages:
            return False
        effective = self.effective(detector=detector, category=category, split=split)
        if self.kind(detector) == "winclip":
            return effective.winclip.shots != 0
        return self.given_model(self.kind(detector), effective, category) is None

    def given_model(self, kind: str | None, settings: Settings, category: str | None) -> Path | None:
        """The file of a model that was trained elsewhere."""
        if kind != "inp_former" or settings.inp_former.weights is None:
            return None
        return Path(settings.inp_former.weights.replace("{category}", category or "")).expanduser()

    def shards(self, *, detector: str, category: str, split: str) -> int:
        """How many jobs share the inference of a split: one for WinCLIP, whose inference is short."""
        if self.kind(detector) == "winclip":
            return 1
        return self.effective(detector=detector, category=category, split=split).infer.shards

    def tiles_owner(self, *, detector: str, category: str, split: str) -> str:
        """The detector whose tiles a run reads; empty for the tiles that all detectors share.

        A detector has tiles of its own where its window, size or filter differ.
        """
        kind = self.kind(detector)
        own = self.params("crop", detector=kind, category=category, split=split)
        return "" if repr(own) == repr(self.params("crop", category=category, split=split)) else kind

    @cached_property
    def categories(self) -> list[str]:
        """Categories to run, sorted as in the config or by name."""
        found = list_categories(self.source)
        wanted = self.settings.dataset.categories
        if wanted == "all":
            return found
        for name in wanted:
            if name not in found:
                raise ConfigError(f"dataset.categories: {name!r} is not in {self.root}. {one_of(name, found)}")
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
            self._samples[key] = list_samples(self.source, category, split, hold_out=self._hold_out(category))
        return self._samples[key]

    @property
    def runs(self) -> list[list[str]]:
        """Every [detector, category, split] of the config."""
        return [[d, c, s] for d in self.detectors for c in self.categories for s in self.splits]

    @property
    def sample_tables(self) -> dict[tuple[str, str], Path]:
        """Category and split -> the table that `index` writes, for everything that is reported."""
        parts = dict.fromkeys((c, s) for _, c, s in self.runs)
        return {(c, s): self.results / "samples" / c / f"{s}.parquet" for c, s in parts}

    @cached_property
    def reported(self) -> list[RunFiles]:
        """What the report reads: this config's runs, then those of `report.compare`.

        Raises ConfigError when a folder of `report.compare` has nothing of what is reported.
        """
        tables = self.sample_tables
        runs = []
        for d, c, s in self.runs:
            files = run_files(self.results / d, d, (c, s), tables[c, s])
            if s not in self.labeled_splits(c):
                files = replace(files, metrics=None, curves=None)
            if not self.trains(detector=d, category=c, split=s):
                files = replace(files, history=None)
            runs.append(files)
        return [*runs, *compared_runs(self.settings.report.compare, tables)]

    def labeled_splits(self, category: str) -> list[str]:
        """Configured splits of a category in which some image's label is known."""
        return [
            split for split in self.splits if any(sample.label is not None for sample in self.samples(category, split))
        ]

    def reference_split(self, key: str, *, detector: str, category: str, split: str) -> str:
        """The split that `merge.normalize` or `binarize.calibrate` takes its statistics from."""
        effective = self.effective(detector=detector, category=category, split=split)
        # Thresholds from validation maps mean something only for maps on the same scale.
        keys = (key, "binarize.calibrate") if key == "merge.normalize" else (key,)
        return "validation" if any(effective.get(one) == "validation" for one in keys) else split

    def params(
        self, stage: str, *, detector: str | None = None, category: str | None = None, split: str | None = None
    ) -> Params:
        """One job's parameters: the settings its stage reads, after overrides, and digests of its code and files."""
        key = (stage, detector, category, split)
        if key not in self._params:
            self._params[key] = self._make_params(*key)
        return self._params[key]

    def _make_params(self, name: str, detector: str | None, category: str | None, split: str | None) -> Params:
        kind = self.kind(detector) if detector else None
        # A shard is a part of inference.
        found_stage = stage("infer" if name == "infer_shard" else name, kind)
        if found_stage is None:
            raise ConfigError(f"{detector} has no stage {name}.")
        effective = self.effective(detector=detector, category=category, split=split)
        found = {option: effective.get(key) for option, key in found_stage.option_keys()}
        unwatched = {*found_stage.unwatched, *found_stage.ignored(found), "module"}
        modules = [found_stage.module]
        if found_stage.reads_images:
            found["root"] = str(self.root)
            unwatched.add("root")
            # Not `index` alone: a sample table that stays the same must not hide an image that changed.
            read = [(category, split)] if category and split else [(c, s) for _, c, s in self.runs]
            found["fingerprint"] = _joined(self._fingerprint(*one) for one in read)
        if found_stage.encodes:
            encoder = effective.encoder.model_dump(include={*found_stage.encodes, "sha256"})
            found["weights_digest"] = self._weights_digest(weights_file(encoder["name"], encoder["weights"]))
            found["encoder"] = Params.of(encoder, ["sha256", "weights"] if found["weights_digest"] else ["sha256"])
            if encoder["name"].endswith(".json"):
                found["architecture_digest"] = self._weights_digest(encoder["name"])
            modules += ["robis.encoders.clip"] if is_clip(encoder["name"]) else []
        if name in ("infer", "infer_shard") and (trained := self.given_model(kind, effective, category)):
            found |= {"model": trained, "weights_digest": [found["weights_digest"], self._weights_digest(str(trained))]}
            unwatched.add("model")
        if name == "index" and category:
            found["hold_out"] = split in ("train", "validation") and self._hold_out(category)
        if name == "crop":
            found["size"] = effective.encoder.input_size or own_input_size(effective.encoder.name)
        if name == "embed_prompts":
            found["class_name"] = found["class_name"] or (category or "").replace("_", " ")
        if name == "train" and kind == "winclip":
            found |= {"shots": effective.winclip.shots, "reference_seed": effective.winclip.seeds}
        if name == "refine" and found["method"] == "sam":
            found["weights_digest"] = self._weights_digest(found["checkpoint"] or default_checkpoint(found["model"]))
            unwatched |= {"checkpoint"} if found["weights_digest"] else set()
        if name == "report":
            del found["compare"]
            found |= {"runs": described(self.reported), "encoder": self._encoders(), "notice": self._notice()}
            found["dataset"] = self.name
            # Not watched: any change here that affects a result already invalidates that result's own stage.
            found["facts"] = report_facts(self.settings, self.variants, read_literature().setup_keys())
            unwatched.add("facts")
        if name == "submit":
            found["scales"] = {
                f"{c}/{s}": self.effective(detector=detector, category=c, split=s).merge.scale
                for c in self.categories
                for s in self.private_splits
            }
            del found["scale"]
        found |= {"module": found_stage.module, "code": code_digest(*modules, scripts=(SCRIPTS / f"{name}.py",))}
        return Params.of(found, unwatched)

    def _encoders(self) -> str:
        """The runs' encoders, in words."""
        users: dict[str, list[str]] = {}
        for d, c, s in self.runs:
            users.setdefault(self.effective(detector=d, category=c, split=s).encoder.name, []).append(self.kind(d))
        if len(users) == 1:
            return next(iter(users))
        return ", ".join(f"{name} ({', '.join(dict.fromkeys(kinds))})" for name, kinds in users.items())

    def _notice(self) -> str | None:
        jobs = [(d, self.effective(detector=d, category=c, split=s).encoder.weights) for d, c, s in self.runs]
        affected = list(dict.fromkeys(detector for detector, weights in jobs if weights == "random"))
        if not affected:
            return None
        whose = "" if len(affected) == len(self.detectors) else f" of {', '.join(affected)}"
        return (
            f"The encoder's weights{whose} are random: masks and metrics show that the pipeline runs, "
            "not what the method can do. Set encoder.weights for real results."
        )

    def _hold_out(self, category: str) -> bool:
        """Whether some configured job needs validation images that the category does not have."""
        if LAYOUTS[self.source.layout].read(self.source, category, "validation"):
            return False
        for detector in self.detectors:
            for split in self.splits:
                effective = self.effective(detector=detector, category=category, split=split)
                if "validation" in (effective.merge.normalize, effective.binarize.calibrate):
                    return True
        return False

    def _fingerprint(self, category: str, split: str) -> str:
        key = (category, split)
        if key not in self._fingerprints:
            self._fingerprints[key] = self._make_fingerprint(category, split)
        return self._fingerprints[key]

    def _make_fingerprint(self, category: str, split: str) -> str:
        samples = self.samples(category, split)
        names = [name for sample in samples for name in (sample.image, sample.mask) if name]
        # Which mask belongs to which image is part of it: a table can say that without another file.
        labels = json.dumps([astuple(sample) for sample in samples])
        memory = self.results / "fingerprints" / category / f"{split}.json"
        return fingerprint(self.root, names, memory, extra=labels)

    def _weights_digest(self, weights: str | None) -> str | None:
        """Content digest of a local weights file; None where there is none (yet): its stage then says so."""
        path = Path(weights or "").expanduser()
        if not path.is_file():
            return None
        # Files of one name may lie in one folder per category.
        place = hashlib.sha256(str(path.resolve().parent).encode()).hexdigest()[:8]
        return file_digest(path, self.results / "fingerprints" / "weights" / f"{path.name}.{place}.json")

    def check_names(self, **chosen: str) -> None:
        """Raise ConfigError for a category, split or detector that the dataset or robis does not have."""
        for kind, name in chosen.items():
            check_name(self, kind, name, kind)


def _joined(digests: Iterable[str]) -> str:
    """One digest for several; a single one stays as it is."""
    several = list(digests)
    return several[0] if len(several) == 1 else hashlib.sha256(" ".join(several).encode()).hexdigest()[:32]
