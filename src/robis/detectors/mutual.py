"""The images of a split as they score each other, without a run of a detector: mutual scoring of MuSc.

Which of the images that a model is to learn from are unlike the others? A token that has a near neighbor in most of
the other images is normal; a defect has none.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import torch
from torch import Tensor

from robis.detectors.batches import Tiles, tile_batches
from robis.detectors.checks import require_finite
from robis.detectors.jobs import Compute
from robis.detectors.musc.scores import (
    Scoring,
    layer_norm,
    mean_scores,
    mutual_scores,
    random_parts,
    token_store,
)
from robis.encoders.build import build_encoder
from robis.encoders.devices import autocast, compute_type, pick_device
from robis.encoders.names import quarter_blocks
from robis.io.arrays import scratch_array
from robis.tiles.ignored import has_ignored, ignored_cells

if TYPE_CHECKING:
    import pandas as pd

# Tokens and distances on the computing device; what does not fit goes to temporary files.
MEMORY = 2_000_000_000
# One of the published neighborhoods (three find no more here, in three times the time), and the published fraction.
NEIGHBORHOOD, AVERAGED = 3, (0.0, 0.3)
# The time grows with the square of the number of images that are compared with each other.
MOST_COMPARED = 200


@torch.inference_mode()
def mutual_token_scores(
    tiles: Tiles,
    images: np.ndarray,
    *,
    encoder: Mapping[str, Any],
    compute: Compute,
    scratch: Path,
    rows: pd.DataFrame | None = None,
) -> np.ndarray:
    """How unlike the tokens of the other images each token is; with the published fraction of MuSc.

    Deterministic. Of more than `MOST_COMPARED` images, each is compared with those of its random part.

    Args:
        tiles: uint8 (N, s, s, 3) RGB.
        images: (N,) number of the image of each tile, from 0; at least two images.
        encoder: arguments of `build_encoder`.
        compute: how to compute.
        scratch: a path on the disk where temporary files may lie.
        rows: the tiles' table, whose ignored tokens are compared with no other; None: none is ignored.

    Returns:
        float32 (N, g, g), range 0..2: mean distance of a token to its nearest token in the most similar images. NaN
        for ignored tokens.

    Raises:
        DataError: tokens that are not finite.
    """
    device = pick_device(compute.device)
    model = build_encoder(**encoder, by_depth=quarter_blocks).to(device)
    scoring = _scoring(int(images.max()) + 1, device, compute.precision, scratch)
    tokens = token_store(model.widths, (len(tiles), model.grid**2), images, scoring)
    for start, batch in tile_batches(tiles, compute, device, "encode"):
        with autocast(device, compute.precision):
            layers = model(batch)
        _keep(tokens, layers, start, scratch)
    grid = (model.grid, model.grid)
    ignored = None if rows is None or not has_ignored(rows) else ignored_cells(rows, grid).reshape(len(tiles), -1)
    scores = mean_scores(mutual_scores(tokens, images, model.grid, scoring, ignored=ignored)).numpy()
    if ignored is not None:
        scores[ignored] = np.nan
    return scores.reshape(len(tiles), *grid)


def _keep(tokens: Sequence[Tensor], layers: Sequence[Tensor], start: int, place: Path) -> None:
    for kept, raw in zip(tokens, layers, strict=True):
        normed = layer_norm(raw)
        require_finite(normed, "tokens", range(start, start + len(raw)), place)
        kept[start : start + len(raw)] = normed


def _scoring(images: int, device: torch.device, precision: str, scratch: Path) -> Scoring:
    parts = max(1, min(-(-images // MOST_COMPARED), images // 2))
    return Scoring(
        neighborhood_sizes=[NEIGHBORHOOD],
        averaged_fraction=AVERAGED,
        parts=random_parts(images, parts, seed=0),
        memory=MEMORY,
        scratch=partial(_beside, scratch),
        device=device,
        dtype=compute_type(device, precision),
    )


def _beside(place: Path, shape: tuple[int, ...], dtype: torch.dtype) -> Tensor:
    """Room on the disk of a path."""
    return torch.from_numpy(scratch_array(place, np.float16 if dtype == torch.float16 else np.float32, shape))
