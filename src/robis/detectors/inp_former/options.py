"""Options of INP-Former."""

from __future__ import annotations

from typing import Annotated

from pydantic import Field

from robis.config.section import Section
from robis.config.types import Bounds, Seed, Text, at_most, larger
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


class InpFormerOptions(Section):
    """INP-Former (arXiv 2503.02424): one model per category."""

    weights: Text | None = Field(
        None,
        description="Trained model to use instead of training: a .pth or .safetensors file with the key names of the "
        "public INP-Former and RoBiS code; {category} in the path is replaced. null: train.",
    )
    prototypes: Annotated[int, at_most(1000, "Prototypes summarize a tile, which has about 1,000 tokens.")] = Field(
        6,
        description="Number of intrinsic normal prototypes.",
        json_schema_extra=larger("more kinds of normal texture are known; defects are reconstructed better too"),
    )
    epochs: Annotated[int, at_most(100_000, "Training would take years.")] = Field(
        200,
        description="Passes over the training tiles.",
        json_schema_extra=larger("longer training; normal images are reconstructed better"),
    )
    batch_size: TrainingBatch = 16
    learning_rate: LearningRate = 1e-3
    final_learning_rate: FinalLearningRate = 1e-4
    warmup_steps: WarmupSteps = 100
    weight_decay: WeightDecay = 1e-4
    gradient_clip: GradientClip = 0.1
    coherence_weight: Annotated[float, Bounds("The coherence loss would hide the other.", ge=0, le=1000)] = Field(
        0.2,
        description="Weight of the INP coherence loss.",
        json_schema_extra=larger("prototypes follow the tokens of a tile more closely"),
    )
    mining_power: Annotated[float, Bounds("Higher powers are not representable in float32.", ge=0, le=100)] = Field(
        3.0,
        description="Exponent of soft mining. 0: all locations count the same.",
        json_schema_extra=larger("training concentrates on the places that are reconstructed worst"),
    )
    augment: Augment = True
    seed: Seed = Field(0, description="Seed of initial weights, order of tiles and augmentation.")
    precision: TrainingPrecision = "float32"
    compile: Compile = False
    checkpoint_every: Annotated[int, at_most(100_000, "Training has at most 100,000 epochs.")] = Field(
        10,
        description="Epochs between saved states from which training can resume.",
        json_schema_extra=larger("fewer writes; a crash loses more work"),
    )
