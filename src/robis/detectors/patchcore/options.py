"""Options of PatchCore."""

from __future__ import annotations

from typing import Annotated

from pydantic import Field

from robis.config.section import Section
from robis.config.types import Bounds, Seed, at_most, larger
from robis.detectors.memory_bank.options import AllowedRegions, SmoothingSigma


class PatchcoreOptions(Section):
    """PatchCore (arXiv 2106.08265): distance to the nearest of a coreset of the patches of normal images."""

    coreset_fraction: Annotated[float, Bounds("The coreset has no more patches than there are.", gt=0, le=1)] = Field(
        0.1,
        description="Fraction of the patches of normal images that the memory bank keeps, at least one.",
        json_schema_extra=larger("fewer false alarms on rare normal looks; more time, in training in proportion"),
    )
    start_points: Annotated[int, at_most(100_000, "Each costs a pass over all patches.")] = Field(
        10,
        description="Random patches; the first of the coreset is the one with the largest mean distance to them.",
        json_schema_extra=larger("a start nearer to the exact greedy choice; more time"),
    )
    projected_width: Annotated[int, at_most(1024, "Patches have 1024 channels.")] = Field(
        128,
        description="Channels of a random projection, in which distances are measured for the choice of the coreset. "
        "1024: the patches as they are.",
        json_schema_extra=larger("a choice by more exact distances; more time and memory"),
    )
    allow: AllowedRegions = None
    smoothing_sigma: SmoothingSigma = 4.0
    seed: Seed = Field(0, description="Seed of the start points and the projection.")
