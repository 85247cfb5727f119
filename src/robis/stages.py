"""Which settings and which code each stage of the workflow depends on: the one source of its parameters."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path
from typing import Any

from robis.architectures import own_input_size
from robis.code_digest import code_digest
from robis.datasets.fingerprints import file_digest, fingerprint
from robis.datasets.layouts import LAYOUTS, Sample, list_categories, list_samples
from robis.detectors import DETECTORS
from robis.errors import ConfigError, one_of
from robis.settings import Settings

SCRIPTS = Path(__file__).parents[2] / "workflow_scripts"


@dataclass(frozen=True)
class Stage:
    """What makes a stage's result stale.

    Attributes:
        module: the library module it runs; the detector's own where empty.
        options: name of the option in the stage's code -> dotted config key.
        section: a config section of which every key is an option, by its own name.
        places: options that say where something is or how it is watched, not what it is; changing
            them re-runs nothing.
        reads_images: whether it opens the dataset's files.
    """

    module: str
    options: Mapping[str, str] = field(default_factory=dict)
    section: str | None = None
    places: tuple[str, ...] = ()
    reads_images: bool = False


STAGES: dict[str, Stage] = {
    "index": Stage("robis.datasets.index", {"layout": "dataset.layout"}, reads_images=True),
    "crop": Stage("robis.tiling", section="tiling", reads_images=True),
    "train": Stage("", section="<detector>", places=("checkpoint_every",)),
    "infer": Stage(
        "",
        {
            "prototypes": "inp_former.prototypes",
            "seed": "inp_former.seed",
            "window": "tiling.window",
            "scale": "merge.scale",
        },
        section="infer",
    ),
    "merge": Stage("robis.merging", {"scale": "merge.scale", "blend": "merge.blend"}),
    "binarize": Stage(
        "robis.binarization.stage",
        {
            name: f"binarize.{name}"
            for name in (
                *("method", "std_factor", "rate", "min_interval"),
                *("erosion", "percentile", "percentile_factor"),
            )
        },
    ),
    "refine": Stage("robis.refinement.stage", section="refine", places=("checkpoint",), reads_images=True),
    "score_images": Stage("robis.image_scores", section="score_images"),
    "evaluate": Stage("robis.evaluation.stage", section="evaluate", reads_images=True),
    "report": Stage("robis.report", section="report", reads_images=True),
    "submit": Stage("robis.submission", {"scale": "merge.scale"}),
}

# Entries of a stage's parameters that identify what it reads; the stage's code does not take them.
IDENTITY = ("code", "fingerprint", "weights")


class Params(dict[str, Any]):
    """A stage's parameters as Snakemake records them: `repr` leaves out the places.

    Snakemake compares parameters by their `repr`, so what is left out never makes a result stale.
    """

    places: tuple[str, ...] = ()

    def __repr__(self) -> str:
        return repr({name: self[name] for name in sorted(self) if name not in self.places})

    def digest(self) -> str:
        """Digest of the parameters, places left out."""
        return hashlib.sha256(repr(self).encode()).hexdigest()


class Project:
    """A checked config together with the dataset it names: what there is to do, and with which parameters.

    Raises ConfigError when the config names a category, split or override that the dataset does not have.
    """

    def __init__(self, settings: Settings, results: Path = Path("results")) -> None:
        self.settings = settings
        self.root = Path(settings.dataset.root)
        self.name = settings.dataset.name
        self.results = results / self.name
        self.detectors: list[str] = list(settings.detectors)
        self.splits = list(settings.dataset.splits)
        self._samples: dict[tuple[str, str], list[Sample]] = {}
        self._params: dict[tuple[str | None, ...], Params] = {}
        self._fingerprints: dict[tuple[str, str], str] = {}
        self._check_splits()
        self._check_overrides()

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
        section, name = key.split(".")
        effective = self.settings.effective(detector=detector, category=category, split=split)
        return split if getattr(getattr(effective, section), name) == "split" else "validation"

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
        section = detector if stage.section == "<detector>" else stage.section
        found = Params(getattr(effective, section).model_dump() if section else {})
        for option, key in stage.options.items():
            part, _, entry = key.partition(".")
            found[option] = getattr(getattr(effective, part), entry)
        places = list(stage.places)
        module = stage.module or DETECTORS[detector or ""].module
        found["code"] = code_digest(module, SCRIPTS / f"{name}.py")
        if stage.reads_images:
            found["root"] = str(self.root)
            places.append("root")
            # Not `index` alone: a sample table that stays the same must not hide an image that changed.
            read = [(category, split)] if category and split else [(c, s) for _, c, s in self.runs]
            found["fingerprint"] = _joined(self._fingerprint(*one) for one in read)
        if name == "index" and category:
            found["hold_out"] = self._hold_out(category)
        if name == "crop":
            found["size"] = effective.encoder.input_size or own_input_size(effective.encoder.name)
        if name in ("train", "infer"):
            encoder = effective.encoder.model_dump()
            found["weights"] = self._weights_digest(encoder["weights"])
            found["encoder"] = _Places(encoder, ("weights", "sha256") if found["weights"] else ("sha256",))
        if name == "report":
            found |= {"runs": self.runs, "encoder": effective.encoder.name, "notice": self._notice()}
        if name == "refine" and found["method"] == "sam":
            found["weights"] = self._weights_digest(found["checkpoint"])
        found.places = tuple(places)
        return found

    def _notice(self) -> str | None:
        if self.settings.encoder.weights != "random":
            return None
        return (
            "The encoder's weights are random: masks and metrics show that the pipeline runs, "
            "not what the method can do. Set encoder.weights for real results."
        )

    def _hold_out(self, category: str) -> bool:
        """Whether any configured job of a category needs validation images."""
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
        path = Path(weights or "")
        if not path.is_file():
            return None
        return file_digest(path, self.results / "fingerprints" / "weights" / f"{path.name}.json")

    def _check_splits(self) -> None:
        layout = self.settings.dataset.layout
        known = [split for split in LAYOUTS[layout].splits if split.startswith("test")]
        for split in self.splits:
            if split not in known:
                raise ConfigError(f"dataset.splits: layout {layout} has no {split!r}. {one_of(split, known)}")

    def _check_overrides(self) -> None:
        valid: dict[str, list[str]] = {"category": self.categories, "split": self.splits, "detector": self.detectors}
        for number, override in enumerate(self.settings.overrides):
            for kind, names in override.where.items():
                for name in [names] if isinstance(names, str) else names:
                    if name not in valid[kind] and not self._exists_but_is_not_run(kind, name):
                        where = f"overrides.{number}.where.{kind}"
                        raise ConfigError(f"{where}: {name!r} matches nothing here. {one_of(name, valid[kind])}")

    def _exists_but_is_not_run(self, kind: str, name: str) -> bool:
        """A config may narrow down categories and splits without dropping the overrides of the others."""
        dataset = self.settings.dataset
        existing: Sequence[str] = {
            "category": lambda: list_categories(dataset.layout, self.root),
            "split": lambda: LAYOUTS[dataset.layout].splits,
            "detector": lambda: list(DETECTORS),
        }[kind]()
        return name in existing


def _joined(digests: Iterable[str]) -> str:
    """One digest for several; a single one stays as it is."""
    several = list(digests)
    return several[0] if len(several) == 1 else hashlib.sha256(" ".join(several).encode()).hexdigest()[:32]


class _Places(Params):
    def __init__(self, values: Mapping[str, Any], places: tuple[str, ...]) -> None:
        super().__init__(values)
        self.places = places
