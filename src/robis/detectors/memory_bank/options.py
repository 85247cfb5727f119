"""Options that detectors with a memory bank share."""

from __future__ import annotations

from typing import Annotated

from pydantic import Field

from robis.config.types import Bounds, larger

SmoothingSigma = Annotated[
    float,
    Bounds("A wider Gaussian leaves nothing but the mean.", ge=0, le=100),
    Field(
        description="Sigma of the Gaussian that smooths maps, in map pixels. 0: no smoothing.",
        json_schema_extra=larger("fewer specks; blurred borders"),
    ),
]
