"""Loaded detectors: from the tiles of an image, or the whole image, to raw maps as `infer` stores them.

`infer` and packs score by the same objects, so that an image inspected alone gets the same maps.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from robis.arrays.float16 import to_float16
from robis.detectors.batches import in_passes, with_work
from robis.detectors.checks import require_finite
from robis.detectors.jobs import Compute, MapScale
from robis.encoders.devices import autocast, named_device
from robis.errors import DataError
from robis.io.ignored import decode
from robis.tiles.ignored import cells_of
from robis.tiles.merge import whole_map_size
from robis.tiles.store import map_size

# Types that raw maps are stored as.
MapType = type[np.float16] | type[np.float32]
# From one tile uint8 (1, s, s, 3) RGB, and its ignored tokens bool (1, g, g) if there are any, to its map float32
# (1, m, m), and to its score (1,) where the detector gives one.
TileFunction = Callable[..., tuple[Tensor, ...]]


@dataclass(frozen=True, eq=False)
class ImageTiles:
    """What a detector sees of one image.

    Attributes:
        pixels: uint8 (n, s, s, 3) RGB, a tile each; (1, H, W, 3) for an image as it is.
        source: the image, for messages.
        ignored: pixels of each tile, see `robis.io.ignored.encode`, or None for a tile without any; None: none is.
    """

    pixels: np.ndarray
    source: str | Path
    ignored: Sequence[bytes | None] | None = None


@dataclass(frozen=True)
class RawMaps:
    """Raw maps of one image, as they are stored.

    Attributes:
        maps: float16 or float32 (n, m, m), one per tile; (1, h, w) where a map covers the whole image.
        covers_image: whether the only map covers the whole image and is not merged.
        scores: float32 (n,), the detector's own score of each tile; None where it gives none.
    """

    maps: np.ndarray
    covers_image: bool = False
    scores: np.ndarray | None = None


class Scorer(ABC):
    """A loaded detector.

    Attributes:
        encoder: the frozen network as it computes; None for a detector without one.
        dtype: of stored maps.
        grid: tokens along one side of a tile, of which some may be ignored; 0 for a detector that takes no notice.
    """

    encoder: nn.Module | None
    dtype: MapType
    grid: int

    @abstractmethod
    def raw_maps(self, image: ImageTiles, compute: Compute, size: MapScale) -> RawMaps:
        """Raw maps of one image.

        Args:
            image: its tiles.
            compute: how to compute.
            size: of the maps.

        Raises:
            DataError: a map is not finite.
        """

    @abstractmethod
    def tile_function(self, size: MapScale) -> TileFunction:
        """What another runtime would compute: `raw_maps` of one tile as a function of tensors, before it is stored.

        Raises DataError where the detector does not score tile by tile.
        """


@dataclass(frozen=True)
class TileScorer(Scorer):
    """A detector that scores tile by tile.

    Attributes:
        tile_maps: turns uint8 (B, s, s, 3) RGB tiles on the device into (B, size, size) maps, given the size, and if it
            has a grid, the ignored tokens, bool (B, grid, grid), where there are some. Each map depends on its own tile
            alone. See `in_passes` for how it is called.
        input_size: side of a tile as the encoder sees it, pixels.
        encoder: see `Scorer`.
        dtype: of stored maps; float32 for values that may exceed the range of float16.
        grid: see `Scorer`.
    """

    tile_maps: Callable[..., Tensor]
    input_size: int
    encoder: nn.Module | None = None
    dtype: MapType = np.float16
    grid: int = 0

    def batch_maps(self, batch: Tensor, size: int, compute: Compute, ignored: np.ndarray | None = None) -> Tensor:
        """Maps (B, size, size) of uint8 tiles (B, s, s, 3) on their device, at most `compute.batch_size` of them.

        ignored: of their tokens, bool (B, grid, grid); None: none.
        """
        with autocast(batch.device, compute.precision):
            if ignored is None:
                return torch.cat(in_passes(lambda part: self.tile_maps(part, size), batch, compute))[: len(batch)]
            # One tensor, since a pass takes one: the tiles, and behind them their tokens.
            tokens = torch.from_numpy(ignored).to(batch.device)
            joined = torch.cat([batch.flatten(1), tokens.flatten(1).to(torch.uint8)], 1)

            def of_pass(part: Tensor) -> Tensor:
                tiles, cells = part.split([batch[0].numel(), tokens[0].numel()], 1)
                tiles, cells = tiles.unflatten(1, batch.shape[1:]), cells.unflatten(1, tokens.shape[1:])
                return self.tile_maps(tiles, size, cells > 0)

            return torch.cat(in_passes(of_pass, joined, compute))[: len(batch)]

    @torch.inference_mode()
    def raw_maps(self, image: ImageTiles, compute: Compute, size: MapScale) -> RawMaps:
        device = named_device(compute.device)
        how, side = with_work(compute, device), map_size(size.window, size.scale, self.input_size)
        cells = cells_of(image.ignored, (self.grid, self.grid)) if image.ignored and self.grid else None
        parts = []
        for start, batch in batches_of(image.pixels, how, device):
            of_batch = None if cells is None else cells[start : start + len(batch)]
            values = self.batch_maps(batch, side, how, of_batch).float().cpu().numpy()
            parts.append(stored(values, range(start, start + len(values)), image.source, self.dtype))
        return RawMaps(np.concatenate(parts))

    def tile_function(self, size: MapScale) -> TileFunction:
        side = map_size(size.window, size.scale, self.input_size)
        return lambda tile, *ignored: (self.tile_maps(tile, side, *ignored).float(),)


@dataclass(frozen=True)
class ImageScorer(Scorer):
    """A detector that scores whole images (`tiling.window: joined`).

    Attributes:
        image_map: turns a uint8 (H, W, 3) RGB image on the device into a map (h, w), given (h, w) and its ignored
            pixels, bool (H, W), or None.
        encoder: see `Scorer`.
    """

    image_map: Callable[[Tensor, tuple[int, int], np.ndarray | None], Tensor]
    encoder: nn.Module | None = None
    dtype: MapType = np.float32
    grid: int = 0

    def map_of(
        self, image: np.ndarray, device: torch.device, size: tuple[int, int], ignored: bytes | None = None
    ) -> np.ndarray:
        """The map float32 (h, w) of an image uint8 (H, W, 3) RGB, of this size in map pixels."""
        pixels = None if ignored is None else decode(ignored)
        values: np.ndarray = self.image_map(torch.from_numpy(image).to(device), size, pixels).cpu().numpy()
        return values

    @torch.inference_mode()
    def raw_maps(self, image: ImageTiles, compute: Compute, size: MapScale) -> RawMaps:
        pixels = np.ascontiguousarray(image.pixels[0])
        side = whole_map_size(pixels.shape[0], pixels.shape[1], size.scale)
        ignored = image.ignored[0] if image.ignored else None
        values = self.map_of(pixels, named_device(compute.device), side, ignored)[None]
        require_finite(values, "map values", [0], image.source)
        return RawMaps(values, covers_image=True)

    def tile_function(self, size: MapScale) -> TileFunction:
        raise DataError(
            "tiling.window: found 'joined', which joins the tokens of a whole image, of any size; expected tiles. Use "
            "a run with another window."
        )


def batches_of(tiles: np.ndarray, compute: Compute, device: torch.device) -> list[tuple[int, Tensor]]:
    """Tiles (n, ...) in memory as batches on the device, each with the number of its first tile."""
    starts = range(0, len(tiles), compute.batch_size)
    return [(start, torch.from_numpy(tiles[start : start + compute.batch_size]).to(device)) for start in starts]


def stored(values: np.ndarray, numbers: Sequence[int], source: str | Path, dtype: Any = np.float16) -> np.ndarray:
    """Maps float32 (B, m, m) as they are stored. Raises DataError when one is not finite then.

    Args:
        values: the maps.
        numbers: of the tiles.
        source: the tile store or image, for messages.
        dtype: float32 for a detector whose scores lie in a narrow band far from 0: float16 has 1,024 values between a
            number and its double, of which such a band gets too few.
    """
    maps = values
    if dtype == np.float16:
        maps = to_float16(values.reshape(len(values), -1)).reshape(values.shape)
    require_finite(maps, "map values", numbers, source)
    return maps
