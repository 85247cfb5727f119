"""Tables of named entries that a config chooses from."""

from __future__ import annotations

from typing import TypeVar

V = TypeVar("V")


class Registry(dict[str, V]):
    """A dict of named entries, one of which a job uses.

    The code digest of a stage leaves registries out, so that a new entry re-runs nothing. A job's parameters carry
    the entry that it uses instead (`robis.workflow.code_digest`).
    """
