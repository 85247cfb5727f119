"""The tiles of images in which regions count as normal, and which of their tokens those regions hold."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path
from typing import Any

import numpy as np

from robis.errors import DataError
from robis.io.ignored import covered, filled, touched
from robis.io.images import read_image, read_mask
from robis.tiles.store import Cutting
from robis.tiles.windows import Window

# Turns pixels, bool (H, W), into cells of a grid, by a rule such as `robis.io.ignored.touched`.
Cells = Callable[[np.ndarray, Callable[[np.ndarray, int, int], np.ndarray]], np.ndarray]


@dataclass(frozen=True)
class AllowedImage:
    """An image with regions that count as normal.

    Attributes:
        image: its file.
        mask: file of the same size that marks the regions.
        ignored: file of the same size that marks ignored pixels, or None.
        cutting: how the image becomes tiles.
    """

    image: Path
    mask: Path
    ignored: Path | None
    cutting: Cutting

    @classmethod
    def of(cls, values: Mapping[str, Any]) -> AllowedImage:
        """From paths as text, and the arguments of `Cutting`."""
        ignored = Path(values["ignored"]) if values["ignored"] else None
        return cls(Path(values["image"]), Path(values["mask"]), ignored, Cutting(**values["cutting"]))


class AllowedTiles:
    """The tiles that hold a part of a region, as `crop` cuts them; read when they are needed.

    Attributes:
        sides: height and width of each tile's window in image pixels.
    """

    def __init__(self, images: Sequence[AllowedImage]) -> None:
        """Take the images. Raises DataError: a file cannot be read, a mask has another size or marks nothing."""
        self._images = images
        self._read = lru_cache(maxsize=2)(_read)
        self._places = [
            (number, window) for number, image in enumerate(images) for window in _windows(image, self._read(image))
        ]
        self.sides = [(window.height, window.width) for _, window in self._places]

    def __len__(self) -> int:
        return len(self._places)

    def __getitem__(self, chosen: slice) -> np.ndarray:
        """Tiles uint8 (n, s, s, 3) RGB."""
        return np.stack([self.tile(number) for number in range(*chosen.indices(len(self)))])

    def tile(self, number: int) -> np.ndarray:
        """A tile, uint8 (s, s, 3) RGB; the image as it is where images are not cut."""
        image, window = self._places[number]
        pixels, _, _ = self._read(self._images[image])
        return self._images[image].cutting.tile(pixels, window)

    def cells(self, number: int, cells: Cells) -> np.ndarray:
        """The cells of a grid over a tile that hold a part of a region and are not ignored.

        cells: makes the cells of pixels by a rule.
        """
        image, window = self._places[number]
        _, regions, ignored = self._read(self._images[image])
        return cells(_inside(regions, window), touched) & ~cells(_inside(ignored, window), covered)

    def tokens(self, grid: int) -> np.ndarray:
        """Which tokens of the tiles hold a part of a region and are not ignored, bool (N, grid * grid)."""
        chosen = [
            self.cells(number, lambda pixels, rule: rule(pixels, grid, grid)).reshape(-1) for number in range(len(self))
        ]
        return np.array(chosen, bool).reshape(-1, grid * grid)


Pixels = tuple[np.ndarray, np.ndarray, np.ndarray]


def _read(image: AllowedImage) -> Pixels:
    """The pixels of an image as `crop` takes them, uint8 (H, W, 3), its regions and ignored pixels, bool (H, W)."""
    pixels = read_image(image.image, bit_depth=image.cutting.bit_depth)
    regions = _mask(image.mask, pixels, image)
    ignored = _mask(image.ignored, pixels, image) if image.ignored else np.zeros(regions.shape, bool)
    if not regions.any():
        raise DataError(f"{image.mask}: marks nothing; expected the regions of {image.image} that count as normal.")
    return filled(pixels, ignored if ignored.any() else None), regions, ignored


def _mask(path: Path, pixels: np.ndarray, image: AllowedImage) -> np.ndarray:
    mask = read_mask(path)
    if mask.shape != pixels.shape[:2]:
        raise DataError(
            f"{path}: {mask.shape[1]} x {mask.shape[0]} pixels; the image {image.image} has "
            f"{pixels.shape[1]} x {pixels.shape[0]}. Expected a mask of the same size."
        )
    return mask


def _windows(image: AllowedImage, pixels: Pixels) -> list[Window]:
    regions = pixels[1]
    return [window for window in image.cutting.windows(*regions.shape) if _inside(regions, window).any()]


def _inside(pixels: np.ndarray, window: Window) -> np.ndarray:
    """The pixels of a window, bool (height, width); beyond the image False."""
    visible = pixels[window.y : window.y + window.height, window.x : window.x + window.width]
    inside = np.zeros((window.height, window.width), bool)
    inside[: visible.shape[0], : visible.shape[1]] = visible
    return inside
