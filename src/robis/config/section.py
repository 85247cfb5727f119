"""What the sections of a config have in common, and the names that become folders of results."""

from __future__ import annotations

from typing import Annotated, Literal

from pydantic import AfterValidator, BaseModel, ConfigDict, Field

from robis.io.names import composed, folder_problem

Precision = Literal["float32", "bf16", "fp16"]


def _folder_name(name: str) -> str:
    """Give a name in composed Unicode, as names are compared; raise ValueError where results cannot have it."""
    if reason := folder_problem(composed(name)):
        raise ValueError(f"a name for a folder of results; this name {reason}")
    return composed(name)


Name = Annotated[str, Field(pattern=r"^[^/\\{}<>]+$"), AfterValidator(_folder_name)]
DatasetName = Annotated[str, Field(pattern=r"^[^\s./\\{}<>]([^/\\{}<>]*[^\s./\\{}<>])?$"), AfterValidator(_folder_name)]


class Section(BaseModel):
    """What all sections have in common: no unknown keys, no conversions, finite numbers, no changes."""

    model_config = ConfigDict(extra="forbid", frozen=True, strict=True, allow_inf_nan=False)
