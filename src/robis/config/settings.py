"""The shared part of a config, how overrides change it, and how a config is read and checked.

`robis.detectors.settings.Settings` adds a section for every detector.
"""

from __future__ import annotations

from collections.abc import Collection, Iterable, Mapping
from pathlib import Path
from typing import Annotated, Any, ClassVar, Self, TypeVar

from pydantic import BaseModel, Field, ValidationError, field_validator

from robis.config.dataset import Dataset, Tiling
from robis.config.detectability import Detectability
from robis.config.messages import explain_mistakes, locate, value_at
from robis.config.overrides import Override, overridden_sections, override_errors
from robis.config.section import Section
from robis.config.sections import (
    Binarize,
    Encoder,
    Evaluate,
    Infer,
    Merge,
    Packs,
    Refine,
    Report,
    Rescore,
    ScoreImages,
    Verdict,
)
from robis.config.types import unique
from robis.config.yaml_files import Scalar, Tree, from_command_line, merged, plain, read_config
from robis.errors import ConfigError

S = TypeVar("S", bound="SharedSettings")


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
    verdict: Verdict = Verdict()
    evaluate: Evaluate = Evaluate()
    packs: Packs = Packs()
    detectability: Detectability = Detectability()
    report: Report = Report()
    overrides: list[Override] = Field([], description="Applied in order; later ones win.")

    @field_validator("detectors")
    @classmethod
    def _each_once(cls, value: list[str]) -> list[str]:
        return unique(value)

    def get(self, key: str) -> Any:
        """The value of a dotted key, e.g. "merge.scale"."""
        section, _, name = key.partition(".")
        value = getattr(self, section)
        return getattr(value, name) if name else value

    def overridden(self, **job: Collection[str]) -> Self:
        """The settings that hold for a category, split and detector (those given), overrides applied in order.

        Each is given with all names it goes by. An override whose `where` names something not given does not apply.
        """
        overrides = [override for override in self.overrides if override.matches(job)]
        return self.model_copy(update=overridden_sections(self, overrides) | {"overrides": []}) if overrides else self

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


def parse(values: Mapping[str, Tree], model: type[S], source: str = "config") -> S:
    """Check a config given as nested dicts. Raises ConfigError that lists every mistake in it.

    Args:
        values: the config, as plain values or as it is written.
        model: the model of the whole config.
        source: what to call the config in messages.
    """
    settings, errors = _validated(plain(values), model)
    if settings and not errors:
        return settings
    retried = values
    for error in errors:
        path = locate(error["loc"], model).path
        scalar = value_at(values, path)
        if error["type"] == "string_type" and isinstance(scalar, Scalar) and scalar.from_command_line:
            retried = _replaced(retried, path, scalar.text)
    if retried is not values:
        return parse(retried, model, source)
    lines = [f"  {line}" for line in explain_mistakes(errors, model, values)]
    raise ConfigError(f"{source} cannot be used:\n" + "\n".join(lines))


def load(paths: Iterable[str | Path], model: type[S], changes: Mapping[str, Any] | None = None) -> S:
    """Read and check config files.

    Args:
        paths: the files; later ones win, key by key at every depth.
        model: the model of the whole config.
        changes: what `snakemake --config` made of its arguments; they win over the files.

    Raises ConfigError.
    """
    sources = [str(path) for path in paths]
    tree: Tree = {}
    for path in sources:
        tree = merged(tree, read_config(path))
    if changes:
        tree = merged(tree, from_command_line(changes))
        sources.append("--config")
    return parse(tree, model, " with ".join(sources) or "config")


def given_in(paths: Iterable[str | Path]) -> dict[str, Path]:
    """Dotted keys that config files give, and the last file that gives each."""
    sources: dict[str, Path] = {}
    for path in map(Path, paths):
        for section, values in read_config(path).items():
            keys = [f"{section}.{name}" for name in values] if isinstance(values, dict) else [section]
            sources |= dict.fromkeys(keys, path)
    return sources


def _validated(values: Any, model: type[S]) -> tuple[S | None, list[Any]]:
    """Give the settings and the mistakes in them, in pydantic's form."""
    try:
        settings = model.model_validate(values)
    except ValidationError as error:
        return None, list(error.errors())
    return settings, list(override_errors(settings, settings.overrides, model.RUN_KEYS))


def _replaced(tree: Tree, path: list[str | int], value: Any) -> Tree:
    """Give a tree with another value at a path that exists."""
    if not path:
        return value
    first, *rest = path
    changed = dict(tree) if isinstance(tree, dict) else list(tree)
    changed[first] = _replaced(tree[first], rest, value)  # type: ignore[index]
    return changed
