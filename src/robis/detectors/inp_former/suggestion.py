"""When INP-Former suits, and how long it takes."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from robis.detectors.suggestion import Machine, Suggestion, Work

# Training steps, and epochs: at most the published number.
STEPS, LEAST_EPOCHS, MOST_EPOCHS = 4000, 10, 200
MOST_BATCH = 16


class InpFormerSuggestion(Suggestion):
    """The first choice with a GPU: a CPU would train for hours."""

    reason = "a model per category, trained on the good images"
    options_reason = "about as many steps as images of this number need"

    def rank(self, machine: Machine, *, learns: bool) -> int:
        return (2 if machine.gpu else 1) if learns else 0

    def options(self, work: Sequence[Work]) -> dict[str, Any]:
        fewest = min(category.train_tiles for category in work)
        batch_size = min(MOST_BATCH, max(1, fewest // 4))
        epochs = min(MOST_EPOCHS, max(LEAST_EPOCHS, round(STEPS * batch_size / max(1, fewest))))
        return {"epochs": epochs, "batch_size": batch_size}

    def train_seconds(self, work: Work, options: Mapping[str, Any], machine: Machine) -> float:
        return float(options["epochs"] * work.train_tiles * machine.step)
