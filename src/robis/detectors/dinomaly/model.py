"""Dinomaly (arXiv 2405.14325): the model and its loss.

The names of the parameters are those of the public code.
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from robis.detectors.reconstruction.loss import mined_loss
from robis.detectors.reconstruction.network import (
    Block,
    Mlp,
    Reconstruction,
    float32,
    full_precision,
    initialize_linear,
    two_groups,
)
from robis.encoders.encoder import Encoder


class Bottleneck(Mlp):
    """C -> 4C -> C with GELU, and dropout before, between and after the layers: the only noise of the training."""

    def __init__(self, width: int, dropout: float) -> None:
        super().__init__(width)
        self.drop = nn.Dropout(dropout)

    def forward(self, x: Tensor) -> Tensor:
        hidden = F.gelu(self.fc1(self.drop(x)))
        return self.drop(self.fc2(self.drop(hidden)))


class LinearAttention(nn.Module):
    """q (k^T v) / (q . sum k) with q, k = elu(.) + 1: it cannot attend to one place alone (paper section 3.3)."""

    def __init__(self, width: int, heads: int) -> None:
        super().__init__()
        self.heads = heads
        self.qkv = nn.Linear(width, 3 * width)
        self.proj = nn.Linear(width, width)

    def forward(self, x: Tensor) -> Tensor:
        q, k, v = self.qkv(x).unflatten(-1, (3, self.heads, -1)).permute(2, 0, 3, 1, 4)
        # Sums over all tokens need float32.
        with float32(x):
            q, k, v = (full_precision(part) for part in (q, k, v))
            q, k = F.elu(q) + 1, F.elu(k) + 1
            total = q @ k.sum(-2).unsqueeze(-1)
            attended = q @ (k.transpose(-2, -1) @ v) / total
        return self.proj(attended.transpose(1, 2).flatten(2).to(x.dtype))


class DecoderBlock(Block):
    """A transformer block with residuals around attention and MLP."""

    def forward(self, x: Tensor) -> Tensor:
        x = x + self.attn(self.norm1(x))
        return x + self.mlp(self.norm2(x))


class Dinomaly(Reconstruction):
    """A model around a frozen encoder.

    Trainable: `bottleneck`, and `decoder`, as many blocks as the encoder gives. Class and register tokens go through
    both, and are dropped before maps are compared.
    Raises ConfigError for a single block, since blocks are compared in two groups.
    """

    def __init__(self, encoder: Encoder, dropout: float = 0.2) -> None:
        super().__init__(encoder, "Dinomaly")
        width, heads = encoder.width, encoder.heads
        self.bottleneck = nn.ModuleList([Bottleneck(width, dropout)])
        self.decoder = nn.ModuleList([DecoderBlock(width, LinearAttention(width, heads)) for _ in encoder.blocks])

    def forward(self, tiles: Tensor, kept: Tensor | None = None) -> tuple[list[Tensor], list[Tensor]]:
        """Both encoder maps and both decoder maps, (B, g*g, C) each: see `compare`."""
        return self.compare(tiles)

    def compare(self, tiles: Tensor) -> tuple[list[Tensor], list[Tensor]]:
        encoded = self.in_parts(lambda part: two_groups(self.encoder.with_prefix(part)), tiles)
        decoded = self.rebuild((encoded[0] + encoded[1]) / 2)
        prefix = self.encoder.prefix
        return [tokens[:, prefix:] for tokens in encoded], [tokens[:, prefix:] for tokens in decoded]

    def rebuild(self, x: Tensor) -> list[Tensor]:
        """Both decoder maps (B, T, C) from the mean (B, T, C) of the encoder's tokens."""
        for mlp in self.bottleneck:
            x = mlp(x)
        rebuilt = []
        for block in self.decoder:
            x = block(x)
            rebuilt.append(x)
        rebuilt.reverse()
        return two_groups(rebuilt)


def initialize(model: Dinomaly, seed: int) -> None:
    """Start weights: linear layers trunc_normal(std 0.01, cut at +-0.03), biases 0."""
    initialize_linear((model.bottleneck, model.decoder), torch.Generator().manual_seed(seed))


@dataclass(frozen=True)
class DinomalyLoss:
    """1 - cosine of whole maps, with a smaller gradient where they are rebuilt best (paper section 3.4).

    Attributes:
        fraction: of the locations of a batch that count less, once it has risen.
        weight: factor of their gradient.
        rise: steps over which the fraction rises linearly from 0.
    """

    fraction: float = 0.9
    weight: float = 0.1
    rise: int = 1000

    def __call__(
        self, outputs: tuple[list[Tensor], list[Tensor]], step: int, kept: Tensor | None = None
    ) -> tuple[Tensor, Tensor]:
        """The loss of a 0-based step, a scalar, given both encoder and decoder maps; and NaN: no coherence loss.

        kept: see `mined_loss`.
        """
        easy = min(self.fraction, self.fraction * step / self.rise)
        loss = mined_loss(*outputs, lambda distance: self.factors(distance, easy), kept)
        return loss, loss.new_full((), torch.nan)

    def factors(self, distance: Tensor, easy: float) -> Tensor:
        """Factors of the gradient: `weight` below the smallest of the highest (1 - easy) distances, else 1."""
        hard = max(1, int(distance.numel() * (1 - easy)))
        threshold = distance.flatten().topk(hard).values[-1]
        return torch.where(distance < threshold, self.weight, 1.0)
