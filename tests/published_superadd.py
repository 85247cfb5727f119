"""SuperADD written out plainly from its description: loops over tiles, tokens and pixels, in float64."""

from __future__ import annotations

import math
from typing import Any

import cv2
import numpy as np
import torch
from torch import Tensor

from robis.encoders.encoder import Encoder


def placed(tokens: int, tile: int, margin: int) -> list[tuple[int, int, int]]:
    """Start of each tile of an axis, and the tokens of the tile that are used: from one, to before another."""
    count = math.ceil((tokens - tile) / (tile - 2 * margin)) + 1 if tokens > tile else 1
    starts = [math.floor(number * max(0, tokens - tile) / max(1, count - 1)) for number in range(count)]
    used = []
    for number, start in enumerate(starts):
        first, stop = 0, min(tile, tokens)
        if number:
            first = math.ceil((starts[number - 1] + tile - start) / 2)
        if number < count - 1:
            stop = tile - math.floor((start + tile - starts[number + 1]) / 2)
        used.append((start, first, stop))
    return used


def cubic(distances: np.ndarray) -> np.ndarray:
    """Keys' kernel with a = -1/2, as Pillow has it."""
    x = np.abs(distances)
    near, far = 1.5 * x**3 - 2.5 * x**2 + 1, -0.5 * x**3 + 2.5 * x**2 - 4 * x + 2
    return np.where(x < 1, near, np.where(x < 2, far, 0))


def resizing(old: int, new: int) -> np.ndarray:
    """The matrix (new, old) of antialiased bicubic resizing along an axis."""
    ratio = old / new
    weights = np.zeros((new, old))
    for row in range(new):
        weights[row] = cubic((np.arange(old) + 0.5 - (row + 0.5) * ratio) / max(1.0, ratio))
    return weights / weights.sum(1, keepdims=True)


def scaled_image(image: np.ndarray, scale: float, brightness: float = 1.0) -> np.ndarray:
    """uint8 (H, W, 3) to float64 (h, w, 3)."""
    pixels = np.clip(image.astype(np.float64) * brightness, 0, 255)
    rows, columns = (resizing(side, int(side * scale)) for side in image.shape[:2])
    return np.einsum("ij,jkc,lk->ilc", rows, pixels, columns, optimize=True)


def image_tokens(network: Encoder, image: np.ndarray, scale: float, margin: int, brightness: float = 1.0) -> list[Any]:
    """Tokens of the whole image, per block float32 (rows, columns, C); margin: half the tokens that tiles share."""
    pixels = scaled_image(image, scale, brightness)
    tile, step = network.grid, network.input_size // network.grid
    rows, columns = (side // step for side in pixels.shape[:2])
    padded = np.zeros((max(rows, tile) * step + step, max(columns, tile) * step + step, 3))
    padded[: pixels.shape[0], : pixels.shape[1]] = pixels
    joined = [np.full((rows, columns, width), np.nan, np.float32) for width in network.widths]
    for top, up, down in placed(rows, tile, margin):
        for left, west, east in placed(columns, tile, margin):
            part = padded[top * step : (top + tile) * step, left * step : (left + tile) * step]
            tokens = network(torch.from_numpy(part).float()[None])
            for block, of_tile in zip(joined, tokens, strict=True):
                grid = of_tile[0].reshape(tile, tile, -1).numpy()
                for row in range(up, down):
                    for column in range(west, east):
                        assert np.isnan(block[top + row, left + column, 0]), "two tiles have this token"
                        block[top + row, left + column] = grid[row, column]
    assert not any(np.isnan(block).any() for block in joined), "no tile has this token"
    return joined


def image_map(tokens: list[np.ndarray], banks: list[np.ndarray], size: tuple[int, int]) -> np.ndarray:
    """float64 (H, W): nearest distances over the width, bilinear with corners not aligned, mean over blocks."""
    maps = []
    for block, bank in zip(tokens, banks, strict=True):
        rows, columns, width = block.shape
        distances = np.zeros((rows, columns))
        for row in range(rows):
            for column in range(columns):
                differences = bank.astype(np.float64) - block[row, column].astype(np.float64)
                distances[row, column] = np.sqrt((differences**2).sum(1)).min() / width
        maps.append(bilinear(rows, size[0]) @ distances @ bilinear(columns, size[1]).T)
    return np.mean(maps, axis=0)


def bilinear(old: int, new: int) -> np.ndarray:
    weights = np.zeros((new, old))
    for row in range(new):
        place = min(max((row + 0.5) * old / new - 0.5, 0), old - 1)
        low = min(int(place), max(0, old - 2))
        weights[row, low] += 1 - (place - low)
        weights[row, min(low + 1, old - 1)] += place - low
    return weights


def thinned(tokens: Tensor, bank_size: int, rounds: int, neighbors: int, growth: float, draws: Any) -> set[int]:
    """The numbers of the bank's tokens, by sets; `draws` gives the random numbers."""
    points, kept = tokens.double().numpy(), set()
    for _ in range(rounds):
        others = np.array(sorted(set(range(len(points))) - kept))
        subset = draws.subset(others, min(len(points) // rounds, len(others))).tolist()
        dice = draws.dice(len(subset))
        nearest = []
        for number in subset:
            # Itself included, at distance 0.
            distances = sorted(float(np.linalg.norm(points[number] - points[other])) for other in subset)
            nearest.append(distances[:neighbors])
        radius = float(np.mean(nearest)) / 10
        while True:
            chosen = {
                number
                for number, distances, number_thrown in zip(subset, nearest, dice, strict=True)
                if number_thrown < 1 / (1 + sum(distance < radius for distance in distances))
            }
            if len(chosen) <= bank_size // rounds:
                break
            assert radius < 1e6, "as many neighbors as count do not make it end"
            assert radius < 1e6, "too few neighbors count for an end"
            radius *= growth
        kept |= chosen
    others = np.array(sorted(set(range(len(points))) - kept))
    return kept | set(draws.rest(others, bank_size - len(kept)).tolist())


def line(reach: int, angle: float) -> np.ndarray:
    """A line through the center, drawn by OpenCV two pixels thick."""
    kernel = np.zeros((2 * reach + 1, 2 * reach + 1), np.uint8)
    across, down = reach * math.cos(math.radians(angle)), reach * math.sin(math.radians(angle))
    ends = [(round(reach + sign * across), round(reach + sign * down)) for sign in (-1, 1)]
    cv2.line(kernel, *ends, 1, 2)
    return kernel


def dilated(mask: np.ndarray, kernel: np.ndarray) -> np.ndarray:
    """OpenCV's: a pixel is set where one under the kernel is, around the kernel's anchor; nothing lies beyond."""
    grown = np.zeros_like(mask)
    for row, column in np.argwhere(kernel):
        grown |= shifted(mask, row - kernel.shape[0] // 2, column - kernel.shape[1] // 2, False)
    return grown


def eroded(mask: np.ndarray, kernel: np.ndarray) -> np.ndarray:
    """OpenCV's: a pixel stays where all under the kernel are set; what lies beyond the border erodes nothing."""
    shrunk = np.ones_like(mask)
    for row, column in np.argwhere(kernel):
        shrunk &= shifted(mask, row - kernel.shape[0] // 2, column - kernel.shape[1] // 2, True)
    return shrunk


def shifted(mask: np.ndarray, down: int, right: int, beyond: bool) -> np.ndarray:
    """The mask at (row + down, column + right)."""
    reach = max(abs(down), abs(right), 1)
    padded = np.pad(mask, reach, constant_values=beyond)
    height, width = mask.shape
    return padded[reach + down : reach + down + height, reach + right : reach + right + width]


def mask_of(values: np.ndarray, threshold: float, reach: int, angles: int, factor: float, erosion: int) -> np.ndarray:
    """bool (H, W) from a float32 map."""
    margin = reach + 1
    above = np.pad(values > np.float32(threshold), margin)
    union = above.copy()
    for number in range(angles):
        kernel = line(reach, 180 * number / angles)
        thicker = dilated(kernel > 0, np.ones((2, 2), np.uint8))
        union |= eroded(dilated(above, thicker), kernel)
    union = union[margin:-margin, margin:-margin] & (values > np.float32(threshold * factor))
    return eroded(filled(union), cross(erosion))


def cross(side: int) -> np.ndarray:
    """The ellipse of three pixels, or nothing."""
    assert side in (1, 3)
    return np.array([[0, 1, 0], [1, 1, 1], [0, 1, 0]]) if side == 3 else np.ones((1, 1), int)


def filled(mask: np.ndarray) -> np.ndarray:
    """Everything but the background that is connected with the outside by edges."""
    outside = np.pad(np.zeros_like(mask), 1, constant_values=True)
    free = np.pad(~mask, 1, constant_values=True)
    while True:
        grown = free & dilated(outside, np.array([[0, 1, 0], [1, 1, 1], [0, 1, 0]]))
        if (grown == outside).all():
            return ~outside[1:-1, 1:-1]
        outside = grown
