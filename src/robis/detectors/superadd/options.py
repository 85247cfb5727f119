"""Options of SuperADD."""

from __future__ import annotations

from typing import Annotated

from pydantic import Field

from robis.config.sections import Section
from robis.config.types import Bounds, Fraction, MemoryGb, Seed, at_most


class SuperaddOptions(Section):
    """SuperADD (arXiv 2605.14808): distance to the nearest token in a bank of normal tokens."""

    bank_size: Annotated[int, at_most(10_000_000, "A larger memory bank does not fit into memory.")] = Field(
        100_000, description="Largest number of tokens in the memory bank of each block."
    )
    rounds: Annotated[int, at_most(100_000, "Each subset costs a pass over its tokens.")] = Field(
        100, description="Number of random subsets; each contributes an equal part of the memory bank."
    )
    neighbors: Annotated[int, at_most(100_000, "A subset has no more tokens.")] = Field(
        100, description="Nearest neighbors considered when thinning a subset."
    )
    radius_growth: Annotated[float, Bounds("The first step would remove nearly all tokens.", ge=1.001, le=100)] = Field(
        1.1,
        description="Factor by which the thinning radius grows per step, until few enough tokens remain.",
    )
    brightness_jitter: Fraction = Field(
        0.2, description="Training tiles are brightened by a random factor between 1 - jitter and 1 + jitter."
    )
    seed: Seed = Field(0, description="Seed of the subsets, their thinning, the brightness and random weights.")
    memory_gb: MemoryGb = Field(
        4.0,
        description="Memory for training tokens on the computing device, in gigabytes. With less, tiles are encoded "
        "more often.",
    )
