"""`robis init`: a short config for a folder of images, with a reason on every line."""

from __future__ import annotations

import os
import re
from collections import Counter
from collections.abc import Iterator, Mapping
from dataclasses import astuple, dataclass, replace
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import pandas as pd

from robis.config.dataset import SMALLEST_WINDOW
from robis.config.yaml_files import plain, read_config, to_yaml
from robis.datasets.guess import Guess, as_source, guess_layout
from robis.detectors.settings import parse
from robis.detectors.suggestion import Machine
from robis.encoders.steps import tokens_per_side
from robis.errors import ConfigError
from robis.io.atomic import atomic_file
from robis.io.names import folder_problem
from robis.workflow.advice import advice_texts
from robis.workflow.checks import check_plan
from robis.workflow.choosing import CPU, GPU, Chosen, Units, choose, expected_seconds
from robis.workflow.project import Project
from robis.workflow.survey import Survey, look, summary

# RsCIN's largest neighborhood by default.
LEAST_TO_RESCORE = 3


@dataclass(frozen=True)
class Written:
    """What `init` wrote, and what it says of it.

    Attributes:
        config: the config file.
        table: the table of the images, where the layout needs one.
        summary: what the folder holds, in one line.
        warnings: what to know before a run.
    """

    config: Path
    table: Path | None
    summary: str
    warnings: tuple[str, ...]


def init(folder: Path, out: Path | None = None, *, gpu: bool = False, overwrite: bool = False) -> Written:
    """Write a config for a folder of images that plans and runs, and a table of the images where no layout fits.

    Args:
        folder: a data set, one category of it, sorted images, or images alone.
        out: the config to write; None: config/NAME.yaml, or NAME.yaml where there is no folder config.
        gpu: whether the encoder may need a GPU.
        overwrite: whether existing files may be replaced.

    Raises:
        DataError: no such folder, no image in it, or images that cannot be used.
        ConfigError: a file to write exists.
    """
    guess = guess_layout(folder)
    name = _dataset_name(guess)
    config = out or Path("config" if Path("config").is_dir() else ".", f"{name}.yaml")
    table = config.with_suffix(".csv") if guess.table is not None else None
    for file in (config, table):
        if file and file.exists() and not overwrite:
            raise ConfigError(f"{file}: exists already. Give another file with --out, or --overwrite to replace it.")
    machine = GPU if gpu else CPU
    with TemporaryDirectory() as scratch:
        listed = _write_table(guess.table, Path(scratch, "samples.csv"))
        survey = look(guess, as_source(guess, listed))
        settings = choose(survey.categories, machine)
        text = _Config(name, survey, settings, machine, table, config).text()
        # The table is checked before it has its place.
        Path(scratch, "config.yaml").write_text(text, encoding="utf-8")
        values: Any = plain(read_config(Path(scratch, "config.yaml")))
        if listed:
            values["dataset"]["table"] = str(listed)
        project = Project(parse(values, str(config)), remembers=False)
        check_plan(project)
        warnings = (*survey.warnings, *advice_texts(project.advice))
    if table:
        _write_table(guess.table, table)
    with atomic_file(config) as partial:
        partial.write_text(text, encoding="utf-8")
    return Written(config, table, f"{guess.root}: {summary(survey)}", warnings)


def _dataset_name(guess: Guess) -> str:
    """A name for the results: that of the only category, or of the folder."""
    name = guess.categories[0] if guess.categories else guess.root.resolve().name
    name = re.sub(r"[\s./\\{}<>]+", "_", name).strip("_")
    return name if name and not folder_problem(name) else "parts"


def _write_table(table: pd.DataFrame | None, file: Path) -> Path | None:
    if table is None:
        return None
    with atomic_file(file) as partial:
        table.to_csv(partial, index=False)
    return file


# A section, its values, and their reason.
Line = tuple[str, Any, str]


@dataclass(frozen=True)
class _Config:
    """A config to be written as text."""

    name: str
    survey: Survey
    settings: Chosen
    machine: Machine
    table: Path | None
    file: Path

    def text(self) -> str:
        """The file: what it is for, then one line per section with its reason."""
        units = self._units()
        usual = Counter(units.values()).most_common(1)[0][0]
        head = [
            f"# For {summary(self.survey)}.",
            f"# Expected time: {self._time()} on {self.machine.name} (an estimate: docs/choosing.md). "
            f"Written by robis init.",
        ]
        lines = [f"{section}: {_inline(values)} # {reason}" for section, values, reason in self._lines(usual)]
        return "\n".join([*head, *lines, *_overrides(units, usual)]) + "\n"

    def _time(self) -> str:
        minutes = expected_seconds(self.survey.categories, self.settings, self.machine) / 60
        if minutes < 90:
            return f"about {max(1, round(minutes))} min"
        return f"about {minutes / 60:.1f} h"

    def _lines(self, usual: Units) -> Iterator[Line]:
        settings, detector = self.settings, self.settings.detector
        calibrated = "validation" if settings.calibrates else "split"
        depth = f"; 16-bit files hold {self.survey.bit_depth} bits" if self.survey.bit_depth else ""
        yield "dataset", self._dataset(), f"{self.survey.guess.reason}{depth}"
        yield "detectors", [detector.name], detector.suggestion.reason
        encoder = {"name": self.machine.encoder, "input_size": settings.input_size}
        yield "encoder", encoder, _ENCODERS[self.machine.name]
        is_cut = any(units.window != "image" for units in settings.units.values())
        edge = {"edge": "shift"} if is_cut else {}
        yield "tiling", {"window": usual.window, **edge}, self._about_tiles(usual)
        if settings.options:
            yield detector.name, dict(settings.options), detector.suggestion.options_reason
        if self.machine.gpu:
            yield "infer", {"batch_size": 16, "precision": "bf16"}, _ON_GPU
        else:
            yield "infer", {"batch_size": 8}, "tiles at a time; smaller needs less memory"
        yield "merge", {"scale": usual.scale, "normalize": calibrated}, _masks(usual)
        factor = {"std_factor": detector.suggestion.std_factor} if self._raises_threshold() else {}
        yield "binarize", {"erosion_size": usual.erosion, "calibrate": calibrated} | factor, self._about_erosion(usual)
        fewest = min(len(category.test) for category in self.survey.categories)
        if detector.published["rescore.method"] != "none" and fewest < LEAST_TO_RESCORE:
            yield "rescore", {"method": "none"}, f"it takes {LEAST_TO_RESCORE} images of a category"
        yield "refine", {"method": "grabcut"}, _REFINED

    def _dataset(self) -> dict[str, Any]:
        guess = self.survey.guess
        values: dict[str, Any] = {"name": self.name, "layout": guess.layout, "root": guess.root.as_posix()}
        if guess.categories:
            values["categories"] = list(guess.categories)
        if self.table:
            values["table"] = Path(os.path.relpath(self.table.absolute(), guess.root.resolve())).as_posix()
        if self.survey.bit_depth:
            values["bit_depth"] = self.survey.bit_depth
        return values | {"splits": list(self.survey.splits)}

    def _units(self) -> dict[str, Units]:
        """Settings by category, with `auto` for windows that it stands for."""
        largest = self.settings.detector.published["tiling.window"]
        units = {}
        for category in self.survey.categories:
            chosen = self.settings.units[category.name]
            is_auto = isinstance(largest, int) and chosen.window == max(
                SMALLEST_WINDOW, min(largest, category.shortest_side)
            )
            units[category.name] = replace(chosen, window="auto") if is_auto else chosen
        return units

    def _about_tiles(self, units: Units) -> str:
        if units.window == "image":
            return "one tile per image"
        if units.window == "auto":
            return (
                f"windows as wide as the shortest side of a category's images ({self._auto_sides()} px), at most 1024"
            )
        tokens = tokens_per_side(self.machine.encoder, self.settings.input_size) or 1
        return f"px; a token is {int(units.window) / tokens:.2g} px wide. Smaller: finer and slower"

    def _auto_sides(self) -> str:
        """The windows that `auto` stands for, from the smallest to the largest."""
        units = self._units()
        sides = sorted({self.settings.units[name].window for name in units if units[name].window == "auto"}, key=int)
        return str(sides[0]) if len(sides) == 1 else f"{sides[0]} to {sides[-1]}"

    def _about_erosion(self, units: Units) -> str:
        if units.erosion == 1:
            return "no erosion: small defects stay"
        held_out = (
            "; a tenth of train sets the range" if self.settings.calibrates and not self._has_validation() else ""
        )
        return f"removes specks of less than {units.erosion / units.scale:g} px{held_out}"

    def _raises_threshold(self) -> bool:
        return self.settings.calibrates and self.settings.detector.suggestion.std_factor is not None

    def _has_validation(self) -> bool:
        return all(category.has_validation for category in self.survey.categories)


def _overrides(units: Mapping[str, Units], usual: Units) -> list[str]:
    """Other settings of categories whose images differ from the usual ones."""
    groups: dict[Units, list[str]] = {}
    for name, of_category in units.items():
        groups.setdefault(of_category, []).append(name)
    lines = []
    for other, names in groups.items():
        pairs = zip(_UNIT_KEYS, astuple(other), astuple(usual), strict=True)
        if values := {key: value for key, value, before in pairs if value != before}:
            lines.append(f"  - {_inline({'where': {'category': names}, 'set': values})}")
    return ["overrides: # images of other sizes", *lines] if lines else []


_REFINED = "fits masks to the edges in the image, keeps the 3 largest regions (max_boxes); needs no weights"
# The keys of `Units`, in its order.
_UNIT_KEYS = ("tiling.window", "merge.scale", "binarize.erosion_size")
_ON_GPU = "tiles at a time; bf16 is several times as fast as float32, but not on GPUs older than Ampere (2020)"
_ENCODERS = {
    CPU.name: "small; its weights come with robis",
    GPU.name: "DINOv2; downloaded at first use (docs/weights.md)",
}


def _masks(units: Units) -> str:
    if units.scale == 1:
        return "masks have the images' size"
    return f"masks have {units.scale:g} of the images' size, to save memory"


def _inline(value: Any) -> str:
    return to_yaml(value, default_flow_style=True, width=10_000).strip()
