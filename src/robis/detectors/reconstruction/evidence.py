"""The evidence of reconstruction: how badly a region is rebuilt, compared with normal images."""

from __future__ import annotations

from collections.abc import Sequence
from functools import cached_property
from typing import Any, ClassVar

import numpy as np
import torch
from torch import Tensor

from robis.detectors.evidence import Explainer
from robis.detectors.jobs import Compute, NormalImages
from robis.detectors.reconstruction.maps import group_distances
from robis.detectors.reconstruction.network import Reconstruction
from robis.tiles.store import open_tiles

# Tiles of normal images whose tokens are compared with, evenly spread over the split.
NORMAL_TILES = 32
# Columns of quantiles of the normal tokens' distances.
QUANTILES = {"normal_median": 0.5, "normal_99": 0.99, "normal_max": 1.0}


class ReconstructionExplainer(Explainer):
    """Gives the cosine distances of a region's token with the highest score, of both groups of blocks.

    The score of a token is the mean of its groups' distances, which maps are made of.
    """

    columns: ClassVar = {"group": "int64", **dict.fromkeys(("distance", "percentile", *QUANTILES), "float64")}

    def __init__(self, model: Reconstruction, normal: NormalImages | None, compute: Compute) -> None:
        super().__init__(model.encoder, compute)
        self.model, self.normal, self.widths = model, normal, [model.encoder.width] * 2

    def values(self, tiles: Tensor) -> list[Tensor]:
        encoded, decoded = self.model.compare(tiles)
        return [*encoded, *group_distances(encoded, decoded)]

    def evidence(self, values: Sequence[Tensor], cells: np.ndarray) -> list[dict[str, Any]]:
        distances = torch.stack(list(values[2:])).cpu().numpy()
        token = cells[distances[:, cells].mean(0).argmax()]
        return [
            {"token": int(token), "group": group, "distance": distance, **_beside(distance, normal)}
            for group, (distance, normal) in enumerate(
                zip(distances[:, token].tolist(), self._normal_distances, strict=True), start=1
            )
        ]

    @cached_property
    def _normal_distances(self) -> list[np.ndarray]:
        """Distances of tokens of normal images, ascending, of each group; none without normal images."""
        if self.normal is None:
            return [np.empty(0, np.float32)] * 2
        store = self.normal.store
        tiles, rows = open_tiles(store.tiles, store.table)
        numbers = np.unique(np.linspace(0, len(tiles) - 1, min(len(tiles), NORMAL_TILES)).round().astype(np.int64))
        parts = []
        for tile, values in zip(numbers.tolist(), self.encoded(store, numbers.tolist()), strict=True):
            distances = torch.stack(values[2:]).cpu().numpy()
            parts.append(np.delete(distances, self.ignored(rows, tile), axis=1))
        return list(np.sort(np.concatenate(parts, axis=1), axis=1))


def _beside(distance: float, normal: np.ndarray) -> dict[str, float]:
    """The share in percent of normal tokens below a distance, and the quantiles of theirs; NaN without any."""
    if not len(normal):
        return dict.fromkeys(("percentile", *QUANTILES), float("nan"))
    below = 100 * np.searchsorted(normal, np.float32(distance)) / len(normal)
    quantiles = zip(QUANTILES, np.quantile(normal, list(QUANTILES.values())).tolist(), strict=True)
    return {"percentile": float(below), **dict(quantiles)}
