"""What every encoder offers: 8-bit tiles in, tokens of chosen layers on one grid out."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import torch
from torch import Tensor, nn

from robis.encoders.weights import read_state
from robis.errors import ConfigError


@dataclass(frozen=True)
class TokenLayout:
    """What the tokens of an encoder look like.

    Attributes:
        blocks: 0-based indexes of the layers, ascending: blocks of a transformer, stages of a CNN.
        widths: channels of a token, for each layer.
        heads: attention heads that a detector built on these tokens has.
        grid: tokens along one side, g. Token (i, j) stands for the cell (i, j) of a g x g grid over the tile.
        input_size: side of the tile in pixels.
        prefix: class and register tokens that precede those of the grid.
    """

    blocks: tuple[int, ...]
    widths: tuple[int, ...]
    heads: int
    grid: int
    input_size: int
    prefix: int = 0


@dataclass(frozen=True)
class Choice:
    """Which encoder to make: the arguments of `robis.encoders.build.build_encoder`, which explains them."""

    name: str
    weights: str = "auto"
    sha256: str | None = None
    input_size: int | None = None
    blocks: Sequence[int] | None = None
    by_depth: Callable[[int], Sequence[int]] | None = None
    seed: int = 0
    equal_widths: bool = False
    geometry: Sequence[Sequence[float]] | None = None
    on_grid: bool = True

    @property
    def drawn(self) -> int | None:
        """The seed of random weights; None where weights are loaded."""
        return self.seed if self.weights == "random" else None


class Encoder(nn.Module, ABC):
    """A frozen network in evaluation mode that turns 8-bit tiles into the tokens of chosen layers.

    Attributes: those of `TokenLayout`, `width`, and
        geometry: what was measured of the network and `build_encoder` takes instead of measuring; None for nothing.
    """

    mean: Tensor
    std: Tensor
    geometry: Sequence[Sequence[float]] | None = None

    def __init__(self, layout: TokenLayout, mean: Sequence[float], std: Sequence[float]) -> None:
        super().__init__()
        self.blocks, self.widths, self.heads = layout.blocks, layout.widths, layout.heads
        self.grid, self.input_size, self.prefix = layout.grid, layout.input_size, layout.prefix
        self.register_buffer("mean", torch.tensor(mean).view(1, 3, 1, 1), persistent=False)
        self.register_buffer("std", torch.tensor(std).view(1, 3, 1, 1), persistent=False)

    @property
    def width(self) -> int:
        """Channels C of a token. Raises ValueError where layers differ (see `equal_widths` of `build_encoder`)."""
        if len(set(self.widths)) > 1:
            raise ValueError(f"the layers have {self.widths} channels: ask for `widths`, or build with `equal_widths`")
        return self.widths[0]

    def train(self, mode: bool = True) -> Encoder:
        """Stay in evaluation mode: the encoder is frozen."""
        return super().train(False)

    @torch.no_grad()
    def forward(self, tiles: Tensor) -> list[Tensor]:
        """Tokens of the chosen layers.

        Args:
            tiles: uint8 or float (B, s, s, 3) RGB, range 0..255.

        Returns:
            One (B, g*g, C) tensor per layer, rows of the grid one after the other.
        """
        return self._tokens(self._normalized(tiles))

    @torch.no_grad()
    def with_prefix(self, tiles: Tensor) -> list[Tensor]:
        """Tokens of the chosen layers after the class and register tokens, where the network has them.

        Args:
            tiles: uint8 or float (B, s, s, 3) RGB, range 0..255.

        Returns:
            One (B, prefix + g*g, C) tensor per layer.
        """
        return self._tokens_with_prefix(self._normalized(tiles))

    @torch.no_grad()
    def with_embedding(self, tiles: Tensor) -> tuple[list[Tensor], Tensor]:
        """Tokens of the chosen layers as MuSc takes them, and one embedding (B, D) of each tile.

        Args:
            tiles: uint8 or float (B, s, s, 3) RGB, range 0..255.

        Returns:
            One (B, g*g, C) tensor per layer, and (B, D).
        """
        tokens, embedding = self._tokens_and_embedding(self._normalized(tiles))
        # A view of all tokens would keep them in memory for as long as the embedding.
        return tokens, embedding.clone()

    @torch.no_grad()
    def layer_maps(self, tiles: Tensor) -> list[Tensor]:
        """Outputs of the chosen layers as the network has them: a CNN's neither averaged nor on one grid.

        Args:
            tiles: uint8 or float (B, s, s, 3) RGB, range 0..255.

        Returns:
            One (B, C, h, w) tensor per layer, a ViT's on the grid of its patches.
        """
        return self._layer_maps(self._normalized(tiles))

    @abstractmethod
    def load_weights(self, state: Mapping[str, Tensor], *, source: str, name: str) -> None:
        """Load weights in the key names of the library or of the model's own repository.

        Args:
            state: as `read_state` gives it.
            source: config key and file, for messages.
            name: the encoder's, for messages.

        Raises:
            WeightsError: naming the first key that does not fit.
        """

    @abstractmethod
    def _tokens(self, images: Tensor) -> list[Tensor]:
        """Tokens of normalized images (B, 3, s, s)."""

    def _tokens_with_prefix(self, images: Tensor) -> list[Tensor]:
        """Tokens of normalized images (B, 3, s, s), class and register tokens first."""
        return self._tokens(images)

    @abstractmethod
    def _tokens_and_embedding(self, images: Tensor) -> tuple[list[Tensor], Tensor]:
        """Tokens and embeddings of normalized images (B, 3, s, s)."""

    def _layer_maps(self, images: Tensor) -> list[Tensor]:
        """Outputs of the layers for normalized images (B, 3, s, s)."""
        return [tokens.transpose(1, 2).unflatten(2, (self.grid, self.grid)) for tokens in self._tokens(images)]

    def _normalized(self, tiles: Tensor) -> Tensor:
        return tiles.permute(0, 3, 1, 2).to(self.mean.dtype).div(255).sub(self.mean).div(self.std)


def load_chosen_weights(choice: Choice, load: Callable[..., None]) -> None:
    """Read the local file that `weights` names, if it names one, and hand it to a function such as `load_weights`."""
    if choice.weights not in ("auto", "random"):
        state = read_state(Path(choice.weights), sha256=choice.sha256, key="encoder.weights")
        load(state, source=f"encoder.weights: {choice.weights}", name=choice.name)


def check_blocks(blocks: Sequence[int], depth: int, name: str) -> tuple[int, ...]:
    """The layers, if they ascend and the model has them; otherwise raises ConfigError."""
    chosen = tuple(blocks)
    if not chosen or sorted(set(chosen)) != list(chosen) or chosen[0] < 0 or chosen[-1] >= depth:
        raise ConfigError(
            f"encoder.blocks: found {list(chosen)}; expected ascending numbers from 0 to {depth - 1} for {name}."
        )
    return chosen
