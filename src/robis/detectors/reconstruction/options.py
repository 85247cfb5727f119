"""Options that trainings have in common, with their descriptions; each detector gives its own defaults."""

from __future__ import annotations

from typing import Annotated, Literal

from pydantic import Field

from robis.config.types import BatchSize, Bounds, at_most, larger

TrainingBatch = Annotated[
    BatchSize,
    Field(
        description="Tiles per training step.",
        json_schema_extra=larger("fewer and steadier steps; more memory"),
    ),
]
LearningRate = Annotated[
    float,
    Bounds("Training diverges with larger steps.", gt=0, le=1000),
    Field(
        description="Peak learning rate.",
        json_schema_extra=larger("faster learning; too large, and the loss is not finite"),
    ),
]
FinalLearningRate = Annotated[
    float,
    Bounds("Training diverges with larger steps.", ge=0, le=1000),
    Field(
        description="Learning rate at the last step.", json_schema_extra=larger("the last steps change the model more")
    ),
]
WarmupSteps = Annotated[
    int,
    at_most(10_000_000, "Training would end before the warm-up.", least=0),
    Field(
        description="Steps over which the learning rate rises linearly to its peak.",
        json_schema_extra=larger("a slower and safer start"),
    ),
]
WeightDecay = Annotated[
    float,
    Bounds("A larger decay erases the weights at once.", ge=0, le=1000),
    Field(
        description="Decoupled weight decay.",
        json_schema_extra=larger("smaller weights, a simpler model"),
    ),
]
GradientClip = Annotated[
    float,
    Bounds("A larger limit never applies.", gt=0, le=1_000_000),
    Field(
        description="Largest norm of the gradient of all parameters; a larger gradient is scaled down.",
        json_schema_extra=larger("single large gradients change the model more"),
    ),
]
Augment = Annotated[bool, Field(description="Whether to change exposure and add noise to training tiles at random.")]
TrainingPrecision = Annotated[
    Literal["float32", "bf16"],
    Field(description="Number format of training on a GPU. The CPU always uses float32."),
]
Compile = Annotated[bool, Field(description="Whether to use torch.compile on a GPU. The CPU never does.")]
