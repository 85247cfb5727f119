"""Options of SuperADD."""

from __future__ import annotations

from typing import Annotated

from pydantic import Field

from robis.config.section import Section
from robis.config.types import Bounds, Fraction, MemoryGb, Seed, at_most, larger
from robis.detectors.memory_bank.options import AllowedRegions


class SuperaddOptions(Section):
    """SuperADD (arXiv 2605.14808): distance to the nearest token in a bank of normal tokens."""

    bank_size: Annotated[int, at_most(10_000_000, "A larger memory bank does not fit into memory.")] = Field(
        100_000,
        description="Largest number of tokens in the memory bank of each block.",
        json_schema_extra=larger("fewer false alarms on rare normal looks; more time and memory"),
    )
    rounds: Annotated[int, at_most(100_000, "Each subset costs a pass over its tokens.")] = Field(
        100,
        description="Number of random subsets; each contributes an equal part of the memory bank.",
        json_schema_extra=larger("a faster choice of tokens, from smaller subsets"),
    )
    redraw_subsets: bool = Field(
        False,
        description="Whether each subset is drawn from all tokens not kept so far (published). Tokens that do not fit "
        "into memory_gb then wait on the disk. false: every token is in one subset, the same for all blocks, so that "
        "tokens need not be stored.",
    )
    neighbors: Annotated[int, at_most(100_000, "A subset has no more tokens.")] = Field(
        100,
        description="Nearest neighbors considered when thinning a subset.",
        json_schema_extra=larger("a more even choice of tokens; more time"),
    )
    radius_growth: Annotated[float, Bounds("The first step would remove nearly all tokens.", ge=1.001, le=100)] = Field(
        1.1,
        description="Factor by which the thinning radius grows per step, until few enough tokens remain.",
        json_schema_extra=larger("a faster and less even choice of tokens"),
    )
    brightness_jitter: Fraction = Field(
        0.2,
        description="Training tiles, or images with tiling.window joined, are brightened by a random factor between "
        "1 - jitter and 1 + jitter.",
        json_schema_extra=larger("changes of light are ignored more, dark and bright defects too"),
    )
    smoothing_sigma: Annotated[float, Bounds("A wider Gaussian leaves nothing but the mean.", ge=0, le=100)] = Field(
        4.0,
        description="Sigma of the Gaussian that smooths maps, in map pixels. 0: no smoothing (published).",
        json_schema_extra=larger("fewer specks; blurred borders"),
    )
    allow: AllowedRegions = None
    seed: Seed = Field(0, description="Seed of the subsets, their thinning, the brightness and random weights.")
    memory_gb: MemoryGb = Field(
        4.0,
        description="Memory for training tokens on the computing device, in gigabytes. With less, tiles are encoded "
        "more often, or tokens wait on the disk (redraw_subsets).",
        json_schema_extra=larger("faster; the same memory bank"),
    )
