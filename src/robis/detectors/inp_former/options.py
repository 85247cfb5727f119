"""Options of INP-Former."""

from __future__ import annotations

from typing import Annotated, Literal

from pydantic import Field

from robis.config.sections import Section
from robis.config.types import BatchSize, Bounds, Seed, Text, at_most, larger


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
    batch_size: BatchSize = Field(
        16, description="Tiles per training step.", json_schema_extra=larger("fewer and steadier steps; more memory")
    )
    learning_rate: Annotated[float, Bounds("Training diverges with larger steps.", gt=0, le=1000)] = Field(
        1e-3,
        description="Peak learning rate.",
        json_schema_extra=larger("faster learning; too large, and the loss is not finite"),
    )
    final_learning_rate: Annotated[float, Bounds("Training diverges with larger steps.", ge=0, le=1000)] = Field(
        1e-4,
        description="Learning rate at the last step.",
        json_schema_extra=larger("the last steps change the model more"),
    )
    warmup_steps: Annotated[int, at_most(10_000_000, "Training would end before the warm-up.", least=0)] = Field(
        100,
        description="Steps over which the learning rate rises linearly to its peak.",
        json_schema_extra=larger("a slower and safer start"),
    )
    weight_decay: Annotated[float, Bounds("A larger decay erases the weights at once.", ge=0, le=1000)] = Field(
        1e-4, description="Decoupled weight decay.", json_schema_extra=larger("smaller weights, a simpler model")
    )
    gradient_clip: Annotated[float, Bounds("A larger limit never applies.", gt=0, le=1_000_000)] = Field(
        0.1,
        description="Largest norm of the gradient of all parameters; a larger gradient is scaled down.",
        json_schema_extra=larger("single large gradients change the model more"),
    )
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
    augment: bool = Field(True, description="Whether to change exposure and add noise to training tiles at random.")
    seed: Seed = Field(0, description="Seed of initial weights, order of tiles and augmentation.")
    precision: Literal["float32", "bf16"] = Field(
        "float32", description="Number format of training on a GPU. The CPU always uses float32."
    )
    compile: bool = Field(False, description="Whether to use torch.compile on a GPU. The CPU never does.")
    checkpoint_every: Annotated[int, at_most(100_000, "Training has at most 100,000 epochs.")] = Field(
        10,
        description="Epochs between saved states from which training can resume.",
        json_schema_extra=larger("fewer writes; a crash loses more work"),
    )
