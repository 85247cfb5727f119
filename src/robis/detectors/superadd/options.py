"""Options of Superadd."""

from __future__ import annotations

from pydantic import Field

from robis.config.sections import Count, Section, Seed


class SuperaddOptions(Section):
    """SuperADD (arXiv 2605.14808): the distance to the nearest of a bank of normal tokens."""

    bank_size: Count = Field(100_000, description="Most tokens in the bank of each block.")
    rounds: Count = Field(
        100, description="Random parts of the training tokens, each of which gives its share of the bank."
    )
    neighbors: Count = Field(100, description="Nearest tokens of a part that may keep a token out of the bank.")
    radius_growth: float = Field(
        1.1, gt=1, description="Factor by which the radius grows within which they do, until few enough tokens remain."
    )
    brightness_jitter: float = Field(
        0.2, ge=0, le=1, description="Training tiles are brightened by a random factor of 1 - jitter to 1 + jitter."
    )
    seed: Seed = Field(0, description="Seed of parts, choice, brightness and random weights.")
    memory_gb: float = Field(
        4.0,
        gt=0,
        description="Memory for training tokens on the computing device, gigabytes; with less the tiles are encoded "
        "more often.",
    )
