"""What one stage of the workflow reads: the one place that says what makes its result stale."""

from __future__ import annotations

from collections.abc import Callable, Collection, Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any, Protocol

if TYPE_CHECKING:
    from pydantic import BaseModel

# Stand for any number, and for any above 0, among the values of a condition.
NUMBER, POSITIVE = "a number", "a number above 0"


@dataclass(frozen=True)
class When:
    """A condition on another option: `key` has one of `values`, "true" and "false" where it is a switch."""

    key: str
    values: tuple[str, ...]

    def holds(self, value: object) -> bool:
        """Whether the condition holds for a value of the key."""
        if isinstance(value, bool):
            return str(value).lower() in self.values
        if not isinstance(value, int):
            return value in self.values
        return NUMBER in self.values or (POSITIVE in self.values and value > 0)

    def __str__(self) -> str:
        return f"with {self.key} {' or '.join(self.values)}"


@dataclass(frozen=True)
class Option:
    """One config key that a stage reads.

    Attributes:
        key: dotted key.
        when: the condition under which it is read; None: always. Text describes a condition on the data.
        passed: whether the stage's function takes it, under the key's own name. Otherwise it counts in another form:
            through a value derived from it or through other input files.
        stale: whether a change makes the result stale. False for what says where something lies, how much memory to
            use or how often to save.
    """

    key: str
    when: When | str | None = None
    passed: bool = True
    stale: bool = True

    @property
    def name(self) -> str:
        """The key without its section."""
        return self.key.rpartition(".")[2]

    def is_read(self, settings: Any) -> bool:
        """Whether the option has an effect with the other settings."""
        return not isinstance(self.when, When) or self.when.holds(settings.get(self.when.key))


class Job(Protocol):
    """A job as its stage sees it when it is planned."""

    @property
    def settings(self) -> Any:
        """The settings that hold for the job: overrides applied, `auto` replaced."""

    @property
    def category(self) -> str | None: ...

    @property
    def split(self) -> str | None: ...

    @property
    def run(self) -> str | None: ...

    def file_digest(self, path: str | Path) -> str | None:
        """Digest of a file's content; None where there is no file."""


@dataclass(frozen=True)
class Derived:
    """Parameters of a job that are no option.

    Attributes:
        values: what the stage's code takes, by name.
        unwatched: names of values that never make a result stale.
        identity: what makes it stale and the code does not take, such as digests.
    """

    values: Mapping[str, Any] = field(default_factory=dict)
    unwatched: frozenset[str] = frozenset()
    identity: Mapping[str, Any] = field(default_factory=dict)


def nothing(job: Job) -> Derived:
    """No derived parameters."""
    return Derived()


@dataclass(frozen=True)
class Stage:
    """One stage of the workflow.

    Attributes:
        run: "module:function" that does the work; the digest of the stage's code starts there.
        reads: the options that it reads.
        encoder: options of `encoder` that it takes as the one argument `encoder`.
        after: the stages whose outputs it reads.
        reads_images: whether it opens the dataset's files.
        per: which of run, category and split tell its jobs apart.
        derive: parameters that are computed from the settings or the data.
    """

    run: str
    reads: tuple[Option, ...] = ()
    encoder: tuple[str, ...] = ()
    after: tuple[str, ...] = ()
    reads_images: bool = False
    per: tuple[str, ...] = ("run", "category", "split")
    derive: Callable[[Job], Derived] = nothing

    def stale_options(self) -> Iterator[Option]:
        """The options of which a change makes the result stale."""
        yield from (option for option in self.reads if option.stale)
        yield from (Option(f"encoder.{name}", passed=False) for name in self.encoder)


def options(*keys: str, when: When | str | None = None, passed: bool = True, stale: bool = True) -> tuple[Option, ...]:
    """Options that have everything but the key in common."""
    return tuple(Option(key, when, passed, stale) for key in keys)


def section(
    name: str, model: type[BaseModel], *, but: Collection[str] = (), harmless: Collection[str] = ()
) -> tuple[Option, ...]:
    """All options of a section, without those named in `but`; `harmless` ones never make a result stale."""
    names = [option for option in model.model_fields if option not in but]
    return tuple(Option(f"{name}.{option}", stale=option not in harmless) for option in names)
