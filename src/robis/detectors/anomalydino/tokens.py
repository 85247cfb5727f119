"""The tokens that AnomalyDINO compares, and the rotation of its reference images (arXiv 2405.14529, public code)."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import cv2
import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor

from robis.detectors.normal_tokens import Features
from robis.encoders.build import build_encoder
from robis.encoders.encoder import Encoder


def last_block(depth: int) -> tuple[int, ...]:
    """AnomalyDINO's block of a transformer."""
    return (depth - 1,)


def make_encoder(options: Mapping[str, Any]) -> Encoder:
    """The encoder of a job."""
    return build_encoder(**options, by_depth=last_block)


def unit_tokens(network: Encoder) -> Features:
    """Tokens after a ViT's final norm, of several blocks or stages one after the other, divided by their length."""

    def tokens(tiles: Tensor) -> list[Tensor]:
        blocks, _ = network.with_embedding(tiles)
        return [F.normalize(torch.cat([block.float() for block in blocks], -1), dim=-1)]

    return Features(tokens, network.grid, [sum(network.widths)])


def rotated(tile: np.ndarray, degrees: float) -> np.ndarray:
    """A tile (s, s, 3) turned to the left: bilinear, mirrored beyond the border."""
    height, width = tile.shape[:2]
    turn = cv2.getRotationMatrix2D((width / 2, height / 2), degrees, 1.0)
    return cv2.warpAffine(tile, turn, (width, height), flags=cv2.INTER_LINEAR, borderMode=cv2.BORDER_REFLECT_101)


def turned_back(points: np.ndarray, height: int, width: int, degrees: float) -> np.ndarray:
    """The places in a tile of this size that points of its copy by `rotated` show.

    Args:
        points: (n, 2), x and y, in which the first pixel's center is 0.
        height, width: of the tile in pixels.
        degrees: see `rotated`.

    Returns:
        float64 (n, 2), inside the tile: what lies beyond is mirrored at its border.
    """
    back = cv2.invertAffineTransform(cv2.getRotationMatrix2D((width / 2, height / 2), degrees, 1.0))
    last = np.array([width - 1, height - 1], np.float64)
    beyond: np.ndarray = last - np.abs(last - np.abs(points @ back[:, :2].T + back[:, 2]))
    return np.clip(beyond, 0, last)
