"""MuSc's scoring and neighborhoods beside the published formulation, every run in a process of its own.

Features are random: the time does not depend on their values.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from functools import partial

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor

from benchmarks.harness import Call, Options, Row, Work, compare_processes, require
from benchmarks.plain import musc as plain
from robis.detectors.musc.nearest import lowest_mean, nearest_cosines, pair_maxima, plan_memory
from robis.detectors.musc.scores import lnamd, ranks

AVERAGED_FRACTION = (0.0, 0.3)


@dataclass(frozen=True)
class Sizes:
    """Sizes.

    Attributes:
        images, grid, width: of the scoring: images, tokens along one side, channels.
        neighborhoods: sides of the neighborhoods.
        growth: numbers of images of 16 x 16 tokens that show how the scoring grows.
    """

    images: int = 12
    grid: int = 37
    width: int = 1024
    neighborhoods: tuple[int, ...] = (3, 5)
    growth: tuple[int, ...] = (25, 50, 100, 200)


FULL = Sizes()
QUICK = Sizes(images=4, grid=5, width=16, neighborhoods=(3,), growth=())


def rows(options: Options, sizes: Sizes) -> Iterator[Row]:
    """Scoring of one layer, its growth with the number of images, and neighborhoods."""
    yield _scoring(options, sizes.images, sizes.grid, sizes.width)
    shape = {"images": min(4, sizes.images), "grid": sizes.grid, "width": sizes.width}
    for side in sizes.neighborhoods:
        work = Work(
            "musc",
            f"neighborhoods of {side} x {side} tokens, {_shape(**shape)}",
            "unfold, then adaptive pooling, as published",
        )
        yield _compare("neighborhoods", work, options, **shape, side=side)
    for images in sizes.growth:
        yield _scoring(options, images, min(16, sizes.grid), min(768, sizes.width))


def _scoring(options: Options, images: int, grid: int, width: int) -> Row:
    shape = {"images": images, "grid": grid, "width": width}
    work = Work("musc", f"mutual scoring of one layer, {_shape(**shape)}", "cdist of each image with all, as published")
    return _compare("scoring", work, options, **shape)


def _shape(images: int, grid: int, width: int) -> str:
    return f"{images} images of {grid} x {grid} tokens, width {width}"


def _compare(kind: str, work: Work, options: Options, **arguments: int) -> Row:
    plain_side, our_side = (
        Call(f"benchmarks.cases.musc:{kind}", {"side_name": name, **arguments}) for name in ("plain", "robis")
    )
    return compare_processes(work, plain_side, our_side, agree, options)


def scoring(side_name: str, images: int, grid: int, width: int) -> Callable[[], Tensor]:
    """One side of the scoring; runs in the child."""
    features = unit_features(images, grid, width)
    first, last = ranks(images - 1, AVERAGED_FRACTION)
    if side_name == "plain":
        return partial(plain.mutual_scores, features, first, last)
    return partial(_our_scoring, features, first, last)


def neighborhoods(side_name: str, images: int, grid: int, width: int, side: int) -> Callable[[], Tensor]:
    """One side of the neighborhoods; runs in the child."""
    return partial(
        plain.neighborhoods if side_name == "plain" else lnamd, unit_features(images, grid, width), grid, side
    )


def _our_scoring(features: Tensor, first: int, last: int) -> Tensor:
    images, tokens, width = features.shape
    numbers = np.arange(images)
    blocks = plan_memory(numbers, tokens, width, 4, 1 << 40).blocks
    best = torch.empty(images, images, tokens)
    nearest_cosines(features.__getitem__, numbers, blocks, best, pair_maxima, lambda pairs: None)
    return lowest_mean(best, first, last, torch.device("cpu"))


def unit_features(images: int, grid: int, width: int) -> Tensor:
    """Unit vectors (images, grid*grid, width) with a common part, so that distances differ."""
    generator = torch.Generator().manual_seed(0)
    features = torch.randn(images, grid * grid, width, generator=generator)
    features += torch.randn(1, grid * grid, width, generator=generator)
    # The first product allocates what the library keeps.
    features[0] @ features[0].T
    return F.normalize(features, dim=-1)


def agree(plain_values: np.ndarray, our_values: np.ndarray) -> str:
    """Sums in another order may differ in float32."""
    require(plain_values.shape == our_values.shape, f"shapes are {plain_values.shape} and {our_values.shape}")
    difference = float(np.abs(plain_values - our_values).max())
    require(plain_values.std() > 1e-4, "values are all the same and would agree with anything")
    require(difference < 1e-4, f"values differ by {difference:.1e}")
    return f"differ by at most {difference:.0e}"
