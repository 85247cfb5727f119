"""Options of the toy detector."""

from __future__ import annotations

from pydantic import Field

from robis.config.section import Section


class ToyOptions(Section):
    """The distance of each pixel's gray to the mean of the normal images."""

    gain: float = Field(1.0, gt=0, le=10, description="Factor of the distances.")
