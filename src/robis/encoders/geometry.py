"""Where the values of a CNN's feature maps lie in the image, and bringing maps to one grid without a shift.

The map of a stage of stride 16 is not simply a grid of cells of 16 x 16 pixels. Padding decides which pixels a value
can see, up to half a cell from the middle of its cell, and depends on the size of the image. Training decides which of
these pixels count: networks trained on mirrored images learn to make up for most of that half cell, and networks with
random weights do not. So the places are measured with the weights at hand: a spot is added to noise, and where a stage
answers is compared with where the spot is.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass

import torch
import torch.nn.functional as F
from torch import Tensor

# Images with a spot each, and the seed of their noise.
_IMAGES, _SEED = 16, 0
# Width of the spots, in cells; the least number of cells along a side of the measured maps.
_SPOT, _CELLS = 0.5, 8
# Measured places are rounded to this part of a pixel, so that rounding errors of the network do not show.
_PARTS = 16


@dataclass(frozen=True)
class StageMap:
    """The map of one stage.

    Attributes:
        first: middle of what value (0, 0) stands for, in pixels (row, column). Pixel k reaches from k to k + 1.
        step: pixels from one value to the next.
        count: values along one side.
    """

    first: tuple[float, float]
    step: int
    count: int


@torch.no_grad()
def measure_stages(
    maps: Callable[[Tensor], Sequence[Tensor]], steps: Sequence[int], size: int, device: torch.device
) -> list[StageMap]:
    """Measure the places of the maps that a network makes of square images.

    Args:
        maps: gives the feature maps (B, C, n, n) of normalized images (B, 3, side, side), for any side.
        steps: pixels from one value of each map to the next.
        size: side of the images in pixels.
        device: where to compute.

    Raises:
        ValueError: a map's values lie closer together or farther apart than `steps` say.
    """
    # Whole steps more or less: padding stays the same at the first values. Large enough that borders do not cut off
    # what spots cause, and no larger, as every job that makes an encoder measures it.
    least = _CELLS * max(steps)
    side = least + (size - least) % max(steps)
    counts = _counts(maps, steps, size, min(size, side), device)
    images, spots, places = _images(side, steps)
    before, after = maps(images.to(device)), maps((images + spots).to(device))
    stages = []
    for first_map, second_map, step, count in zip(before, after, steps, counts, strict=True):
        answers = (second_map - first_map).double().square().sum(1).cpu()
        middles = step * (_centroids(answers) + 0.5)
        first = ((places - middles).mean(0) + step / 2).mul(_PARTS).round().div(_PARTS).tolist()
        stages.append(StageMap((first[0], first[1]), step, count))
    return stages


def _counts(
    maps: Callable[[Tensor], Sequence[Tensor]], steps: Sequence[int], size: int, measured: int, device: torch.device
) -> list[int]:
    """Values along a side of each map, from images of `measured` pixels, whole steps less than `size`."""
    more = max(steps)
    small, large = (maps(torch.zeros(1, 3, side, side, device=device)) for side in (measured, measured + more))
    counts = []
    for values, more_values, step in zip(small, large, steps, strict=True):
        added = more_values.shape[-1] - values.shape[-1]
        if added * step != more:
            raise ValueError(f"{more} more pixels make {added} more values; expected {more // step}")
        counts.append(values.shape[-1] + (size - measured) // step)
    return counts


def _images(side: int, steps: Sequence[int]) -> tuple[Tensor, Tensor, Tensor]:
    """Noise of two coarsenesses, spots near the middle to add to it (both (B, 3 or 1, side, side)), their places."""
    generator = torch.Generator().manual_seed(_SEED)
    fine, coarse = (torch.randn(_IMAGES, 3, part, part, generator=generator) for part in (side, side // 8 + 1))
    noise = (fine + F.interpolate(coarse, size=(side, side), mode="bilinear")) / 2
    # Even about the middle: a network that draws spots toward it does not shift them on average.
    offsets = (torch.arange(4) - 1.5) / 2 * max(steps)
    places = side / 2 + torch.cartesian_prod(offsets, offsets)
    width = _SPOT * (min(steps) * max(steps)) ** 0.5
    distances = torch.arange(side) + 0.5 - places[:, :, None]
    rows, columns = torch.exp(-(distances**2) / (2 * width**2)).unbind(1)
    signs = torch.tensor([1.0, -1.0]).repeat(_IMAGES // 2).view(-1, 1, 1, 1)
    return noise, signs * (rows[:, :, None] * columns[:, None, :])[:, None], places


def _centroids(answers: Tensor) -> Tensor:
    """Centroids (B, 2) of maps (B, n, n), in values; what answers everywhere alike does not count."""
    excess = (answers - answers.flatten(1).median(1).values[:, None, None]).clamp_min(0)
    numbers = torch.arange(answers.shape[-1], dtype=answers.dtype)
    total = excess.sum((1, 2)).clamp_min(torch.finfo(answers.dtype).tiny)
    return torch.stack([(excess.sum(2) @ numbers) / total, (excess.sum(1) @ numbers) / total], dim=1)


def onto_grid(first: float, step: int, count: int, *, size: int, grid: int, average: int = 1) -> Tensor:
    """The matrix (grid, count) that brings one axis of a map to a grid over the image.

    Values are averaged over neighborhoods (at the border over what there is of them), then interpolated linearly
    between their places at the middles of the grid's cells; beyond the outermost place its value holds.

    Args:
        first: place of the first value in pixels.
        step: pixels from one value to the next.
        count: values along the axis.
        size: side of the image in pixels.
        grid: cells along the axis.
        average: side of the neighborhoods in values, odd.
    """
    middles = (torch.arange(grid, dtype=torch.float64) + 0.5) * size / grid
    places = ((middles - first) / step).clamp(0, count - 1)
    numbers = torch.arange(count, dtype=torch.float64)
    weights = (1 - (places[:, None] - numbers).abs()).clamp_min(0)
    near = ((numbers[:, None] - numbers).abs() <= average // 2).double()
    return (weights @ (near / near.sum(1, keepdim=True))).float()
