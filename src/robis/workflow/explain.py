"""One option explained on the terminal: what it means, which way to turn it, where its value comes from."""

from __future__ import annotations

import shlex
import textwrap
from collections.abc import Iterator, Sequence
from difflib import get_close_matches
from pathlib import Path

from robis.config.messages import RENAMED
from robis.config.settings import SharedSettings, every_key, given_in, section_names
from robis.detectors.settings import Settings
from robis.errors import ConfigError, one_of
from robis.workflow.reference import WIDTH, allowed, description, field_of, plain, rerun_text
from robis.workflow.stages import STAGES, followers, readers


def explain(key: str, settings: SharedSettings, files: Sequence[Path] = ()) -> str:
    """What a key (or each key of a section) means, its value and default, and what a change of it re-runs.

    Args:
        key: dotted, or a section's name.
        settings: the config.
        files: the config files that it was read from, in their order; none for the defaults.

    Raises ConfigError for an unknown key.
    """
    keys = [known for known in every_key(Settings) if known == key or known.startswith(f"{key}.")]
    if not keys:
        raise ConfigError(_unknown(key))
    sources = given_in(files)
    return "\n\n".join("\n".join(_lines(known, settings, files, sources.get(known))) for known in keys)


def _unknown(key: str) -> str:
    section = key.partition(".")[0]
    if section == "overrides":
        return "overrides: a list of other settings for some categories; docs/config.md explains it."
    if key in RENAMED:
        return f"{key}: no such key. It is now called {section}.{RENAMED[key]}."
    beside = [known for known in every_key(Settings) if known.startswith(f"{section}.")]
    sections = [name for name in section_names(Settings) if name != "overrides"]
    if not beside and (meant := _of_that_name(key.rpartition(".")[2], sections)):
        return f"{key}: no such key. Did you mean {' or '.join(map(repr, meant))}?"
    return f"{key}: no such key. {one_of(key, beside or sections)}"


def _of_that_name(name: str, sections: Sequence[str]) -> list[str]:
    """The keys whose name without section is like this one, unless a section's name is more like it."""
    keys = [key for key in every_key(Settings) if "." in key]
    near = get_close_matches(name, [*sections, *{key.rpartition(".")[2] for key in keys}], n=1)
    return [key for key in keys if key.rpartition(".")[2] in near]


def _lines(key: str, settings: SharedSettings, files: Sequence[Path], source: Path | None) -> Iterator[str]:
    field = field_of(key)
    yield key
    yield from textwrap.wrap(description(key), WIDTH - 2, initial_indent="  ", subsequent_indent="  ")
    if effect := larger(key):
        yield f"  larger:   {effect}"
    value = plain(settings.get(key))
    yield f"  value:    {value} ({_origin(files, source)})"
    yield from _overriding(key, settings)
    yield f"  default:  {plain(field.get_default(call_default_factory=True))}"
    yield f"  allowed:  {allowed(field)}"
    yield f"  change:   snakemake{_given(files)} --config {shlex.quote(command_line_form(key, value))}"
    yield f"  re-runs:  {rerun_text(key, settings.detectors).replace('`', '')}"
    first = set(readers(key, settings.detectors))
    if later := [name for name in STAGES if name in followers(first, settings.detectors) - first]:
        yield f"  then:     {', '.join(later)}"


def larger(key: str) -> str:
    """What a larger value does, in a clause; empty for options that are no quantity."""
    extra = field_of(key).json_schema_extra
    return str(extra.get("larger", "")) if isinstance(extra, dict) else ""


def command_line_form(key: str, value: str) -> str:
    """A key with its value, in YAML, as `snakemake --config` takes it, without the shell's quotes."""
    section, _, name = key.partition(".")
    return f"{section}={{{name}: {value}}}" if name else f"{section}={value}"


def _origin(files: Sequence[Path], source: Path | None) -> str:
    if source:
        return str(source)
    return f"the default; not in {' or '.join(map(str, files))}" if files else "the default"


def _given(files: Sequence[Path]) -> str:
    return f" --configfile {shlex.join(map(str, files))}" if files else ""


def _overriding(key: str, settings: SharedSettings) -> Iterator[str]:
    for number, override in enumerate(settings.overrides):
        if key in override.set:
            yield f"            {plain(override.set[key])} where {plain(dict(override.where))} (overrides.{number})"
