"""Errors that a user can mend; everything else is a defect of robis."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from difflib import get_close_matches


class RobisError(Exception):
    """A mistake outside robis: the message names the file or key, what was found, what is expected."""


class ConfigError(RobisError):
    """A key, value, path or category in the config that cannot be used."""


class DataError(RobisError):
    """Images, masks or tables that cannot be read or do not fit together."""


class WeightsError(RobisError):
    """Model weights that are absent, damaged or made for another model."""


class TrainingError(RobisError):
    """Training that cannot go on, such as a loss that is not finite."""


class DiskFullError(RobisError):
    """A disk without room for a file, or a user without quota."""


def one_of(found: str, valid: Iterable[str]) -> str:
    """Say what is valid and which spelling is nearest, for the end of an error message."""
    names = [str(name) for name in valid]
    near = get_close_matches(str(found), names, n=1, cutoff=0.5)
    hint = f" Did you mean {near[0]!r}?" if near else ""
    return f"Valid: {', '.join(names)}.{hint}"


def first_few(items: Sequence[object], limit: int = 5) -> str:
    """List the first `limit` items, one a line, and count the rest."""
    lines = [f"  {item}" for item in items[:limit]]
    if len(items) > limit:
        lines.append(f"  ... and {len(items) - limit} more")
    return "\n".join(lines)
