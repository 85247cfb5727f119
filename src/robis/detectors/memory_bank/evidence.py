"""The evidence of memory banks: the normal patches that a region's most unusual token is nearest to."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, ClassVar

import numpy as np
import torch
from torch import Tensor

from robis.detectors.evidence import Explainer, token_box, window_of
from robis.detectors.jobs import Compute, NormalImages, ScorerJob
from robis.detectors.memory_bank.bank import Bank
from robis.detectors.model_files import open_model
from robis.detectors.normal_tokens import Features
from robis.encoders.encoder import Encoder
from robis.io.samples import read_samples
from robis.io.tables import read_table
from robis.tiles.windows import Window

# Patches of a region, for each block; and how many neighbors are looked at first to find so many different ones.
PATCHES, LOOKED_AT = 3, 64
GridOf = Callable[[Window], tuple[int, int]]


@dataclass(frozen=True)
class Patch:
    """The part of a normal image that a token of a bank stands for: its id, its path, and a box in image pixels."""

    sample_id: str
    image: str
    x: int
    y: int
    width: int
    height: int

    def is_at(self, other: Patch) -> bool:
        """Whether two patches show the same place: their centers lie nearer than a patch is large."""
        across = abs(2 * self.x + self.width - 2 * other.x - other.width)
        down = abs(2 * self.y + self.height - 2 * other.y - other.height)
        # Of boxes of whole pixels that lie side by side, one may reach a pixel into the other.
        near = across < self.width + other.width - 4 and down < self.height + other.height - 4
        return self.sample_id == other.sample_id and near


class NormalPatches:
    """The patches that the tokens of banks stand for."""

    def __init__(self, normal: NormalImages, grid: GridOf) -> None:
        """Read the tables of the images that the banks were made of; grid: gives the tokens of a tile."""
        self.samples = {sample.sample_id: sample for sample in read_samples(normal.samples)}
        self.rows = read_table(normal.store.table, stage="crop")
        self.grid = grid

    def at(self, origin: Sequence[int]) -> Patch | None:
        """The patch of a token's origin: tile, row, column. None for a token that is of no training tile."""
        tile, row, column = (int(value) for value in origin)
        if tile < 0:
            return None
        of_tile = self.rows.iloc[tile]
        window, sample = window_of(of_tile), self.samples[str(of_tile["sample_id"])]
        rows, columns = self.grid(window)
        box = token_box(window, (rows, columns), row * columns + column, (sample.height, sample.width))
        return Patch(sample.sample_id, sample.image, *box)


@dataclass(frozen=True, eq=False)
class BlockBank:
    """The bank of a block of the encoder.

    Attributes:
        block: number of the block; -1 for tokens that are made of several.
        bank: its tokens.
        origins: int64 (M, 3) of its first M tokens, see `Tokens.places`; those behind are of no training tile.
        scale: gives the detector's distance for a Euclidean one.
    """

    block: int
    bank: Bank
    origins: np.ndarray
    scale: Callable[[Tensor], Tensor]

    def origin(self, number: int) -> Sequence[int]:
        """Tile, row and column of a token; negative for one that is of no training tile."""
        return self.origins[number].tolist() if number < len(self.origins) else (-1, -1, -1)


class BankExplainer(Explainer):
    """Finds the normal patches that the token of a region with the highest score is nearest to.

    The score of a token is the mean of its blocks' distances, which maps are made of.
    """

    columns: ClassVar = {
        **{"rank": "int64", "block": "int64", "distance": "float64", "normal_id": "object", "normal_image": "object"},
        **dict.fromkeys(("normal_x", "normal_y", "normal_width", "normal_height"), "Int64"),
    }

    def __init__(
        self,
        encoder: Encoder,
        features: Features,
        banks: Sequence[BlockBank],
        normal: NormalImages,
        compute: Compute,
    ) -> None:
        super().__init__(encoder, compute)
        self.features, self.banks, self.widths = features, banks, list(features.widths)
        self.patches = NormalPatches(normal, self.grid)

    def grid(self, window: Window) -> tuple[int, int]:
        return self.features.grid, self.features.grid

    def values(self, tiles: Tensor) -> list[Tensor]:
        blocks = self.features.tokens(tiles)
        with torch.autocast(tiles.device.type, enabled=False):
            searched = [self.search(number, block) for number, block in enumerate(blocks)]
        return [*blocks, *(values for pair in searched for values in pair)]

    def search(self, number: int, tokens: Tensor) -> tuple[Tensor, Tensor]:
        """Distances (B, T) of a block's tokens (B, T, C) as maps have them, and numbers of the nearest of its bank."""
        of_block = self.banks[number]
        distances, nearest = of_block.bank.search(tokens.float().flatten(0, 1))
        return of_block.scale(distances).view(tokens.shape[:2]), nearest.view(tokens.shape[:2])

    def evidence(self, values: Sequence[Tensor], cells: np.ndarray) -> list[dict[str, Any]]:
        blocks, searched = values[: len(self.banks)], values[len(self.banks) :]
        distances, nearest = searched[::2], searched[1::2]
        chosen = torch.from_numpy(cells).to(self.device)
        token = int(chosen[torch.stack([of[chosen] for of in distances]).mean(0).argmax()])
        rows = []
        for of_block, block, far, number in zip(self.banks, blocks, distances, nearest, strict=True):
            first = (float(far[token]), int(number[token]))
            ranked = self._different(of_block, first, block[token].float())
            rows += [
                {"token": token, "rank": rank, "block": of_block.block, "distance": distance, **_named(patch)}
                for rank, (distance, patch) in enumerate(ranked, start=1)
            ]
        return rows

    def _different(
        self, of_block: BlockBank, first: tuple[float, int], token: Tensor
    ) -> Iterator[tuple[float, Patch | None]]:
        """Distances and places of the nearest patches that do not show the same place, the one of the map first."""
        bank, seen = of_block.bank, [self.patches.at(of_block.origin(first[1]))]
        yield first[0], seen[0]
        for count in dict.fromkeys((min(LOOKED_AT, len(bank.tokens)), len(bank.tokens))):
            distances, numbers = bank.neighbors(token, count)
            for distance, number in zip(of_block.scale(distances).tolist(), numbers.tolist(), strict=True):
                if len(seen) == PATCHES:
                    return
                patch = self.patches.at(of_block.origin(number))
                if patch is not None and not any(other and patch.is_at(other) for other in seen):
                    seen.append(patch)
                    # Which token is nearest was decided by another product, with another rounding.
                    yield max(first[0], distance), patch


def _named(patch: Patch | None) -> dict[str, Any]:
    names = ("id", "image", "x", "y", "width", "height")
    values = (patch.sample_id, patch.image, patch.x, patch.y, patch.width, patch.height) if patch else (None,) * 6
    return {f"normal_{name}": value for name, value in zip(names, values, strict=True)}


def read_origins(path: Path, detector: str, name: str = "origins") -> np.ndarray:
    """The origins of a bank's tokens, int64 (M, 3). Raises WeightsError."""
    with open_model(path, detector) as model:
        origins: np.ndarray = model.tensor(name, (None, 3), torch.device("cpu")).numpy()
        return origins


def single_bank(job: ScorerJob, detector: str, bank: Bank, scale: Callable[[Tensor], Tensor]) -> BlockBank:
    """The bank of `robis.detectors.memory_bank.stages.read_bank`, with the origins of its tokens."""
    return BlockBank(-1, bank, read_origins(job.inputs["model"], detector), scale)


def required(normal: NormalImages | None) -> NormalImages:
    """The images that a bank was made of, which its job always has."""
    if normal is None:
        raise ValueError("the evidence of a memory bank needs the tables of the images that it was made of")
    return normal
