"""Options of SubspaceAD."""

from __future__ import annotations

from typing import Annotated

from pydantic import Field

from robis.config.section import Section
from robis.config.types import Bounds, at_most, larger
from robis.detectors.few_shot import References, Seeds, Shots


class SubspaceOptions(Section):
    """SubspaceAD (arXiv 2602.23013): distance to the principal subspace of the tokens of normal images."""

    shots: Shots = Field(
        0,
        description="Number of normal reference images, 0: all training images; a list makes one run per number, such "
        "as [1, 2, 4].",
        json_schema_extra=larger("normal looks are known better; needs more normal images"),
    )
    seeds: Seeds = 0
    references: References = Field([])
    rotations: Annotated[int, at_most(10_000, "Each copy is encoded like an image of its own.", least=0)] = Field(
        30,
        description="Randomly rotated copies that join each tile of a reference image; none join all images.",
        json_schema_extra=larger("other orientations count as normal; more time"),
    )
    explained_variance: Annotated[
        float, Bounds("A subspace with all of the variance leaves no distances.", ge=0, le=0.999999)
    ] = Field(
        0.99,
        description="Fraction of the variance of the tokens that the subspace has to hold; it gets as few dimensions "
        "as possible.",
        json_schema_extra=larger("fewer false alarms on rare normal looks; defects are nearer to the subspace too"),
    )
