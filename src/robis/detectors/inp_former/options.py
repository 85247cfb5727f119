"""Options of InpFormer."""

from __future__ import annotations

from typing import Literal

from pydantic import Field

from robis.config.sections import Count, Section


class InpFormerOptions(Section):
    """INP-Former (arXiv 2503.02424), one model per category."""

    weights: str | None = Field(
        None,
        description="Trained model to use instead of training: a .pth or .safetensors file in the key names of the "
        "public INP-Former and RoBiS code, {category} in its path replaced; null: train.",
    )
    prototypes: Count = Field(6, description="Number of intrinsic normal prototypes.")
    epochs: Count = Field(200, description="Passes over the training tiles.")
    batch_size: Count = Field(16, description="Tiles per training step.")
    learning_rate: float = Field(1e-3, gt=0, description="Highest learning rate.")
    final_learning_rate: float = Field(1e-4, ge=0, description="Learning rate after the last step.")
    warmup_steps: int = Field(100, ge=0, description="Steps of linear rise to the highest learning rate.")
    weight_decay: float = Field(1e-4, ge=0, description="Decoupled weight decay.")
    gradient_clip: float = Field(0.1, gt=0, description="Largest norm of the gradient of all parameters.")
    coherence_weight: float = Field(0.2, ge=0, description="Weight of the INP coherence loss.")
    mining_power: float = Field(3.0, ge=0, description="Exponent of soft mining; 0: every location counts the same.")
    augment: bool = Field(True, description="Random exposure and noise on the training tiles (RoBiS).")
    seed: int = Field(0, ge=0, description="Seed of initial weights, order and augmentation.")
    precision: Literal["float32", "bf16"] = Field(
        "float32", description="Arithmetic on a GPU; the CPU always uses float32."
    )
    compile: bool = Field(False, description="torch.compile on a GPU; the CPU never compiles.")
    checkpoint_every: Count = Field(10, description="Epochs between two resumable states.")
