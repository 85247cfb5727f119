"""What networks that rebuild the tokens of a frozen encoder have in common. Needs no tables and no workflow."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Callable, Sequence
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from robis.encoders.encoder import Encoder
from robis.errors import ConfigError

LAYER_NORM_EPS = 1e-8
# Of a CPU, roughly; a few cores share this much.
CACHE_BYTES = 16 << 20


class Mlp(nn.Module):
    """C -> 4C -> C with GELU."""

    def __init__(self, width: int) -> None:
        super().__init__()
        self.fc1 = nn.Linear(width, 4 * width)
        self.fc2 = nn.Linear(4 * width, width)

    def forward(self, x: Tensor) -> Tensor:
        return self.fc2(F.gelu(self.fc1(x)))


class Block(nn.Module):
    """The parts of a transformer block: LayerNorm, attention, LayerNorm, MLP."""

    def __init__(self, width: int, attention: nn.Module) -> None:
        super().__init__()
        self.norm1 = nn.LayerNorm(width, eps=LAYER_NORM_EPS)
        self.attn = attention
        self.norm2 = nn.LayerNorm(width, eps=LAYER_NORM_EPS)
        self.mlp = Mlp(width)


class Reconstruction(nn.Module, ABC):
    """A model around a frozen encoder that compares what the encoder sees with what a decoder rebuilds.

    Attributes:
        encoder: its parameters are not trained and not stored.
    """

    def __init__(self, encoder: Encoder, method: str) -> None:
        super().__init__()
        blocks = len(encoder.blocks)
        if blocks < 2:
            raise ConfigError(f"encoder.blocks: found {blocks} block; {method} needs at least 2.")
        self.encoder = encoder

    @abstractmethod
    def forward(self, tiles: Tensor, kept: Tensor | None = None) -> Any:
        """What the training loss is computed from.

        Args:
            tiles: uint8 or float (B, s, s, 3) RGB, range 0..255.
            kept: bool (B, g*g), the tokens that are not ignored; None: none is.
        """

    @abstractmethod
    def compare(self, tiles: Tensor) -> tuple[list[Tensor], list[Tensor]]:
        """Both encoder maps and both decoder maps, (B, g*g, C) each, given tiles as `forward`."""

    def parts(self, tiles: Tensor) -> Sequence[Tensor]:
        """Tiles that are computed at the same time: on a CPU only as many as its caches hold the values of."""
        if tiles.device.type != "cpu":
            return [tiles]
        widest = 4 * self.encoder.width * self.encoder.grid**2 * 4  # bytes in the middle of an MLP
        return tiles.split(max(1, CACHE_BYTES // widest))

    def in_parts(self, encode: Callable[[Tensor], list[Tensor]], tiles: Tensor) -> list[Tensor]:
        """Results (B, ...) of a function that is given the tiles part by part."""
        results = [encode(part) for part in self.parts(tiles)]
        return results[0] if len(results) == 1 else [torch.cat(values) for values in zip(*results, strict=True)]

    def trainable(self) -> dict[str, Tensor]:
        """Everything that is stored of a model: parameters without the frozen encoder's, by name."""
        return {name: value for name, value in self.state_dict().items() if not name.startswith("encoder.")}


def two_groups(tokens: list[Tensor]) -> list[Tensor]:
    """Means of the first and the second half, without a copy of all. Of an odd number the second half has one more."""
    half = len(tokens) // 2
    return [sum(group[1:], group[0]) / len(group) for group in (tokens[:half], tokens[half:])]


@torch.no_grad()
def initialize_linear(parts: Sequence[nn.Module], generator: torch.Generator) -> None:
    """Start weights of linear layers: trunc_normal(std 0.01, cut at +-0.03), biases 0."""
    for part in parts:
        for layer in part.modules():
            if isinstance(layer, nn.Linear):
                nn.init.trunc_normal_(layer.weight, std=0.01, a=-0.03, b=0.03, generator=generator)
                nn.init.zeros_(layer.bias)


def float32(like: Tensor) -> torch.autocast:
    """Suspend mixed precision: 1 - cos of nearly equal vectors is what rounding leaves over in less than float32."""
    return torch.autocast(like.device.type, enabled=False)


def full_precision(x: Tensor) -> Tensor:
    """Half precision as float32; anything else as it is."""
    return x.float() if x.dtype in (torch.bfloat16, torch.float16) else x
