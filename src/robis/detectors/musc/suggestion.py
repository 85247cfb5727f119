"""When MuSc suits, and how long it takes."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from robis.detectors.suggestion import Machine, Suggestion, Work


class MuscSuggestion(Suggestion):
    """The choice where no images to learn from are known."""

    reason = "needs no good images: the images are compared with each other"

    def rank(self, machine: Machine, *, learns: bool) -> int:
        return 0 if learns else 1

    def train_seconds(self, work: Work, options: Mapping[str, Any], machine: Machine) -> float:
        return 0.0

    def tile_seconds(self, work: Work, machine: Machine) -> float:
        return machine.encode + machine.compare * work.test_images
