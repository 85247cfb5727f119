"""Options of AnomalyDINO."""

from __future__ import annotations

from typing import Annotated

from pydantic import Field

from robis.config.section import Section
from robis.config.types import at_most, larger
from robis.detectors.few_shot import References, Seeds, Shots
from robis.detectors.memory_bank.options import AllowedRegions, SmoothingSigma


class AnomalydinoOptions(Section):
    """AnomalyDINO (arXiv 2405.14529): cosine distance to the nearest token of one or more normal images."""

    shots: Shots = Field(
        0,
        description="Number of normal reference images, 0: all training images; a list makes one run per number, such "
        "as [1, 2, 4].",
        json_schema_extra=larger("normal looks are known better; more time and memory"),
    )
    seeds: Seeds = 0
    references: References = Field([])
    rotations: Annotated[int, at_most(359, "More copies differ by less than a degree.", least=0)] = Field(
        7,
        description="Rotated copies that join each tile of a reference image, in equal steps of a whole turn: 7 make "
        "steps of 45 degrees. None join all images.",
        json_schema_extra=larger("other orientations count as normal; more time and memory"),
    )
    allow: AllowedRegions = None
    smoothing_sigma: SmoothingSigma = 4.0
