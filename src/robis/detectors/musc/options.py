"""Options of MuSc."""

from __future__ import annotations

from typing import Annotated

from pydantic import Field, field_validator

from robis.config.section import Section
from robis.config.types import Fraction, MemoryGb, Seed, at_most, larger, odd


class MuscOptions(Section):
    """MuSc (arXiv 2401.16753): the images of a split score each other; no training images needed."""

    neighborhood_sizes: Annotated[
        list[Annotated[int, at_most(255, "A tile has at most 292 tokens per side.")]], Field(min_length=1)
    ] = Field(
        [1, 3, 5],
        description="Sides of the square neighborhoods over which tokens are averaged, odd numbers.",
        json_schema_extra=larger("large defects stand out, small ones blur"),
    )
    averaged_fraction: Annotated[list[Fraction], Field(min_length=2, max_length=2)] = Field(
        [0.0, 0.3],
        description="Fraction of the sorted distances to other images to average, as [low, high].",
        json_schema_extra=larger("defects that several images share are found; rare normal looks become false alarms"),
    )
    subsets: Annotated[int, at_most(100_000, "A subset needs at least two images.")] = Field(
        1,
        description="Number of random subsets of a split that are scored separately. 1: all images together.",
        json_schema_extra=larger("less time and memory; each image is compared with fewer others"),
    )
    seed: Seed = Field(0, description="Seed of the subsets, the reference images and random weights.")
    memory_gb: MemoryGb = Field(
        4.0,
        description="Memory for features and distances on the computing device, in gigabytes.",
        json_schema_extra=larger("faster; the same maps"),
    )
    reference_images: Annotated[int, at_most(100_000, "More tokens do not fit into a pack.", least=2)] = Field(
        32,
        description="Number of images of the inspected split that a pack compares new images with, chosen at random. "
        "Fewer if their tokens would take more than 2 GB.",
        json_schema_extra=larger("scores of packs closer to the run's; larger packs, slower inspection"),
    )

    @field_validator("neighborhood_sizes")
    @classmethod
    def _odd(cls, value: list[int]) -> list[int]:
        return odd(value)

    @field_validator("averaged_fraction")
    @classmethod
    def _ascends(cls, value: list[float]) -> list[float]:
        if value[0] >= value[1]:
            raise ValueError("two fractions, the lower first")
        return value
