"""Types of options: numbers with bounds that give their reason, texts, and lists of them."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Annotated, Any

from annotated_types import BaseMetadata, Ge, GroupedMetadata, Gt, Le, Lt
from pydantic import Field

LARGEST_SEED = 2**63 - 1


@dataclass(frozen=True)
class Bounds(GroupedMetadata):
    """The range of a number.

    Attributes:
        reason: a sentence that a message about a number above the upper bound ends with; empty where the bound
            explains itself.
        ge, gt, le, lt: the bounds, as in pydantic's `Field`.
    """

    reason: str = ""
    ge: float | None = None
    gt: float | None = None
    le: float | None = None
    lt: float | None = None

    def __iter__(self) -> Iterator[BaseMetadata]:
        for bound, value in ((Ge, self.ge), (Gt, self.gt), (Le, self.le), (Lt, self.lt)):
            if value is not None:
                yield bound(value)


def at_most(limit: int, reason: str, *, least: int = 1) -> Bounds:
    """Bounds of an integer from `least` to `limit`."""
    return Bounds(reason, ge=least, le=limit)


Fraction = Annotated[float, Bounds(ge=0, le=1)]
Seed = Annotated[int, at_most(LARGEST_SEED, "PyTorch and NumPy accept seeds of up to 63 bits.", least=0)]
BatchSize = Annotated[int, at_most(4096, "A larger batch of tiles does not fit into the memory of a GPU.")]
MemoryGb = Annotated[float, Bounds("No computing device has more than 10,000 GB of memory.", gt=0, le=10_000)]
# Paths and names reach the file system, which takes neither an empty text nor control characters.
Text = Annotated[str, Field(pattern=r"^[^\x00-\x1f\x7f]+$")]
Digest = Annotated[str, Field(pattern=r"^[0-9a-f]{64}$")]
Prompts = Annotated[list[Annotated[str, Field(pattern=r"\{\}")]], Field(min_length=1)]


def larger(effect: str) -> Any:
    """What a larger value of an option does, in a clause, for `robis explain`: for `Field(json_schema_extra=...)`."""
    return {"larger": effect}


def unique(values: list[str]) -> list[str]:
    """Give the values back; raise ValueError when one is there twice."""
    if len(set(values)) < len(values):
        raise ValueError("unique names")
    return values


def odd(sides: list[int]) -> list[int]:
    """Give the sides back; raise ValueError when one is even."""
    if any(side % 2 == 0 for side in sides):
        raise ValueError("odd numbers")
    return sides
