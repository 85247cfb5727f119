"""The tokens of all normal images of a category, numbered, and encoded on demand."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor

from robis.detectors.batches import Tiles, tile_batches
from robis.detectors.checks import require_finite
from robis.detectors.jobs import TrainJob
from robis.encoders.devices import autocast
from robis.errors import DataError


@dataclass(frozen=True)
class Features:
    """What a detector takes of tiles.

    Attributes:
        tokens: turns uint8 tiles (B, s, s, 3) RGB into the tokens (B, grid * grid, C) of one or more blocks.
        grid: tokens along one side of a tile.
        widths: channels C of the tokens, for each block.
    """

    tokens: Callable[[Tensor], list[Tensor]]
    grid: int
    widths: Sequence[int]


class Tokens(ABC):
    """Tokens of a number of inputs, those of an input one after another.

    Attributes:
        count: how many tokens there are, of each block.
        widths: channels of a token, for each block.
        device: where they are encoded.
    """

    def __init__(self, count: int, widths: Sequence[int], device: torch.device) -> None:
        self.count, self.widths, self.device = count, list(widths), device

    @abstractmethod
    def encoded(self, name: str) -> Iterator[tuple[int, list[Tensor]]]:
        """One pass over the inputs: the number of a batch's first token, and its tokens (n, C) of each block.

        name: of the pass, in lines about the progress.
        """

    @abstractmethod
    def places(self, numbers: np.ndarray) -> np.ndarray:
        """Where tokens of these numbers lie: int64 (n, 3), the input's number and the token's row and column in it."""

    def gather(self, wanted: np.ndarray, name: str) -> list[Tensor]:
        """Tokens of these numbers, per block float32 (n, C) on the device, from one pass over the inputs.

        wanted: numbers, each once, in any order. name: of the pass, in lines about the progress.
        """
        gathered = [torch.empty(len(wanted), width, device=self.device) for width in self.widths]
        order = np.argsort(wanted)
        ascending = wanted[order]
        for start, tokens in self.encoded(name):
            begin, end = np.searchsorted(ascending, [start, start + len(tokens[0])])
            rows = torch.from_numpy(order[begin:end]).to(self.device)
            chosen = torch.from_numpy(ascending[begin:end] - start).to(self.device)
            for kept, raw in zip(gathered, tokens, strict=True):
                kept[rows] = raw[chosen].float()
        return gathered


class TileTokens(Tokens):
    """The tokens of tiles, each of which is encoded alone; ignored ones are left out."""

    def __init__(
        self,
        features: Features,
        tiles: Tiles,
        job: TrainJob,
        device: torch.device,
        *,
        kept: np.ndarray | None = None,
    ) -> None:
        """Take tiles, and which of their tokens are not ignored, bool (N, grid * grid); None: none is.

        Raises DataError where there are no tiles or tokens; encoding does for tokens that are not finite.
        """
        require_some(len(tiles), job)
        numbers = np.full(len(tiles), features.grid**2) if kept is None else kept.sum(1)
        # The number of each tile's first token.
        self.starts = np.cumsum([0, *numbers])
        require_kept_tokens(int(self.starts[-1]), job)
        super().__init__(int(self.starts[-1]), features.widths, device)
        self.features, self.tiles, self.job, self.kept = features, tiles, job, kept

    def encoded(self, name: str) -> Iterator[tuple[int, list[Tensor]]]:
        for start, batch in tile_batches(self.tiles, self.job.compute, self.device, name):
            with autocast(self.device, self.job.compute.precision):
                tokens = self.features.tokens(batch)
            for raw in tokens:
                require_finite(raw, "tokens", range(start, start + len(raw)), self.job.store.tiles)
            chosen = self._chosen(start, len(batch))
            of_batch = [raw.flatten(0, 1) if chosen is None else raw.flatten(0, 1)[chosen] for raw in tokens]
            if len(of_batch[0]):
                yield int(self.starts[start]), of_batch

    def places(self, numbers: np.ndarray) -> np.ndarray:
        cells = numbers if self.kept is None else np.flatnonzero(self.kept)[numbers]
        return np.stack(np.unravel_index(cells, (len(self.tiles), self.features.grid, self.features.grid)), axis=1)

    def _chosen(self, start: int, count: int) -> Tensor | None:
        if self.kept is None:
            return None
        return torch.from_numpy(self.kept[start : start + count].reshape(-1)).to(self.device)


def require_some(count: int, job: TrainJob) -> None:
    """Raise DataError where a training has no tiles."""
    if not count:
        raise DataError(f"{job.store.tiles}: the tile store is empty; expected at least one tile of a normal image.")


def require_kept_tokens(count: int, job: TrainJob) -> None:
    """Raise DataError where all tokens of a training are ignored."""
    if not count:
        raise DataError(
            f"{job.stores[0].table}: dataset.ignore leaves none of the tokens of the normal images to learn from. At "
            f"least half of each is ignored; ignore less of the images."
        )
