"""What an option accepts, in words: read from its declaration, for messages, comments and the table of options."""

from __future__ import annotations

import types
from collections.abc import Iterable, Iterator, Sequence
from typing import Any, Literal, Union, get_args, get_origin

from annotated_types import Ge, Gt, Le, Lt
from pydantic import BaseModel
from pydantic.fields import FieldInfo

from robis.config.types import Bounds

# What a text has to be like.
PATTERNS = {
    r"\{\}": "text with {} in it",
    r"^[^/\\{}<>]+$": "a name without / \\ { } < >",
    r"^[^\s./\\{}<>]([^/\\{}<>]*[^\s./\\{}<>])?$": "a name without / \\ { } < >, with no dot or space at its ends",
    r"^[0-9a-f]{64}$": "64 hexadecimal digits",
    r"^[^\x00-\x1f\x7f]+$": "text",
}
_COUNTS = {1: "one", 2: "two", 3: "three"}


def accepted(annotation: Any, metadata: Sequence[Any] = (), mark: str = "") -> str:
    """Describe what an annotation with pydantic's constraints accepts, e.g. "auto or an integer from 8 to 4096".

    Args:
        annotation: a type, with or without `Annotated`.
        metadata: constraints that hold besides.
        mark: stands before and after each word that can be given, such as a backtick.
    """
    return _joined(list(_alternatives(annotation, list(metadata), mark)))


def alternatives_of(annotation: Any, metadata: Sequence[Any] = ()) -> Iterator[tuple[Any, list[Any]]]:
    """Give each type that an annotation stands for, with its constraints."""
    arguments = get_args(annotation)
    if hasattr(annotation, "__metadata__"):
        yield from alternatives_of(arguments[0], [*metadata, *annotation.__metadata__])
    elif get_origin(annotation) in (Union, types.UnionType):
        for argument in arguments:
            yield from alternatives_of(argument, metadata)
    else:
        yield annotation, list(metadata)


def words_of(annotation: Any) -> list[str]:
    """Give the words that an annotation lets a user choose from."""
    literals = (get_args(kind) for kind, _ in alternatives_of(annotation) if get_origin(kind) is Literal)
    return [word for values in literals for word in values]


def constraints(metadata: Iterable[Any]) -> Iterator[Any]:
    """Give single constraints, those that pydantic's `Field` groups included."""
    for item in metadata:
        if isinstance(item, FieldInfo):
            yield from constraints(item.metadata)
        elif isinstance(item, Bounds):
            yield from item
        else:
            yield item


def reason_of(metadata: Iterable[Any]) -> str:
    """Give the reason of an upper bound; empty where there is none."""
    return next((item.reason for item in metadata if isinstance(item, Bounds)), "")


def _alternatives(annotation: Any, metadata: list[Any], mark: str) -> Iterator[str]:
    for kind, limits in alternatives_of(annotation, metadata):
        if get_origin(kind) is Literal:
            yield from (f"{mark}{word}{mark}" for word in get_args(kind))
        elif kind is type(None):
            yield f"{mark}null{mark}"
        else:
            yield _single(kind, limits, mark)


def _single(kind: Any, metadata: list[Any], mark: str) -> str:
    if kind in (int, float):
        return " ".join([{int: "an integer", float: "a number"}[kind], *_range(metadata)])
    if kind is bool:
        return f"{mark}true{mark} or {mark}false{mark}"
    if kind is str:
        return next((PATTERNS[text] for text in _each(metadata, "pattern") if text in PATTERNS), "text")
    if get_origin(kind) is list:
        return _list(get_args(kind)[0], metadata, mark)
    if isinstance(kind, type) and issubclass(kind, BaseModel):
        names = list(kind.model_fields)
        return f"keys such as {names[0]}: and {names[1]}:"
    return "one or more keys, each with a value"


def _list(item: Any, metadata: list[Any], mark: str) -> str:
    least = max(_each(metadata, "min_length"), default=0)
    most = min(_each(metadata, "max_length"), default=None)
    some = (
        f"{_COUNTS.get(least, least)} "
        if least == most
        else f"{_COUNTS.get(least, least)} or more "
        if least
        else f"up to {most} "
        if most
        else ""
    )
    [(kind, limits), *others] = alternatives_of(item)
    if not others and kind in (int, float):
        return " ".join([f"a list of {some}{'integers' if kind is int else 'numbers'}", *_range(limits)])
    if isinstance(kind, type) and issubclass(kind, BaseModel):
        return f"a list of {some}{kind.__name__.lower()}s"
    if get_origin(kind) is Literal:
        return f"a list of {some}{'of ' if some else ''}{_joined(list(_alternatives(item, [], mark)))}"
    return f"a list of {some or 'any number of '}entries, each {accepted(item, (), mark)}"


def _range(metadata: list[Any]) -> Iterator[str]:
    """The range as the end of "a number ..."."""
    bounds = {type(item): item for item in constraints(metadata)}
    least, above = bounds.get(Ge), bounds.get(Gt)
    most, below = bounds.get(Le), bounds.get(Lt)
    if least and most:
        yield f"from {least.ge} to {most.le}"
        return
    parts = [
        f"of at least {least.ge}" if least else "",
        f"above {above.gt}" if above else "",
        f"of at most {most.le}" if most and not above else f"at most {most.le}" if most else "",
        f"below {below.lt}" if below else "",
    ]
    if any(parts):
        yield " and ".join(part for part in parts if part)


def _each(metadata: Iterable[Any], name: str) -> list[Any]:
    values = (getattr(item, name, None) for item in constraints(metadata))
    return [value for value in values if value is not None]


def _joined(parts: Sequence[str]) -> str:
    if len(parts) < 3:
        return " or ".join(parts)
    return f"{', '.join(parts[:-1])}, or {parts[-1]}"
