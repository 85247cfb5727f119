"""The whole config: its sections put together, read and checked, and how overrides change it per category."""

from __future__ import annotations

import copy
from collections.abc import Collection, Mapping, Sequence
from pathlib import Path
from typing import Annotated, Any, Literal

import yaml
from pydantic import BaseModel, Field, ValidationError, field_validator, model_validator

from robis.config.messages import explain_mistakes
from robis.config.sections import (
    Binarize,
    Dataset,
    Encoder,
    Evaluate,
    Infer,
    InpFormer,
    Merge,
    Musc,
    Refine,
    Report,
    Rescore,
    ScoreImages,
    Section,
    Superadd,
    Tiling,
    Winclip,
    without_doubles,
)
from robis.errors import ConfigError, one_of


class Override(Section):
    """Other settings for some categories, splits or detectors."""

    where: dict[Literal["category", "split", "detector"], str | Annotated[list[str], Field(min_length=1)]] = Field(
        min_length=1, description="Names that must all match: category, split, detector."
    )
    set: dict[str, Any] = Field(min_length=1, description="Dotted keys and their values, e.g. refine.method: none.")

    def matches(self, chosen: Mapping[str, Collection[str]]) -> bool:
        """Whether every `where` names one of what is chosen of its kind."""
        return all(set(chosen.get(kind, ())) & set(_as_list(names)) for kind, names in self.where.items())


Detector = Literal["inp_former", "musc", "winclip", "superadd"]


class Settings(Section):
    """The whole config, checked."""

    dataset: Dataset = Dataset()
    detectors: Annotated[list[Detector], Field(min_length=1)] = Field(["inp_former"], description="Methods to run.")
    tiling: Tiling = Tiling()
    encoder: Encoder = Encoder()
    inp_former: InpFormer = InpFormer()
    musc: Musc = Musc()
    winclip: Winclip = Winclip()
    superadd: Superadd = Superadd()
    infer: Infer = Infer()
    merge: Merge = Merge()
    binarize: Binarize = Binarize()
    refine: Refine = Refine()
    score_images: ScoreImages = ScoreImages()
    rescore: Rescore = Rescore()
    evaluate: Evaluate = Evaluate()
    report: Report = Report()
    overrides: list[Override] = Field([], description="Applied in order; later ones win.")

    @field_validator("detectors")
    @classmethod
    def _each_once(cls, value: list[str]) -> list[str]:
        return without_doubles(value)

    @model_validator(mode="after")
    def _overrides_are_valid(self) -> Settings:
        for number, override in enumerate(self.overrides):
            try:
                _apply(self, [override])
            except ConfigError as error:
                mistakes = str(error).removeprefix(f"{_OVERRIDDEN} cannot be used:").strip()
                raise ValueError(f"overrides.{number}.set.{mistakes}") from error
        return self

    def get(self, key: str) -> Any:
        """The value of a dotted key, e.g. "merge.scale"."""
        section, _, name = key.partition(".")
        value = getattr(self, section)
        return getattr(value, name) if name else value

    def overridden(self, **chosen: Collection[str]) -> Settings:
        """The settings that hold for a category, split and detector (those given), overrides applied in order.

        Each is given with all names it goes by. An override whose `where` names something not given does not apply.
        """
        return _apply(self, [override for override in self.overrides if override.matches(chosen)])

    def with_values(self, values: Mapping[str, Any]) -> Settings:
        """These settings with other values of some dotted keys."""
        changed: dict[str, dict[str, Any]] = {}
        for key, value in values.items():
            section, _, name = key.partition(".")
            changed.setdefault(section, {})[name] = value
        sections = {section: getattr(self, section).model_copy(update=new) for section, new in changed.items()}
        return self.model_copy(update=sections)


def section_of(name: str) -> type[BaseModel]:
    """The model of a section, e.g. of "merge"."""
    section = Settings.model_fields[name].annotation
    if not (isinstance(section, type) and issubclass(section, BaseModel)):
        raise ConfigError(f"{name}: not a section of the config.")
    return section


_OVERRIDDEN = "overridden config"
# Where these live is fixed before a category is known, so an override cannot change them.
_GLOBAL = ("dataset", "detectors", "overrides", "report")
_DECIDE_WHAT_RUNS = ("winclip.shots", "winclip.seeds")


def _apply(settings: Settings, overrides: Sequence[Override]) -> Settings:
    if not overrides:
        return settings
    values = settings.model_dump()
    values["overrides"] = []
    for override in overrides:
        for dotted, value in override.set.items():
            section, _, key = dotted.partition(".")
            sections = [name for name in Settings.model_fields if name not in _GLOBAL]
            if section not in sections:
                raise ConfigError(f"{dotted}: no such section. {one_of(section, sections)}")
            if key not in values[section]:
                raise ConfigError(f"{dotted}: no such key. {one_of(key, values[section])}")
            if dotted in _DECIDE_WHAT_RUNS:
                raise ConfigError(f"{dotted}: decides which runs there are; set it in the config itself.")
            values[section][key] = copy.deepcopy(value)
    return parse(values, _OVERRIDDEN)


def parse(values: Mapping[str, Any], source: str = "config") -> Settings:
    """Check a config given as nested dicts. Raises ConfigError that lists every mistake in it."""
    try:
        return Settings.model_validate(values)
    except ValidationError as error:
        lines = [f"  {line}" for line in explain_mistakes(error, Settings)]
        raise ConfigError(f"{source} cannot be used:\n" + "\n".join(lines)) from error


def load(path: str | Path) -> Settings:
    """Read and check a YAML config file."""
    try:
        values = yaml.safe_load(Path(path).read_text(encoding="utf-8"))
    except (OSError, yaml.YAMLError) as error:
        raise ConfigError(f"{path}: not a readable YAML file ({error}).") from error
    if not isinstance(values, dict):
        raise ConfigError(f"{path}: holds {type(values).__name__}; expected keys such as dataset: and tiling:.")
    return parse(values, str(path))


def _as_list(value: str | list[str]) -> list[str]:
    return [value] if isinstance(value, str) else value
