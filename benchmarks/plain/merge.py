"""Merge tile maps as the published code does: a canvas of the image's size per tile, sums and counts of canvases."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import tifffile

Window = tuple[int, int, int, int]


def merge(tile_maps: list[np.ndarray], windows: list[Window], size: tuple[int, int], scale: float) -> np.ndarray:
    """Mean over the tiles that cover a pixel: float32 (round(H * scale), round(W * scale)).

    Origins are rounded one by one (the published constant step on the map drifts), sums are float32 (published:
    float16), so that the result can be compared.
    """
    height, width = round(size[0] * scale), round(size[1] * scale)
    total = np.zeros((height, width), np.float32)
    count = np.zeros((height, width), np.float32)
    for tile_map, (x, y, _, _) in zip(tile_maps, windows, strict=True):
        top, left = round(y * scale), round(x * scale)
        side = tile_map.shape[0]
        # Padded by a whole tile, so that what lies outside the image can be placed and cut.
        canvas = np.zeros((height + side, width + side), np.float32)
        covered = np.zeros((height + side, width + side), np.float32)
        canvas[top : top + side, left : left + side] = tile_map
        covered[top : top + side, left : left + side] = 1
        total += canvas[:height, :width]
        count += covered[:height, :width]
    return total / count


def merge_split(
    maps: Path, owners: list[str], windows: list[Window], size: tuple[int, int], scale: float, folder: Path
) -> None:
    """Load all tile maps, scale them together to 0..255, merge each image's, write float16 TIFF files.

    maps: .npy float16 (N, m, m). owners, windows: the image of each tile and its rectangle in image pixels.
    """
    raw = np.load(maps)
    low, high = float(raw.min()), float(raw.max())
    folder.mkdir(parents=True, exist_ok=True)
    for name in dict.fromkeys(owners):
        tiles = [index for index, owner in enumerate(owners) if owner == name]
        merged = merge([raw[index] for index in tiles], [windows[index] for index in tiles], size, scale)
        scaled = (merged - np.float32(low)) * np.float32(255 / (high - low))
        tifffile.imwrite(folder / f"{name}.tiff", np.maximum(scaled, 0).astype(np.float16))
