"""Options that detectors with a memory bank share."""

from __future__ import annotations

from typing import Annotated

from pydantic import Field

from robis.config.types import Bounds, Text, larger

SmoothingSigma = Annotated[
    float,
    Bounds("A wider Gaussian leaves nothing but the mean.", ge=0, le=100),
    Field(
        description="Sigma of the Gaussian that smooths maps, in map pixels. 0: no smoothing.",
        json_schema_extra=larger("fewer specks; blurred borders"),
    ),
]
AllowedRegions = Annotated[
    Text | None,
    Field(
        description="Table of regions that count as normal, such as false alarms that a person has confirmed: their "
        "tokens join the memory bank. A CSV with the columns category, image (below dataset.root) and mask (beside the "
        "CSV), as `robis review apply --allow` writes it. null: none."
    ),
]
