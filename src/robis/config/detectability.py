"""The section `detectability`: synthetic defects whose sizes are to be found."""

from __future__ import annotations

from typing import Annotated, Literal

from pydantic import Field, field_validator

from robis.config.section import Section
from robis.config.types import Bounds, Seed, Text, at_most, larger, unique

DefectKind = Literal["scratch", "pit", "stain", "texture", "missing", "blur"]


class Detectability(Section):
    """Synthetic defects on held-out good images (target `detectability`).

    Time grows with kinds x contrasts x sizes x defects_per_size: each defect is one inspected image.
    """

    kinds: list[DefectKind] = Field(
        ["scratch", "pit", "stain", "texture", "missing", "blur"],
        description="Kinds of defects, each with its own curve. texture: a patch of foreign grain. missing: a patch "
        "filled in from its surroundings. blur: a patch out of focus.",
    )
    sizes: (
        Annotated[
            list[Annotated[float, Bounds("No image is larger.", ge=1, le=100_000)]], Field(min_length=2, max_length=50)
        ]
        | None
    ) = Field(
        None,
        description="Sizes of defects in pixels of the image, ascending: the length of a scratch, otherwise the "
        "diameter of the circle of equal area. null: eight sizes, from half a pixel of the map, or of a tile as the "
        "encoder sees it, to 64 times that or two fifths of the smallest image's shorter side.",
        json_schema_extra=larger("larger defects are tried"),
    )
    contrasts: Annotated[
        list[Annotated[int, at_most(128, "Larger differences leave the range of 0 to 255.")]], Field(min_length=1)
    ] = Field(
        [40],
        description="Differences from the image in gray levels of 0 to 255, each with its own curve (scratch, pit, "
        "stain, texture).",
        json_schema_extra=larger("smaller defects are found"),
    )
    defects_per_size: Annotated[int, at_most(10_000, "Each defect is one more inspected image.")] = Field(
        8,
        description="Number of defects per kind, contrast and size. MIL-HDBK-1823A asks for at least 60 per curve.",
        json_schema_extra=larger("a tighter bound on the size; more time"),
    )
    pixel_size: Annotated[float, Bounds("No camera sees a kilometer per pixel.", gt=0, le=1_000_000)] | None = Field(
        None, description="Millimeters per pixel of the image, so that sizes are also given in millimeters."
    )
    crops: Text | None = Field(
        None,
        description="Folder of PNG files with an alpha channel, opaque on a defect: defects of your own, which are "
        "scaled to the sizes. They get one more curve.",
    )
    seed: Seed = Field(0, description="Seed of the defects' shapes and places.")

    @field_validator("kinds")
    @classmethod
    def _each_once(cls, value: list[DefectKind]) -> list[DefectKind]:
        unique([str(kind) for kind in value])
        return value

    @field_validator("contrasts")
    @classmethod
    def _each_contrast_once(cls, value: list[int]) -> list[int]:
        # The same defects twice would count as more evidence.
        if len(set(value)) < len(value):
            raise ValueError("different numbers")
        return value

    @field_validator("sizes")
    @classmethod
    def _ascend(cls, value: list[float] | None) -> list[float] | None:
        if value is not None and sorted(set(value)) != value:
            raise ValueError("ascending numbers")
        return value
