"""When SuperADD suits, and how long it takes."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from math import ceil
from typing import Any

from robis.detectors.suggestion import Machine, Suggestion, Work

BANK_SIZE = 20_000
# Tokens of a subset: the time of thinning grows with their square.
SUBSET_TOKENS = 10_000
LEAST_ROUNDS, MOST_ROUNDS = 10, 1000


class SuperaddSuggestion(Suggestion):
    """The first choice without a GPU: nothing is trained by steps."""

    reason = "a memory bank of normal tokens: quick on a CPU"
    options_reason = "fewer tokens than published, for speed"
    # Distances of normal tokens have a long tail, and without defects among the maps their deviation is small: with the
    # published factor of 3 masks become too large (docs/choosing.md).
    std_factor = 4.5

    def rank(self, machine: Machine, *, learns: bool) -> int:
        return (1 if machine.gpu else 2) if learns else 0

    def options(self, work: Sequence[Work]) -> dict[str, Any]:
        tokens = max(category.train_tiles * category.tokens for category in work)
        rounds = min(MOST_ROUNDS, max(LEAST_ROUNDS, ceil(tokens / SUBSET_TOKENS)))
        return {"bank_size": BANK_SIZE, "rounds": rounds}

    def train_seconds(self, work: Work, options: Mapping[str, Any], machine: Machine) -> float:
        tokens = work.train_tiles * work.tokens
        return work.train_tiles * machine.encode + machine.pair * tokens * (tokens / options["rounds"]) / 1e6
