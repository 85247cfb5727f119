"""WinCLIP with one window at a time, and anomalib's zero-shot model with the same weights."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from itertools import product
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor


def embed_windows(encoder: Any, tiles: Tensor, scales: Sequence[int]) -> dict[str, Tensor]:
    """Each window of each tile passes through the transformer by itself.

    Args:
        encoder: has `grid`, `embedded(tiles)` (tokens before the first block, class token first) and
            `transformed(tokens)` (image embedding first).
        tiles: uint8 (B, s, s, 3) RGB.
        scales: sides of the windows in tokens.

    Returns:
        "windows_K" (B, W, D) of length 1 for each scale K.
    """
    embeddings: dict[str, list[Tensor]] = {f"windows_{scale}": [] for scale in scales}
    for tile in tiles:
        tokens = encoder.embedded(tile[None])
        for scale in scales:
            rows = [encoder.transformed(tokens[:, window])[0] for window in _windows(encoder.grid, scale)]
            embeddings[f"windows_{scale}"].append(F.normalize(torch.cat(rows), dim=-1))
    return {name: torch.stack(parts) for name, parts in embeddings.items()}


def _windows(grid: int, scale: int) -> list[list[int]]:
    """Numbers of each window's tokens, row by row, after the class token, which is number 0."""
    corners = product(range(grid - scale + 1), repeat=2)
    cells = list(product(range(scale), repeat=2))
    return [[0, *(1 + (top + row) * grid + left + column for row, column in cells)] for top, left in corners]


def anomalib_model(
    state: Mapping[str, Tensor], backbone: str, text: Mapping[str, Tensor]
) -> Callable[[Tensor], tuple[Tensor, Tensor]]:
    """anomalib's zero-shot model with given weights: scores (B,) and maps of normalized images (B, 3, s, s).

    Args:
        state: weights of open_clip's model.
        backbone: open_clip's name of it.
        text: embeddings "normal" and "anomalous", (D,) each.

    Raises:
        ImportError: anomalib is not installed, or lacks something.
    """
    from anomalib.models.image.winclip import torch_model

    class SequenceFirst(torch_model.WinClipModel):
        """anomalib expects the transformer of open_clip < 2.26.1, which takes the sequence first."""

        def _get_window_embeddings(self, feature_map: Tensor, masks: Tensor) -> Tensor:
            transformer = self.clip.visual.transformer
            batch_first = type(transformer).forward
            transformer.forward = lambda x: batch_first(transformer, x.transpose(0, 1)).transpose(0, 1)
            try:
                return super()._get_window_embeddings(feature_map, masks)
            finally:
                del transformer.forward

    torch_model.BACKBONE, torch_model.PRETRAINED = backbone, None
    model = SequenceFirst()
    model.clip.load_state_dict(state)
    model.eval()._text_embeddings = torch.stack([text["normal"], text["anomalous"]])

    def run(images: Tensor) -> tuple[Tensor, Tensor]:
        result = model(images)
        return result.pred_score, result.anomaly_map

    return run
