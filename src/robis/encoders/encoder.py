"""A frozen vision transformer: its mean and standard deviation, and the blocks whose tokens are used."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor, nn

from robis.errors import ConfigError


class Encoder(nn.Module):
    """A ViT in evaluation mode that turns 8-bit tiles into the raw tokens of chosen blocks.

    Attributes:
        width: channels C of a token.
        heads: attention heads.
        grid: tokens along one side, g.
        input_size: side of the tile in pixels.
        blocks: 0-based indexes of the blocks, ascending.
    """

    mean: Tensor
    std: Tensor

    def __init__(
        self,
        vit: Any,
        blocks: Sequence[int],
        mean: Sequence[float],
        std: Sequence[float],
        *,
        width: int,
        heads: int,
        grid: int,
        input_size: int,
    ) -> None:
        super().__init__()
        self.vit = vit.eval().requires_grad_(False)
        self.blocks = tuple(blocks)
        self.width = width
        self.heads = heads
        self.grid = grid
        self.input_size = input_size
        self.register_buffer("mean", torch.tensor(mean).view(1, 3, 1, 1), persistent=False)
        self.register_buffer("std", torch.tensor(std).view(1, 3, 1, 1), persistent=False)

    @property
    def widths(self) -> list[int]:
        """Channels C of the tokens of each chosen block."""
        return [self.width] * len(self.blocks)

    def train(self, mode: bool = True) -> Encoder:
        """Stay in evaluation mode: the encoder is frozen."""
        return super().train(False)

    @torch.no_grad()
    def forward(self, tiles: Tensor) -> list[Tensor]:
        """Tokens of the chosen blocks, without final norm, class and register tokens dropped.

        Args:
            tiles: uint8 or float (B, s, s, 3) RGB, range 0..255.

        Returns:
            One (B, g*g, C) tensor per block.
        """
        return self.vit.forward_intermediates(
            self._normalized(tiles),
            indices=list(self.blocks),
            norm=False,
            output_fmt="NLC",
            intermediates_only=True,
            stop_early=True,
        )

    @torch.no_grad()
    def with_embedding(self, tiles: Tensor) -> tuple[list[Tensor], Tensor]:
        """Tokens of the chosen blocks after the final norm, and the image embedding, as MuSc takes them of DINO.

        Args:
            tiles: uint8 or float (B, s, s, 3) RGB, range 0..255.

        Returns:
            One (B, g*g, C) tensor per block, and the normed class tokens (B, C); the mean token of a
            model that has no class token.
        """
        images = self._normalized(tiles)
        last, tokens = self.vit.forward_intermediates(images, indices=list(self.blocks), norm=True, output_fmt="NLC")
        return tokens, last[:, 0] if self.vit.num_prefix_tokens else last.mean(dim=1)

    def _normalized(self, tiles: Tensor) -> Tensor:
        return tiles.permute(0, 3, 1, 2).to(self.mean.dtype).div(255).sub(self.mean).div(self.std)


def check_blocks(blocks: Sequence[int], depth: int, name: str) -> list[int]:
    """The blocks, if they ascend and the model has them; otherwise raises ConfigError."""
    chosen = list(blocks)
    if not chosen or sorted(set(chosen)) != chosen or chosen[-1] >= depth:
        raise ConfigError(
            f"encoder.blocks: found {chosen}; expected ascending numbers from 0 to {depth - 1} for {name}."
        )
    return chosen
