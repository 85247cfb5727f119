"""Options of WinCLIP."""

from __future__ import annotations

from typing import Annotated

from pydantic import Field

from robis.config.section import Section
from robis.config.types import Bounds, Prompts, Text, at_most, larger
from robis.detectors.few_shot import References, Seeds, Shots


class WinclipOptions(Section):
    """WinCLIP (arXiv 2303.14814): zero-shot by language, few-shot with k normal images."""

    shots: Shots = Field(
        0,
        description="Number of normal reference images; a list makes one run per number, such as [0, 1, 2, 4].",
        json_schema_extra=larger("normal looks are known better; needs more normal images"),
    )
    seeds: Seeds = 0
    references: References = Field([])
    scales: Annotated[
        list[Annotated[int, at_most(255, "A tile has at most 292 tokens per side.", least=2)]], Field(min_length=1)
    ] = Field(
        [2, 3],
        description="Sides of the square windows, in tokens.",
        json_schema_extra=larger("larger defects stand out, small ones blur"),
    )
    temperature: Annotated[
        float, Bounds("Normal and anomalous would become equally likely everywhere.", ge=0.001, le=100)
    ] = Field(
        0.07,
        description="Temperature of the softmax over normal and anomalous.",
        json_schema_extra=larger("scores move toward one half"),
    )
    class_name: Text | None = Field(
        None, description="Name of the product in prompts. null: the category, with underscores as spaces."
    )
    normal_states: Prompts | None = Field(
        None, description="Phrases for normal products, with {} for the name. null: the 7 published ones."
    )
    anomalous_states: Prompts | None = Field(
        None, description="Phrases for defective products, with {} for the name. null: the 4 published ones."
    )
    templates: Prompts | None = Field(
        None, description="Sentences around a phrase, with {} for the phrase. null: the 21 published ones."
    )
