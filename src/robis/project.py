"""A checked config together with the dataset it names: what there is to do, and with which parameters."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterable, Mapping, Sequence
from functools import cached_property
from pathlib import Path
from typing import Any

from robis.architectures import own_input_size
from robis.code_digest import code_digest
from robis.datasets.fingerprints import file_digest, fingerprint
from robis.datasets.layouts import LAYOUTS, Sample, list_categories, list_samples
from robis.detectors import DETECTORS
from robis.errors import ConfigError, one_of
from robis.files import check_file
from robis.params import Params
from robis.refinement import check_checkpoint, default_checkpoint
from robis.settings import Settings
from robis.stages import STAGES, readers

SCRIPTS = Path(__file__).parents[2] / "workflow_scripts"


class Project:
    """What a config asks for on the dataset it names.

    Raises ConfigError when the config names a category, split or override that the dataset does not have.
    """

    def __init__(self, settings: Settings, results: Path = Path("results")) -> None:
        self.settings = settings
        self.root = Path(settings.dataset.root).expanduser()
        self.name = settings.dataset.name
        self.results = results / self.name
        self.detectors: list[str] = list(settings.detectors)
        self.splits = list(settings.dataset.splits)
        self._samples: dict[tuple[str, str], list[Sample]] = {}
        self._params: dict[tuple[str | None, ...], Params] = {}
        self._fingerprints: dict[tuple[str, str], str] = {}
        self._check_splits()

    def check(self) -> None:
        """Compare the config with what is on disk, before any job starts.

        Raises:
            DataError: the dataset is not where the config says.
            ConfigError: a category or an override's name that does not exist.
            WeightsError: a weights file that is not there.
        """
        for number, override in enumerate(self.settings.overrides):
            for kind, names in override.where.items():
                for name in [names] if isinstance(names, str) else names:
                    self._check_name(kind, name, f"overrides.{number}.where.{kind}")
            for key in override.set:
                self._check_reach(key, override.where, f"overrides.{number}")
        runs = self.runs if self.settings.overrides else self.runs[:1]
        effective = [self.settings.effective(detector=d, category=c, split=s) for d, c, s in runs]
        for weights in {settings.encoder.weights for settings in effective} - {"auto", "random"}:
            check_file(weights, "encoder.weights")
        for model, checkpoint in {(s.refine.model, s.refine.checkpoint) for s in effective if s.refine.method == "sam"}:
            check_checkpoint(model, checkpoint)

    @cached_property
    def categories(self) -> list[str]:
        """Categories to run, sorted as in the config or by name."""
        found = list_categories(self.settings.dataset.layout, self.root)
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

    def samples(self, category: str, split: str) -> list[Sample]:
        """Samples of a split, from file names alone."""
        key = (category, split)
        if key not in self._samples:
            self._samples[key] = list_samples(
                self.settings.dataset.layout, self.root, category, split, hold_out=self._hold_out(category)
            )
        return self._samples[key]

    @property
    def runs(self) -> list[list[str]]:
        """Every [detector, category, split] of the config."""
        return [[d, c, s] for d in self.detectors for c in self.categories for s in self.splits]

    def labeled_splits(self, category: str) -> list[str]:
        """Configured splits of a category in which some image's label is known."""
        return [
            split for split in self.splits if any(sample.label is not None for sample in self.samples(category, split))
        ]

    def reference_split(self, key: str, *, detector: str, category: str, split: str) -> str:
        """The split that `merge.normalize` or `binarize.calibrate` takes its statistics from."""
        effective = self.settings.effective(detector=detector, category=category, split=split)
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
        stage = STAGES[name]
        chosen = {"detector": detector, "category": category, "split": split}
        effective = self.settings.effective(**{kind: value for kind, value in chosen.items() if value is not None})
        found = {option: effective.get(key) for option, key in stage.option_keys(detector or "")}
        unwatched = {*stage.unwatched, *stage.ignored(found)}
        found["code"] = code_digest(stage.module or _module(name, detector or ""), SCRIPTS / f"{name}.py")
        if stage.reads_images:
            found["root"] = str(self.root)
            unwatched.add("root")
            # Not `index` alone: a sample table that stays the same must not hide an image that changed.
            read = [(category, split)] if category and split else [(c, s) for _, c, s in self.runs]
            found["fingerprint"] = _joined(self._fingerprint(*one) for one in read)
        if name == "index" and category:
            found["hold_out"] = split in ("train", "validation") and self._hold_out(category)
        if name == "crop":
            found["size"] = effective.encoder.input_size or own_input_size(effective.encoder.name)
        if name in ("train", "infer"):
            encoder = effective.encoder.model_dump()
            found["weights"] = self._weights_digest(encoder["weights"])
            found["encoder"] = Params.of(encoder, ["sha256", "weights"] if found["weights"] else ["sha256"])
        if name == "refine" and found["method"] == "sam":
            found["weights"] = self._weights_digest(found["checkpoint"] or default_checkpoint(found["model"]))
            unwatched |= {"checkpoint"} if found["weights"] else set()
        if name == "report":
            found |= {"runs": self.runs, "encoder": effective.encoder.name, "notice": self._notice()}
        if name == "submit":
            found["scales"] = {
                f"{c}/{s}": self.settings.effective(detector=detector or "", category=c, split=s).merge.scale
                for c in self.categories
                for s in self.private_splits
            }
            del found["scale"]
        return Params.of(found, unwatched)

    def _notice(self) -> str | None:
        if self.settings.encoder.weights != "random":
            return None
        return (
            "The encoder's weights are random: masks and metrics show that the pipeline runs, "
            "not what the method can do. Set encoder.weights for real results."
        )

    def _hold_out(self, category: str) -> bool:
        """Whether some configured job needs validation images that the category does not have."""
        if LAYOUTS[self.settings.dataset.layout].read(self.root, category, "validation"):
            return False
        for detector in self.detectors:
            for split in self.splits:
                effective = self.settings.effective(detector=detector, category=category, split=split)
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
        labels = json.dumps([(sample.sample_id, sample.label, sample.defect) for sample in samples])
        memory = self.results / "fingerprints" / category / f"{split}.json"
        return fingerprint(self.root, names, memory, extra=labels)

    def _weights_digest(self, weights: str | None) -> str | None:
        """Content digest of a local weights file; None where there is none (yet): its stage then says so."""
        path = Path(weights or "").expanduser()
        if not path.is_file():
            return None
        return file_digest(path, self.results / "fingerprints" / "weights" / f"{path.name}.json")

    def _check_splits(self) -> None:
        layout = self.settings.dataset.layout
        known = [split for split in LAYOUTS[layout].splits if split.startswith("test")]
        for split in self.splits:
            if split not in known:
                raise ConfigError(f"dataset.splits: layout {layout} has no {split!r}. {one_of(split, known)}")

    def _check_reach(self, key: str, where: Mapping[Any, Any], source: str) -> None:
        """An override must hold for every stage that reads its key: one model, one set of tiles serve several jobs."""
        stages = readers(key, self.detectors[0])
        shared = {"split": {"train"}, "detector": {"index", "crop"}}
        for kind, without in shared.items():
            if kind in where and (hit := without & set(stages)):
                raise ConfigError(
                    f"{source}: {key} is read by {hit.pop()}, which is the same job for every {kind}. "
                    f"Set it in the config itself, or use where: category."
                )

    def check_names(self, **chosen: str) -> None:
        """Raise ConfigError for a category, split or detector that the dataset or robis does not have."""
        for kind, name in chosen.items():
            self._check_name(kind, name, kind)

    def _check_name(self, kind: str, name: str, source: str) -> None:
        """What exists is valid, run or not: a config may be narrowed down without dropping its overrides."""
        dataset = self.settings.dataset
        existing: Sequence[str] = {
            "category": lambda: list_categories(dataset.layout, self.root),
            "split": lambda: LAYOUTS[dataset.layout].splits,
            "detector": lambda: list(DETECTORS),
        }[kind]()
        if name not in existing:
            raise ConfigError(f"{source}: {name!r} matches nothing here. {one_of(name, existing)}")


def _module(stage: str, detector: str) -> str:
    """The detector's own module for `train` or `infer`."""
    return str(getattr(DETECTORS[detector], stage))


def _joined(digests: Iterable[str]) -> str:
    """One digest for several; a single one stays as it is."""
    several = list(digests)
    return several[0] if len(several) == 1 else hashlib.sha256(" ".join(several).encode()).hexdigest()[:32]
