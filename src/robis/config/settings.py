"""The shared part of a config, how overrides change it, and how a config is read and checked.

`robis.detectors.settings.Settings` adds a section for every detector.
"""

from __future__ import annotations

import copy
from collections.abc import Collection, Mapping, Sequence
from pathlib import Path
from typing import Annotated, Any, ClassVar, Literal, Self, TypeVar

import yaml
from pydantic import AfterValidator, BaseModel, Field, ValidationError, field_validator, model_validator

from robis.config.messages import explain_mistakes
from robis.config.sections import (
    Binarize,
    Dataset,
    Encoder,
    Evaluate,
    Infer,
    Merge,
    Refine,
    Report,
    Rescore,
    ScoreImages,
    Section,
    Tiling,
    without_doubles,
)
from robis.errors import ConfigError, one_of
from robis.io.names import composed

# What these say is fixed before a category is known, so an override cannot change them.
_GLOBAL = ("dataset", "detectors", "overrides", "report")
_OVERRIDDEN = "overridden config"

Composed = Annotated[str, AfterValidator(composed)]
S = TypeVar("S", bound="SharedSettings")


class Override(Section):
    """Other settings for some categories, splits or detectors."""

    where: dict[Literal["category", "split", "detector"], Composed | Annotated[list[Composed], Field(min_length=1)]] = (
        Field(min_length=1, description="Names that must all match: category, split, detector.")
    )
    set: dict[str, Any] = Field(min_length=1, description="Dotted keys and their values, e.g. refine.method: none.")

    def matches(self, job: Mapping[str, Collection[str]]) -> bool:
        """Whether every `where` names something of the job (kind -> the names that it goes by)."""
        return all(set(job.get(kind, ())) & set(as_list(names)) for kind, names in self.where.items())


class SharedSettings(Section):
    """The options that all detectors share, checked."""

    # Keys that decide which runs there are.
    RUN_KEYS: ClassVar[tuple[str, ...]] = ()

    dataset: Dataset = Dataset()
    detectors: Annotated[list[str], Field(min_length=1)]
    tiling: Tiling = Tiling()
    encoder: Encoder = Encoder()
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
    def _overrides_are_valid(self) -> Self:
        for number, override in enumerate(self.overrides):
            try:
                self._with([override])
            except ConfigError as error:
                mistakes = str(error).removeprefix(f"{_OVERRIDDEN} cannot be used:").strip()
                raise ValueError(f"overrides.{number}.set.{mistakes}") from error
        return self

    def get(self, key: str) -> Any:
        """The value of a dotted key, e.g. "merge.scale"."""
        section, _, name = key.partition(".")
        value = getattr(self, section)
        return getattr(value, name) if name else value

    def overridden(self, **job: Collection[str]) -> Self:
        """The settings that hold for a category, split and detector (those given), overrides applied in order.

        Each is given with all names it goes by. An override whose `where` names something not given does not apply.
        """
        return self._with([override for override in self.overrides if override.matches(job)])

    def with_values(self, values: Mapping[str, Any]) -> Self:
        """These settings with other values of some dotted keys."""
        changed: dict[str, dict[str, Any]] = {}
        for key, value in values.items():
            section, _, name = key.partition(".")
            changed.setdefault(section, {})[name] = value
        sections = {section: getattr(self, section).model_copy(update=new) for section, new in changed.items()}
        return self.model_copy(update=sections)

    def given(self) -> list[str]:
        """Dotted keys that differ from their defaults, those set by overrides included."""
        defaults = type(self).model_validate({})
        keys = [key for key in every_key(type(self)) if self.get(key) != defaults.get(key)]
        return list(dict.fromkeys([*keys, *(key for override in self.overrides for key in override.set)]))

    def _with(self, overrides: Sequence[Override]) -> Self:
        if not overrides:
            return self
        values = self.model_dump()
        values["overrides"] = []
        for override in overrides:
            for dotted, value in override.set.items():
                section, _, key = dotted.partition(".")
                sections = [name for name in type(self).model_fields if name not in _GLOBAL]
                if section not in sections:
                    raise ConfigError(f"{dotted}: no such section. {one_of(section, sections)}")
                if key not in values[section]:
                    raise ConfigError(f"{dotted}: no such key. {one_of(key, values[section])}")
                if dotted in self.RUN_KEYS:
                    raise ConfigError(f"{dotted}: decides which runs there are; set it in the config itself.")
                values[section][key] = copy.deepcopy(value)
        return parse(values, type(self), _OVERRIDDEN)


def section_names(model: type[SharedSettings]) -> list[str]:
    """The sections of a config in the order of the docs: those of the detectors follow the encoder's."""
    shared = list(SharedSettings.model_fields)
    place = shared.index("encoder") + 1
    return [*shared[:place], *(name for name in model.model_fields if name not in shared), *shared[place:]]


def every_key(model: type[SharedSettings]) -> list[str]:
    """All dotted keys of a config, `overrides` left out, in the order of the docs."""
    keys = []
    for section in section_names(model):
        info = model.model_fields[section]
        fields = getattr(info.annotation, "model_fields", None)
        if fields is not None:
            keys += [f"{section}.{name}" for name in fields]
        elif section != "overrides":
            keys.append(section)
    return keys


def section_of(model: type[SharedSettings], name: str) -> type[BaseModel]:
    """The model of a section, e.g. of "merge"."""
    section = model.model_fields[name].annotation
    if not (isinstance(section, type) and issubclass(section, BaseModel)):
        raise ConfigError(f"{name}: not a section of the config.")
    return section


def parse(values: Mapping[str, Any], model: type[S], source: str = "config") -> S:
    """Check a config given as nested dicts. Raises ConfigError that lists every mistake in it."""
    try:
        return model.model_validate(values)
    except ValidationError as error:
        lines = [f"  {line}" for line in explain_mistakes(error, model)]
        raise ConfigError(f"{source} cannot be used:\n" + "\n".join(lines)) from error


def load(path: str | Path, model: type[S]) -> S:
    """Read and check a YAML config file."""
    try:
        values = yaml.safe_load(Path(path).read_text(encoding="utf-8"))
    except (OSError, yaml.YAMLError) as error:
        raise ConfigError(f"{path}: not a readable YAML file ({error}).") from error
    if not isinstance(values, dict):
        raise ConfigError(f"{path}: holds {type(values).__name__}; expected keys such as dataset: and tiling:.")
    return parse(values, model, str(path))


def as_list(value: str | list[str]) -> list[str]:
    """A name or a list of names as a list."""
    return [value] if isinstance(value, str) else value
