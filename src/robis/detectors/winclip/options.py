"""Options of Winclip."""

from __future__ import annotations

from typing import Annotated

from pydantic import Field

from robis.config.sections import Prompts, Section, Seed, Shots


class WinclipOptions(Section):
    """WinCLIP (arXiv 2303.14814): zero-shot by language, few-shot with k normal images."""

    shots: Shots | Annotated[list[Shots], Field(min_length=1)] = Field(
        0, description="Normal reference images; a list runs every number of them: [0, 1, 2, 4]."
    )
    seeds: Seed | Annotated[list[Seed], Field(min_length=1)] = Field(
        0, description="Seed of the draw of the references; a list runs every draw: [0, 1, 2]."
    )
    references: list[str] = Field(
        [], description="sample_ids of training images to take instead of drawn ones; the first `shots` of them."
    )
    scales: Annotated[list[Annotated[int, Field(ge=2)]], Field(min_length=1)] = Field(
        [2, 3], description="Sides of the windows in tokens."
    )
    temperature: float = Field(0.07, gt=0, description="Temperature of the softmax over normal and anomalous.")
    class_name: str | None = Field(
        None, description="The product's name in the prompts; null: the category's, underscores as spaces."
    )
    normal_states: Prompts | None = Field(None, description="Phrases with {} for the name; null: the 7 published ones.")
    anomalous_states: Prompts | None = Field(
        None, description="Phrases with {} for the name; null: the 4 published ones."
    )
    templates: Prompts | None = Field(None, description="Sentences with {} for a phrase; null: the 21 published ones.")
