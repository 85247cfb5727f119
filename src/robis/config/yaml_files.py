"""Config files: YAML 1.2, read without silent conversions.

Snakemake reads config files with PyYAML, which follows YAML 1.1: there `no` is false, `010` is 8, `1:30` is 90,
`2026-11-02` is a date, `1e-3` is text, and the second of two equal keys wins. This reader follows the core schema of
YAML 1.2 (section 10.3) instead, except that numbers with leading zeros stay text: categories are often called 01, 02.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, TypeAlias

import yaml

from robis.errors import ConfigError
from robis.io.text import EncodingError, decoded

# A config has a few kB; with a list of 10,000 categories it has 200.
LARGEST_FILE = 1_000_000
# What anchors may expand a file to, and how deep it may nest.
MOST_VALUES = 100_000
DEEPEST = 20

_TAG = "tag:yaml.org,2002:"
# YAML 1.2, section 10.3.2.
_SCALARS = {
    "null": re.compile(r"(?:~|null|Null|NULL)?$"),
    "bool": re.compile(r"(?:true|True|TRUE|false|False|FALSE)$"),
    "int": re.compile(r"(?:[-+]?(?:0|[1-9][0-9]*)|0o[0-7]+|0x[0-9a-fA-F]+)$"),
    "float": re.compile(
        r"(?:[-+]?(?:\.[0-9]+|(?:0|[1-9][0-9]*)(?:\.[0-9]*)?)(?:[eE][-+]?[0-9]+)?|[-+]?\.(?:inf|Inf|INF)|\.(?:nan|NaN|NAN))$"
    ),
}


@dataclass(frozen=True)
class Scalar:
    """One value of a config.

    Attributes:
        value: None, a bool, an int, a float or a str.
        text: the value as it is written.
        from_command_line: the command line keeps no quotes, so a value that looks like a number may be meant as text.
    """

    value: Any
    text: str
    from_command_line: bool = False


# A config as it is written: dicts and lists of these, with scalars at the ends. Other values stand for themselves.
Tree: TypeAlias = Any


class _Loader(yaml.SafeLoader):
    """Composes nodes; values are made of them here."""

    yaml_implicit_resolvers: dict[str, list[Any]] = {}  # noqa: RUF012 (PyYAML's own class attribute)


class _Dumper(yaml.SafeDumper):
    """Puts texts in quotes that YAML 1.1 or 1.2 would take for something else."""


for _name, _pattern in _SCALARS.items():
    _Loader.add_implicit_resolver(_TAG + _name, _pattern, None)
    _Dumper.add_implicit_resolver(_TAG + _name, _pattern, None)
_Loader.add_implicit_resolver(_TAG + "merge", re.compile(r"<<$"), None)


def read_config(path: str | Path) -> dict[str, Tree]:
    """Read one config file.

    Raises ConfigError for a file that cannot be read, is not UTF-8 or not YAML, or has a key twice.
    """
    try:
        node = yaml.compose(_text(Path(path)), Loader=_Loader)
        tree = _Reader(str(path)).tree(node) if node else None
    except yaml.MarkedYAMLError as error:
        raise ConfigError(f"{path}, {_problem(error)}") from error
    except yaml.YAMLError as error:
        raise ConfigError(f"{path}: this is not a YAML file ({' '.join(str(error).split())}).") from error
    except RecursionError as error:
        raise ConfigError(f"{path}: the values are nested too deeply; expected at most {DEEPEST} levels.") from error
    if not isinstance(tree, dict):
        kind = "nothing" if node is None else "a list" if isinstance(tree, list) else "a single value"
        raise ConfigError(f"{path}: found {kind}; expected keys such as dataset: and tiling:.")
    return tree


def from_command_line(value: Any) -> Tree:
    """Give what `snakemake --config` made of its arguments (nested dicts and lists of texts) as a tree."""
    if isinstance(value, Mapping):
        return {str(key): from_command_line(item) for key, item in value.items()}
    if isinstance(value, list):
        return [from_command_line(item) for item in value]
    return Scalar(_value(value, _kind(value)), value, True) if isinstance(value, str) else value


def merged(base: Tree, changes: Tree) -> Tree:
    """Give `base` with `changes`, key by key at every depth; lists and single values are replaced."""
    if not (isinstance(base, dict) and isinstance(changes, dict)):
        return changes
    return base | {key: merged(base.get(key), value) for key, value in changes.items()}


def plain(tree: Tree) -> Any:
    """Give the values of a tree."""
    if isinstance(tree, Mapping):
        return {key: plain(value) for key, value in tree.items()}
    if isinstance(tree, list):
        return [plain(value) for value in tree]
    return tree.value if isinstance(tree, Scalar) else tree


def to_yaml(value: Any, **options: Any) -> str:
    """Write a value as YAML that `read_config` and YAML 1.1 readers read alike, with the options of `yaml.dump`."""
    text: str = yaml.dump(value, Dumper=_Dumper, sort_keys=False, allow_unicode=True, **options)
    return text


def read_number(text: str) -> int | float | None:
    """Give the number that a text would be without quotes; None where it is none."""
    kind = _kind(text)
    return _value(text, kind) if kind in ("int", "float") else None


def _text(path: Path) -> str:
    try:
        with path.open("rb") as file:
            content = file.read(LARGEST_FILE + 1)
    except OSError as error:
        raise ConfigError(f"{path}: this config file cannot be read ({error.strerror}).") from error
    if len(content) > LARGEST_FILE:
        raise ConfigError(
            f"{path}: found a file of more than {LARGEST_FILE / 1e6:g} MB; a config is far smaller. Is this a config?"
        )
    try:
        return decoded(content)
    except EncodingError as error:
        raise ConfigError(error.at(path)) from error


def _problem(error: yaml.MarkedYAMLError) -> str:
    mark = error.problem_mark or error.context_mark
    problem = str(error.problem or error.context)
    if "'\\t'" in problem:
        problem = "found a tab; YAML is indented with spaces only"
    return f"line {mark.line + 1 if mark else 1}: {problem}."


def _kind(text: str) -> str:
    return next((name for name, pattern in _SCALARS.items() if pattern.match(text)), "str")


def _value(text: str, kind: str) -> Any:
    if kind == "null":
        return None
    if kind == "bool":
        return text.lower() == "true"
    if kind == "int" and len(text) < 400:
        return int(text, {"0o": 8, "0x": 16}.get(text[:2], 10))
    if kind in ("int", "float"):
        # An integer of hundreds of digits is too large for every option, as infinity is.
        return float(re.sub(r"^([-+]?)\.(inf|nan)", r"\1\2", text.lower())) if text[:2] != "0x" else float("inf")
    return text


class _Reader:
    """Makes a tree of YAML nodes."""

    def __init__(self, source: str) -> None:
        self._source = source
        self._left = MOST_VALUES

    def tree(self, node: yaml.Node, depth: int = 0) -> Tree:
        """Give a node and all below it, anchors expanded."""
        self._left -= 1
        # An anchor that holds itself nests without end, and nine anchors of nine aliases each make 400 million values.
        if depth > DEEPEST:
            raise self._error(node, f"the values are nested too deeply; expected at most {DEEPEST} levels.")
        if self._left < 0:
            raise self._error(node, f"anchors make more than {MOST_VALUES:,} values of this file. Is this a config?")
        if isinstance(node, yaml.MappingNode):
            return self._mapping(node, depth)
        if isinstance(node, yaml.SequenceNode):
            return [self.tree(item, depth + 1) for item in node.value]
        return self._scalar(node)

    def _mapping(self, node: yaml.MappingNode, depth: int) -> dict[str, Tree]:
        lines: dict[str, int] = {}
        given: dict[str, Tree] = {}
        inherited: dict[str, Tree] = {}
        for key, value in node.value:
            if not isinstance(key, yaml.ScalarNode):
                raise self._error(key, "found a list or mapping as a key; expected a text.")
            line = key.start_mark.line + 1
            if key.value in lines:
                first = lines[key.value]
                raise self._error(
                    key, f"the key {key.value!r} is given twice, first in line {first}. Remove one of them."
                )
            lines[key.value] = line
            if key.tag == _TAG + "merge":
                inherited = self._inherited(value, depth)
            else:
                given[key.value] = self.tree(value, depth + 1)
        return inherited | given

    def _inherited(self, node: yaml.Node, depth: int) -> dict[str, Tree]:
        """The keys of a merge (`<<`): of several mappings the first counts."""
        joined: dict[str, Tree] = {}
        for source in reversed(node.value if isinstance(node, yaml.SequenceNode) else [node]):
            if not isinstance(source, yaml.MappingNode):
                raise self._error(source, "found a value after <<; expected a mapping, such as *name.")
            joined |= self._mapping(source, depth + 1)
        return joined

    def _scalar(self, node: yaml.Node) -> Scalar:
        kind = node.tag.removeprefix(_TAG)
        if kind == "merge":
            kind = "str"
        if kind != "str" and not (kind in _SCALARS and _SCALARS[kind].match(node.value)):
            raise self._error(node, f"found {node.value!r} with the tag {node.tag}; expected a value without a tag.")
        return Scalar(_value(node.value, kind), node.value)

    def _error(self, node: yaml.Node, problem: str) -> ConfigError:
        return ConfigError(f"{self._source}, line {node.start_mark.line + 1}: {problem}")
