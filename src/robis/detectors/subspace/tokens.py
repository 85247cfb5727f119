"""The tokens that SubspaceAD compares, and the rotation of its reference images."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np
import torch
from PIL import Image
from torch import Tensor

from robis.detectors.rotation import Rotate
from robis.encoders.build import build_encoder
from robis.encoders.encoder import Encoder

# Degrees up to which copies are rotated, as in the public code.
MOST_ROTATED = 345.0


def subspace_blocks(depth: int) -> tuple[int, ...]:
    """SubspaceAD's: the 18th to the 12th from the end of 40, 22 to 28, and the same part of other depths."""
    return tuple(range(round(depth * 22 / 40), round(depth * 28 / 40) + 1))


def make_encoder(options: Mapping[str, Any]) -> Encoder:
    """The encoder of a job."""
    return build_encoder(**options, by_depth=subspace_blocks)


def joint_tokens(network: Encoder, tiles: Tensor) -> Tensor:
    """One token for each place: the mean over the blocks of a ViT; the stages of a CNN one after the other.

    Args:
        network: the encoder.
        tiles: uint8 (B, s, s, 3) RGB.

    Returns:
        float32 (B, g*g, C).
    """
    tokens = [values.float() for values in network(tiles)]
    return torch.stack(tokens).mean(0) if len(set(network.widths)) == 1 else torch.cat(tokens, -1)


def joint_width(network: Encoder) -> int:
    """Channels C of the tokens of `joint_tokens`."""
    return network.widths[0] if len(set(network.widths)) == 1 else sum(network.widths)


def random_rotation(seed: int) -> Rotate:
    """Rotates each copy by a random angle, which depends on the seed, the tile and the copy alone."""

    def rotate(tile: np.ndarray, number: int, copy: int) -> np.ndarray:
        angle = np.random.default_rng([seed, number, copy]).uniform(0, MOST_ROTATED)
        return np.asarray(Image.fromarray(tile).rotate(angle))

    return rotate
