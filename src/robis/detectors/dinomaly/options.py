"""Options of Dinomaly."""

from __future__ import annotations

from typing import Annotated, Literal

from pydantic import Field

from robis.config.section import Section
from robis.config.types import Bounds, Fraction, Seed, at_most, larger
from robis.detectors.reconstruction.options import (
    Augment,
    Compile,
    FinalLearningRate,
    GradientClip,
    LearningRate,
    TrainingBatch,
    TrainingPrecision,
    WarmupSteps,
    WeightDecay,
)

MOST_STEPS = 100_000_000


class DinomalyOptions(Section):
    """Dinomaly (arXiv 2405.14325): one model per category, or one for all."""

    scope: Literal["category", "all"] = Field(
        "category",
        description="What a model covers. category: one model per category. all: one model, trained on the training "
        "images of all categories of dataset.categories (published).",
    )
    steps: Annotated[int, at_most(MOST_STEPS, "Training would take years.")] | None = Field(
        None,
        description="Training steps. null: the published 5000, or 10000 with scope: all.",
        json_schema_extra=larger("longer training; normal images are reconstructed better"),
    )
    batch_size: TrainingBatch = 16
    learning_rate: LearningRate = 2e-3
    final_learning_rate: FinalLearningRate = 2e-4
    warmup_steps: WarmupSteps = 100
    weight_decay: WeightDecay = 1e-4
    gradient_clip: GradientClip = 0.1
    dropout: Annotated[float, Bounds("Nothing would be left to learn from.", ge=0, le=0.99)] = Field(
        0.2,
        description="Fraction of the bottleneck's values that are set to 0 in a training step.",
        json_schema_extra=larger("defects are reconstructed less, normal images too"),
    )
    easy_fraction: Annotated[float, Bounds("Some locations have to count in full.", ge=0, le=0.999)] = Field(
        0.9,
        description="Fraction of the locations, the best rebuilt ones, whose gradient is reduced.",
        json_schema_extra=larger("training concentrates on the places that are reconstructed worst"),
    )
    easy_weight: Fraction = Field(
        0.1,
        description="Factor of the gradient at these locations.",
        json_schema_extra=larger("the best rebuilt locations count more"),
    )
    easy_steps: Annotated[int, at_most(MOST_STEPS, "Training has at most 100,000,000 steps.")] = Field(
        1000,
        description="Steps over which this fraction rises from 0.",
        json_schema_extra=larger("all locations count the same for longer"),
    )
    augment: Augment = False
    seed: Seed = Field(0, description="Seed of initial weights, order of tiles, dropout and augmentation.")
    precision: TrainingPrecision = "float32"
    compile: Compile = False
    checkpoint_every: Annotated[int, at_most(MOST_STEPS, "Training has at most 100,000,000 steps.")] = Field(
        500,
        description="Steps between saved states from which training can resume.",
        json_schema_extra=larger("fewer writes; a crash loses more work"),
    )
