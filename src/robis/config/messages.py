"""What is wrong with a config, in words: the key, the value found, what is allowed, the nearest spelling."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Any, get_args, get_origin

from pydantic import BaseModel, ValidationError

from robis.errors import one_of

# What a text has to be like, in words.
PATTERNS = {
    r"\{\}": "text with {} in it",
    r"^[^/\\{}<>]+$": "a name without / \\ { } < >",
    r"^[^\s./\\{}<>]([^/\\{}<>]*[^\s./\\{}<>])?$": "a name without / \\ { } < >, with no dot or space at its ends",
    r"^[0-9a-f]{64}$": "64 hexadecimal digits",
}


def explain_mistakes(error: ValidationError, settings: type[BaseModel]) -> Iterator[str]:
    """One line per mistake. A key with alternatives (a word or a number) is reported once, with all of them.

    Args:
        error: what pydantic found.
        settings: the model of the whole config, for the names of keys.
    """
    grouped: dict[str, list[Any]] = {}
    for detail in error.errors():
        grouped.setdefault(_dotted(detail["loc"], settings), []).append(detail)
    for key, details in grouped.items():
        first = details[0]
        if first["type"] == "extra_forbidden":
            *parents, name = key.split(".")
            yield f"{key}: unknown key. {one_of(name, _keys_at(parents, settings))}"
        elif first["type"] == "value_error" and not key:
            yield str(first["ctx"]["error"])
        else:
            allowed = " or ".join(dict.fromkeys(_allowed(detail) for detail in details))
            yield f"{key}: found {first['input']!r}; expected {allowed}."


def _dotted(location: Sequence[int | str], settings: type[BaseModel]) -> str:
    """The key as the user wrote it: pydantic appends the name of the alternative that was tried."""
    parts: list[str] = []
    model: Any = settings
    for part in location:
        if isinstance(part, int):
            parts.append(str(part))
            continue
        fields = getattr(model, "model_fields", None)
        if fields is not None and part in fields:
            parts.append(part)
            model = _item(fields[part].annotation)
        elif fields is not None:
            parts.append(part)
            model = None
        elif model is not None:
            continue
    return ".".join(parts)


def _keys_at(parents: Sequence[str], settings: type[BaseModel]) -> list[str]:
    model: Any = settings
    for name in parents:
        model = model if name.isdigit() else _item(model.model_fields[name].annotation)
    return list(model.model_fields)


def _item(annotation: Any) -> Any:
    """The model of a list's entries; another annotation as it is."""
    return get_args(annotation)[0] if get_origin(annotation) is list else annotation


def _allowed(detail: Any) -> str:
    """What pydantic expected, as the end of "expected ..."."""
    if detail["type"] == "literal_error":
        words = [word.strip("'") for word in detail["ctx"]["expected"].replace(" or ", ", ").split(", ")]
        return one_of(str(detail["input"]), words).removeprefix("Valid: ").rstrip(".")
    if detail["type"] == "missing":
        return "a value"
    if detail["type"] == "string_type" and isinstance(detail["input"], int | float):
        return f"text: put it in quotes, '{detail['input']}'"
    if detail["type"] == "string_pattern_mismatch":
        return PATTERNS.get(detail["ctx"]["pattern"], f"text of the form {detail['ctx']['pattern']}")
    message = str(detail["msg"]).partition(", unable to parse")[0]
    if detail["type"] == "too_short":
        return f"at least {detail['ctx']['min_length']} entry"
    for lead in ("Input should be ", "Value error, ", "Input should "):
        message = message.removeprefix(lead)
    return message
