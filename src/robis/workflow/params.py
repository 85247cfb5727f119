"""The parameters of one job, as Snakemake records them and as its script takes them."""

from __future__ import annotations

import hashlib
from collections.abc import Iterable, Mapping
from typing import Any

# Entries that identify what a job reads, or decide whether there is one; the stage's code does not take them.
IDENTITY = ("architecture_digest", "code", "fingerprint", "module", "weights", "weights_digest")


class Params(dict[str, Any]):
    """A job's parameters whose `repr` holds only what makes its result stale.

    Snakemake compares parameters by their `repr`. Left out of it is where something lies rather than what it
    is (the data's root, a weights file's path), and what the job does not read with its other settings.
    """

    unwatched: tuple[str, ...] = ()

    @classmethod
    def of(cls, values: Mapping[str, Any], unwatched: Iterable[str]) -> Params:
        """Make parameters of which the names in `unwatched` never make a result stale."""
        params = cls(values)
        params.unwatched = tuple(unwatched)
        return params

    def __repr__(self) -> str:
        return repr({name: self[name] for name in sorted(self) if name not in self.unwatched})

    def digest(self) -> str:
        """Digest of all that makes the result stale."""
        return hashlib.sha256(repr(self).encode()).hexdigest()

    def options(self) -> dict[str, Any]:
        """What the stage's code takes."""
        return {name: value for name, value in self.items() if name not in IDENTITY}
