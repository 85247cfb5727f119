"""What is wrong with a config, in sentences: the key, the value found, what is accepted, the nearest spelling."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from difflib import get_close_matches
from typing import Any, get_args, get_origin

from pydantic import BaseModel

from robis.config.words import accepted, alternatives_of, reason_of, words_of
from robis.config.yaml_files import Scalar, Tree, read_number
from robis.errors import one_of

# Keys of earlier versions -> what they are called now.
RENAMED = {
    "binarize.erosion": "erosion_size",
    "binarize.closing": "closing_sizes",
    "binarize.closing_growth": "closing_threshold_factor",
    "dataset.outside_root": "allow_outside_root",
    "musc.r": "neighborhood_sizes",
    "musc.share": "averaged_fraction",
    "refine.boxes": "max_boxes",
    "report.images": "max_images",
    "report.vis": "heatmap_range",
    "rescore.k": "neighborhood_sizes",
    "score_images.top_share": "top_fraction",
    "superadd.growth": "radius_growth",
    "superadd.jitter": "brightness_jitter",
}
# The type of a mistake that pydantic does not know: the sentence is in its context.
OVERRIDE = "override"
_LONGEST = 60


@dataclass
class Place:
    """Where a mistake is.

    Attributes:
        path: keys and numbers of entries, as the user wrote them.
        annotation: the type that is declared there; None for an unknown key.
        metadata: its constraints.
        parent: the type one level up.
    """

    path: list[str | int] = field(default_factory=list)
    annotation: Any = None
    metadata: Sequence[Any] = ()
    parent: Any = None

    @property
    def key(self) -> str:
        """The path in dots."""
        return ".".join(map(str, self.path))

    def enter(self, part: str | int, annotation: Any, metadata: Sequence[Any] = ()) -> None:
        """Go one level down."""
        self.path.append(part)
        self.parent, self.annotation, self.metadata = self.annotation, annotation, metadata


def explain_mistakes(errors: Iterable[Mapping[str, Any]], settings: type[BaseModel], tree: Tree) -> Iterator[str]:
    """Give one sentence per mistake. A key with alternatives (a word or a number) is reported once.

    Args:
        errors: what pydantic found, with `loc` relative to the whole config.
        settings: the model of the whole config.
        tree: the config as it is written.
    """
    grouped: dict[str, list[tuple[Place, Mapping[str, Any]]]] = {}
    for error in errors:
        place = locate(error["loc"], settings)
        grouped.setdefault(place.key, []).append((place, error))
    for key, mistakes in grouped.items():
        # A list that fits one alternative but for an entry: the entry is the mistake.
        if not any(other.startswith(f"{key}.") for other in grouped):
            yield _sentence([error for _, error in mistakes], mistakes[0][0], tree)


def locate(location: Sequence[str | int], settings: type[BaseModel]) -> Place:
    """Find the place of a mistake; pydantic's location also names the alternative of a union that it tried."""
    place = Place(annotation=settings)
    for part in location:
        kinds = [kind for kind, _ in alternatives_of(place.annotation)]
        model = next((kind for kind in kinds if isinstance(kind, type) and issubclass(kind, BaseModel)), None)
        items = next((get_args(kind)[0] for kind in kinds if get_origin(kind) is list), None)
        values = next((get_args(kind)[1] for kind in kinds if get_origin(kind) is dict), None)
        if model and part in model.model_fields:
            info = model.model_fields[str(part)]
            place.enter(part, info.annotation, info.metadata)
        elif isinstance(part, int) and items is not None:
            place.enter(part, items)
        elif part == "[key]" or (place.annotation is None and place.path):
            continue
        elif model:
            place.enter(part, None)
        elif values is Any:
            info = _declared(str(part), settings)
            place.enter(part, *((info.annotation, info.metadata) if info else (None,)))
        elif values is not None:
            place.enter(part, values)
    return place


def _declared(key: str, settings: type[BaseModel]) -> Any:
    section, _, name = key.partition(".")
    model = settings.model_fields[section].annotation if section in settings.model_fields else None
    return getattr(model, "model_fields", {}).get(name)


def shown(value: Any, limit: int = _LONGEST) -> str:
    """Give a value as a config spells it, cut to a readable length."""
    if isinstance(value, Mapping):
        text = "{" + ", ".join(f"{key}: {shown(item, 20)}" for key, item in list(value.items())[:5]) + "}"
    elif isinstance(value, list | tuple):
        text = "[" + ", ".join(shown(item, 20) for item in value[:20]) + "]"
    elif value is None or isinstance(value, bool):
        text = {None: "null", True: "true", False: "false"}[value]
    elif isinstance(value, int) and value.bit_length() > 1000:
        text = "an integer of more than 300 digits"
    elif isinstance(value, float) and (value != value or value in (float("inf"), -float("inf"))):
        text = ".nan" if value != value else ".inf" if value > 0 else "-.inf"
    else:
        text = repr(value[: 2 * limit] if isinstance(value, str) else value)
    return text if len(text) <= limit else f"{text[:limit]}..."


def _sentence(errors: list[Mapping[str, Any]], place: Place, tree: Tree) -> str:
    kinds = {error["type"] for error in errors}
    if OVERRIDE in kinds:
        return str(errors[0]["ctx"]["sentence"])
    if "extra_forbidden" in kinds or any(error["loc"][-1:] == ("[key]",) for error in errors):
        return unknown_key(place.key, _siblings(place))
    if "missing" in kinds:
        return f"{place.key}: this key is missing; expected {accepted(place.annotation, place.metadata)}."
    value = errors[0]["input"]
    written = value_at(tree, place.path)
    text = written.text if isinstance(written, Scalar) and isinstance(value, int | float) else shown(value)
    wanted = next((str(error["ctx"]["error"]) for error in errors if error["type"] == "value_error"), None)
    wanted = wanted or accepted(place.annotation, place.metadata)
    text = text if len(text) <= _LONGEST else f"{text[:_LONGEST]}..."
    return " ".join([f"{place.key}: found {text}; expected {wanted}.", *_hints(errors, place, value, text)])


def unknown_key(key: str, valid: Sequence[str]) -> str:
    """Give the sentence about a key that does not exist: its new name, or the nearest spelling."""
    section, _, name = key.rpartition(".")
    renamed = RENAMED.get(f"{section.rpartition('.')[2]}.{name}")
    return f"{key}: unknown key. {f'It is now called {renamed}.' if renamed else one_of(name, valid)}"


def _siblings(place: Place) -> list[str]:
    if place.annotation is None and isinstance(place.parent, type) and issubclass(place.parent, BaseModel):
        return list(place.parent.model_fields)
    keys = next((get_args(kind)[0] for kind, _ in alternatives_of(place.parent) if get_origin(kind) is dict), None)
    return words_of(keys)


def _hints(errors: list[Mapping[str, Any]], place: Place, value: Any, text: str) -> Iterator[str]:
    kinds = {error["type"] for error in errors}
    options = list(alternatives_of(place.annotation, place.metadata))
    sections = [kind for kind, _ in options if isinstance(kind, type) and issubclass(kind, BaseModel)]
    if isinstance(value, str):
        near = get_close_matches(value.lower(), words_of(place.annotation), n=1, cutoff=0.5)
        yield from (f"Did you mean {word!r}?" for word in near)
        if any(kind in (int, float) for kind, _ in options) and read_number(value) is not None:
            yield "Remove the quotes."
    elif isinstance(value, int | float) and "string_type" in kinds:
        yield f"Put it in quotes: '{text}'."
    if kinds & {"less_than_equal", "less_than"}:
        yield from (reason for _, limits in options if (reason := reason_of(limits)))
    if value is None and sections:
        yield "Remove the line, or give it keys."


def value_at(tree: Tree, path: Sequence[str | int]) -> Tree:
    """Give the part of a tree at a path; None where there is none."""
    for part in path:
        try:
            tree = tree[part]
        except (KeyError, IndexError, TypeError):
            return None
    return tree
