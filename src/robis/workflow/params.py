"""The parameters of one job, as Snakemake records them and as its script takes them."""

from __future__ import annotations

import hashlib
from collections.abc import Collection, Mapping
from typing import Any

# What a job's parameters call the sources of its archives (`robis.workflow.archives`).
ARCHIVED = "archived"


def names_of_job(wildcards: Any) -> dict[str, str | None]:
    """The run (or detector), category and split of a job, by its wildcards, as `Project.params` takes them."""
    names = {kind: wildcards.get(kind) for kind in ("detector", "category", "split")}
    # Tiles of one detector lie in its folder; other jobs that serve all of its runs belong to the stage's owner.
    names["detector"] = names["detector"] or wildcards.get("owner", "").rstrip("/") or None
    return names


class Params(dict[str, Any]):
    """A job's parameters whose `repr` holds only what makes its result stale.

    Snakemake compares parameters by their `repr`. Left out of it is where something lies rather than what it is (the
    data's root, a weights file's path), and what has no effect with the job's other settings.

    Attributes:
        unwatched: names that never make a result stale.
        identity: names of digests and the like, which the stage's code does not take.
    """

    unwatched: frozenset[str] = frozenset()
    identity: frozenset[str] = frozenset()

    @classmethod
    def of(
        cls, values: Mapping[str, Any], *, unwatched: Collection[str] = (), identity: Mapping[str, Any] | None = None
    ) -> Params:
        """Parameters from what the stage's code takes and from what identifies its inputs."""
        params = cls({**values, **(identity or {})})
        params.unwatched = frozenset(unwatched)
        params.identity = frozenset(identity or {})
        return params

    def __repr__(self) -> str:
        return repr({name: self[name] for name in sorted(self) if name not in self.unwatched})

    def digest(self, *, but: Collection[str] = ()) -> str:
        """Digest of all that makes the result stale, but for some names."""
        watched = Params.of({name: value for name, value in self.items() if name not in but}, unwatched=self.unwatched)
        return hashlib.sha256(repr(watched).encode()).hexdigest()

    def options(self) -> dict[str, Any]:
        """What the stage's code takes."""
        return {name: value for name, value in self.items() if name not in self.identity}
