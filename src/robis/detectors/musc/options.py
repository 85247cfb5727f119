"""Options of Musc."""

from __future__ import annotations

from typing import Annotated

from pydantic import Field, field_validator

from robis.config.sections import Count, Section, Share


class MuscOptions(Section):
    """MuSc (arXiv 2401.16753): the images of a split score each other; no training images needed."""

    neighborhood_sizes: Annotated[list[Annotated[int, Field(ge=1)]], Field(min_length=1)] = Field(
        [1, 3, 5], description="Sides of the token neighborhoods (LNAMD), odd numbers."
    )
    averaged_fraction: Annotated[list[Share], Field(min_length=2, max_length=2)] = Field(
        [0.0, 0.3], description="Which of the distances to the other images are averaged: shares of the sorted ones."
    )
    subsets: Count = Field(1, description="Random parts of a split that are scored separately; 1: all together.")
    seed: int = Field(0, ge=0, description="Seed of the subsets and of random weights.")
    memory_gb: float = Field(
        4.0, gt=0, description="Memory for features and distances on the computing device, gigabytes."
    )

    @field_validator("neighborhood_sizes")
    @classmethod
    def _odd(cls, value: list[int]) -> list[int]:
        if any(side % 2 == 0 for side in value):
            raise ValueError("odd numbers")
        return value

    @field_validator("averaged_fraction")
    @classmethod
    def _ascends(cls, value: list[float]) -> list[float]:
        if value[0] >= value[1]:
            raise ValueError("two shares, the lower first")
        return value
