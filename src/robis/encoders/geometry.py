"""Where the values of a CNN's feature maps lie in the image, and bringing maps to one grid without a shift.

A map of stride 16 is not a grid of 16 x 16 cells: padding decides where its values are centered, up to half a cell away
from the middle of the cell, and at sizes that the stride does not divide the map is wider than the image.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn


@dataclass(frozen=True)
class Centers:
    """Centers of a map's values along one axis: value j lies at `first + j * step`, in pixels.

    Pixel k reaches from k to k + 1, so that the first pixel's center is 0.5.
    """

    first: float
    step: float
    count: int


def map_centers(network: nn.Module, size: int, maps: Callable[[Tensor], list[Tensor]]) -> list[Centers | None]:
    """Centers of the maps that a network makes of a square image: the middles of their receptive fields.

    One image is passed through; every layer that changes the size of what it gets moves the centers.

    Args:
        network: a CNN without global connections between its layers that change sizes.
        size: side of the image in pixels.
        maps: gives the feature maps (1, C, n, n) of an image (1, 3, size, size).

    Returns:
        One entry for each map; None where functions instead of layers change sizes, so that centers are unknown.
    """
    # By size: parallel branches of a network meet again, and the first that reaches a size is its main branch.
    known = {size: Centers(0.5, 1.0, size)}
    with _watched(network, known), torch.no_grad():
        outputs = maps(torch.zeros(1, 3, size, size))
    return [known.get(output.shape[-1]) for output in outputs]


@contextmanager
def _watched(network: nn.Module, known: dict[int, Centers]) -> Iterator[None]:
    def note(layer: Any, inputs: tuple[Any, ...], output: Any) -> None:
        before, after = inputs[0].shape[-1], output.shape[-1]
        if before in known and after not in known:
            known[after] = _moved(known[before], layer, after)

    layers = [layer for layer in network.modules() if hasattr(layer, "stride") and _kernel(layer) is not None]
    hooks = [layer.register_forward_hook(note) for layer in layers]
    try:
        yield
    finally:
        for hook in hooks:
            hook.remove()


def _moved(centers: Centers, layer: Any, count: int) -> Centers:
    kernel, stride = _side(_kernel(layer)), _side(layer.stride)
    reach = _side(getattr(layer, "dilation", 1)) * (kernel - 1)
    if type(layer).__name__.endswith("Same"):
        # timm's layers that pad as TensorFlow does: by the size, and one more at the end where the sum is odd.
        padding = max((count - 1) * stride + reach + 1 - centers.count, 0) // 2
    else:
        padding = _side(layer.padding)
    return Centers(centers.first + centers.step * (reach / 2 - padding), centers.step * stride, count)


def _kernel(layer: Any) -> Any:
    """Side of what a layer looks at; `filt_size` of timm's blurring layers."""
    return getattr(layer, "kernel_size", getattr(layer, "filt_size", None))


def _side(value: Any) -> int:
    return int(value[-1] if isinstance(value, (tuple, list)) else value)


def onto_grid(centers: Centers, size: int, grid: int, *, average: int = 1) -> Tensor:
    """The matrix (grid, n) that brings one axis of a map to a grid over the image.

    Values are averaged over neighborhoods (at the border over what there is of them), then interpolated linearly
    between their centers at the middles of the grid's cells; beyond the outermost center its value holds.

    Args:
        centers: of the map's n values.
        size: side of the image in pixels.
        grid: cells along the axis.
        average: side of the neighborhoods in values, odd.
    """
    middles = (torch.arange(grid, dtype=torch.float64) + 0.5) * size / grid
    places = ((middles - centers.first) / centers.step).clamp(0, centers.count - 1)
    numbers = torch.arange(centers.count, dtype=torch.float64)
    weights = (1 - (places[:, None] - numbers).abs()).clamp_min(0)
    near = ((numbers[:, None] - numbers).abs() <= average // 2).double()
    return (weights @ (near / near.sum(1, keepdim=True))).float()
