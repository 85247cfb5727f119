"""Whole images as tokens: scaled, cut into tiles for the encoder, and joined on one grid (SuperADD)."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor

from robis.detectors.batches import in_passes
from robis.detectors.jobs import Compute
from robis.encoders.devices import autocast
from robis.encoders.encoder import Encoder
from robis.errors import ConfigError
from robis.io.ignored import left_out
from robis.tiles.even import even_spans


@dataclass(frozen=True)
class Joining:
    """How an image becomes one grid of tokens.

    Attributes:
        image_scale: factor by which the image is scaled before it is cut.
        overlap: share of a tile that its neighbor covers at least.
    """

    image_scale: float
    overlap: float

    def grid(self, height: int, width: int, step: int) -> tuple[int, int]:
        """Rows and columns of tokens of an image in pixels; step: pixels of the scaled image per token."""
        rows, columns = (max(1, self._scaled(side) // step) for side in (height, width))
        return rows, columns

    def cells(
        self, pixels: np.ndarray, step: int, rule: Callable[[np.ndarray, int, int], np.ndarray] = left_out
    ) -> np.ndarray:
        """The tokens of an image that a rule of `robis.io.ignored` chooses by their pixels.

        Args:
            pixels: bool (H, W).
            step: see `grid`.
            rule: `left_out` for ignored tokens, `touched` for those that hold any marked pixel.

        Returns:
            bool (rows, columns).
        """
        height, width = (self._scaled(side) for side in pixels.shape)
        rows, columns = self.grid(pixels.shape[0], pixels.shape[1], step)
        # A scaled image that is smaller than a token lies in its upper left.
        scaled = np.zeros((max(height, step), max(width, step)), bool)
        scaled[:height, :width] = rule(pixels, height, width)
        return rule(scaled[: rows * step, : columns * step], rows, columns)

    def _scaled(self, side: int) -> int:
        return max(1, int(side * self.image_scale))

    def scaled(self, image: Tensor, brightness: float = 1.0) -> Tensor:
        """Multiply brightness, clip to 0..255, and scale: bicubic, antialiased; values may leave the range.

        Args:
            image: uint8 (H, W, 3) RGB.
            brightness: factor.

        Returns:
            float32 (3, int(H * image_scale), int(W * image_scale)).
        """
        pixels = image.permute(2, 0, 1).float()
        if brightness != 1:
            pixels = pixels.mul_(brightness).clamp_(0, 255)
        size = (self._scaled(image.shape[0]), self._scaled(image.shape[1]))
        if size == tuple(image.shape[:2]):
            return pixels
        return F.interpolate(pixels[None], size=size, mode="bicubic", align_corners=False, antialias=True)[0]


def token_side(network: Encoder) -> int:
    """Pixels of the encoder's input per token. Raises ConfigError where a tile is not a whole number of tokens."""
    step, rest = divmod(network.input_size, network.grid)
    if rest:
        raise ConfigError(
            f"encoder.input_size: found {network.input_size}, of which the encoder makes {network.grid} tokens per "
            f"side; tiling.window: joined needs tiles of whole tokens. Set a multiple of the encoder's patch or step."
        )
    return step


def joined_tokens(
    network: Encoder, image: Tensor, joining: Joining, compute: Compute, brightness: float = 1.0
) -> list[Tensor]:
    """Tokens of a whole image, each from the tile in which it lies farther inside.

    The scaled image is cut to whole tokens; one that is smaller than a tile is black beyond its right and lower border.

    Args:
        network: the encoder; its input is a tile.
        image: uint8 (H, W, 3) RGB on the encoder's device.
        joining: how.
        compute: tiles per forward pass, precision and threads.
        brightness: factor of the image.

    Returns:
        Per block (rows, columns, C), see `Joining.grid`.
    """
    step, side = token_side(network), network.input_size
    pixels = joining.scaled(image, brightness)
    grid = joining.grid(image.shape[0], image.shape[1], step)
    shared = min(network.grid - 1, round(joining.overlap * network.grid))
    rows, columns = (even_spans(tokens, network.grid, shared) for tokens in grid)
    missing = [max(0, side - length) for length in pixels.shape[1:]]
    pixels = F.pad(pixels, (0, missing[1], 0, missing[0])).permute(1, 2, 0)
    places = [(row, column) for row in rows for column in columns]
    tiles = torch.stack([pixels[step * row.start :, step * column.start :][:side, :side] for row, column in places])
    joined = [tiles.new_empty(*grid, width) for width in network.widths]
    for block, tokens in zip(joined, _tokens(network, tiles, compute), strict=True):
        for (row, column), values in zip(places, tokens.unflatten(1, (network.grid, network.grid)), strict=True):
            block[row.first : row.stop, column.first : column.stop] = values[row.inside, column.inside]
    return joined


def _tokens(network: Encoder, tiles: Tensor, compute: Compute) -> list[Tensor]:
    """Tokens of float (n, s, s, 3) tiles, per block float32 (n, g * g, C)."""
    parts = []
    with autocast(tiles.device, compute.precision):
        for batch in tiles.split(compute.batch_size):
            passes = in_passes(network, batch, compute)
            parts.append([torch.cat(block)[: len(batch)].float() for block in zip(*passes, strict=True)])
    return [torch.cat(block) for block in zip(*parts, strict=True)]
