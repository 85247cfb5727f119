"""Overrides: other values of some options for some categories, splits or detectors."""

from __future__ import annotations

from collections.abc import Collection, Iterable, Iterator, Mapping, Sequence
from typing import Annotated, Any, Literal

from pydantic import AfterValidator, BaseModel, Field, ValidationError

from robis.config.messages import OVERRIDE, unknown_key
from robis.config.section import Section
from robis.errors import one_of
from robis.io.names import composed

# These hold before a category is known, so an override cannot change them.
FIXED = ("dataset", "detectors", "overrides", "report")
Composed = Annotated[str, AfterValidator(composed)]


class Override(Section):
    """Other settings for some categories, splits or detectors."""

    where: dict[Literal["category", "split", "detector"], Composed | Annotated[list[Composed], Field(min_length=1)]] = (
        Field(
            min_length=1, description="Names of categories, splits and detectors; each kind that is given has to match."
        )
    )
    set: dict[str, Any] = Field(min_length=1, description="Dotted keys and their values, e.g. refine.method: none.")

    def matches(self, job: Mapping[str, Collection[str]]) -> bool:
        """Whether every `where` names something of the job (kind -> the names that it goes by)."""
        return all(set(job.get(kind, ())) & set(as_list(names)) for kind, names in self.where.items())


def overridden_sections(settings: BaseModel, overrides: Iterable[Override]) -> dict[str, BaseModel]:
    """Give the sections that overrides change, by name, checked. Later overrides win.

    Raises ValidationError for a value that its option does not accept.
    """
    changed: dict[str, dict[str, Any]] = {}
    for override in overrides:
        for key, value in override.set.items():
            section, _, name = key.partition(".")
            changed.setdefault(section, {})[name] = value
    sections = {name: getattr(settings, name) for name in changed}
    return {
        name: type(options).model_validate(options.model_dump() | changed[name]) for name, options in sections.items()
    }


def override_errors(
    settings: BaseModel, overrides: Sequence[Override], run_keys: Collection[str]
) -> Iterator[dict[str, Any]]:
    """Give the mistakes in the keys and values that overrides set, in pydantic's form.

    Args:
        settings: the whole config, valid but for its overrides.
        overrides: its overrides.
        run_keys: keys that decide which runs there are.
    """
    for number, override in enumerate(overrides):
        for key, value in override.set.items():
            location = ("overrides", number, "set", key)
            sentence = _key_mistake(settings, key, ".".join(map(str, location)), run_keys)
            if sentence:
                yield {"type": OVERRIDE, "loc": location, "input": value, "ctx": {"sentence": sentence}}
            else:
                yield from _value_errors(settings, key, value, location)


def as_list(value: str | list[str]) -> list[str]:
    """Give a name or a list of names as a list."""
    return [value] if isinstance(value, str) else value


def _key_mistake(settings: BaseModel, key: str, place: str, run_keys: Collection[str]) -> str | None:
    section, _, name = key.partition(".")
    fields = type(settings).model_fields
    sections = [known for known in fields if known not in FIXED]
    if section in FIXED:
        return f"{place}: {section} is the same for all jobs and cannot be overridden. {one_of(section, sections)}"
    if section not in sections:
        return f"{place}: unknown section. {one_of(section, sections)}"
    options = list(type(getattr(settings, section)).model_fields)
    if not name:
        return f"{place}: this is a section; expected a dotted key, such as {section}.{options[0]}."
    if name not in options:
        return unknown_key(place, options)
    if key in run_keys:
        return f"{place}: this key decides which runs there are. Set it in the section {section}."
    return None


def _value_errors(
    settings: BaseModel, key: str, value: Any, location: tuple[str | int, ...]
) -> Iterator[dict[str, Any]]:
    section, _, name = key.partition(".")
    options = getattr(settings, section)
    try:
        type(options).model_validate(options.model_dump() | {name: value})
    except ValidationError as error:
        yield from ({**detail, "loc": (*location, *detail["loc"][1:])} for detail in error.errors())
