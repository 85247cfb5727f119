"""MuSc (arXiv 2401.16753): images of one category score each other, without training and without a normal image.

A normal token has a near neighbor in most of the other images, an anomalous one in few. Everything here takes
tokens; `musc_infer` brings them from an encoder.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor

from robis.detectors.musc.nearest import Products, lowest_mean, nearest_cosines, plan_memory, products_for
from robis.errors import ConfigError, DataError
from robis.io.progress import progress

LAYER_NORM_EPS = 1e-5
# Tiles are pooled in float32 this many bytes at a time.
POOLED_AT_ONCE = 1 << 26

# Gives room on a disk, of a shape and type.
Scratch = Callable[[tuple[int, ...], torch.dtype], Tensor]


def layer_norm(tokens: Tensor) -> Tensor:
    """LayerNorm over all tokens and channels of a tile, the (C, g, g) of the paper, without affine.

    Args:
        tokens: (B, g*g, C), any float type.

    Returns:
        float32 (B, g*g, C). No value is larger than sqrt(g*g*C), so that float16 holds them all.
    """
    return F.layer_norm(tokens.float(), tokens.shape[1:], eps=LAYER_NORM_EPS)


def lnamd(tokens: Tensor, grid: int, r: int) -> Tensor:
    """Local neighborhood aggregation with multiple degrees (paper section 3.2), then L2-normalized.

    The published code unfolds each r x r neighborhood to C r^2 values, zeros beyond the border, and pools them
    adaptively to C. Unfold orders by channel first, so that each pool holds the r^2 values of one channel: an r x r
    average with the padding counted, which needs no copy r^2 times the size.

    Args:
        tokens: float32 (B, g*g, C).
        grid: g.
        r: side of the neighborhood in tokens, odd; 1 takes the tokens as they are.

    Returns:
        float32 (B, g*g, C), unit vectors.
    """
    if r > 1:
        maps = tokens.unflatten(1, (grid, grid)).permute(0, 3, 1, 2)
        maps = F.avg_pool2d(maps, r, stride=1, padding=r // 2, count_include_pad=True)
        tokens = maps.permute(0, 2, 3, 1).flatten(1, 2)
    return F.normalize(tokens, dim=-1)


def random_parts(images: int, subsets: int, seed: int) -> list[np.ndarray]:
    """Split images into random parts, blind to labels, whose sizes differ by at most one.

    Returns:
        Ascending image numbers of each part.

    Raises:
        ConfigError: a part would hold fewer than two images.
    """
    if subsets < 1 or images // subsets < 2:
        raise ConfigError(
            f"musc.subsets: found {subsets} for {images} images; mutual scoring needs at least 2 images in each "
            f"part. Expected 1 to {max(1, images // 2)}."
        )
    if subsets == 1:
        return [np.arange(images)]
    order = np.random.default_rng(seed).permutation(images)
    return [np.sort(part) for part in np.array_split(order, subsets)]


def ranks(others: int, averaged_fraction: Sequence[float]) -> tuple[int, int]:
    """Which of the ascending distances to the other images are averaged: [first, last), at least one.

    Published: averaged_fraction (0, 0.3), without the guarantee of one, so that fewer than five images gave NaN.

    Args:
        others: number of other images, at least 1.
        averaged_fraction: lower and upper end, in 0..1.
    """
    first = min(int(averaged_fraction[0] * others), others - 1)
    return first, min(max(first + 1, int(averaged_fraction[1] * others)), others)


@dataclass(frozen=True)
class Scoring:
    """How images score each other.

    Attributes:
        neighborhood_sizes: sides of the token neighborhoods (LNAMD), odd.
        averaged_fraction: (low, high), see `ranks`.
        parts: image numbers of each part, from `random_parts`.
        memory: bytes that features and distances may take; more goes to `scratch`.
        scratch: gives room for what does not fit.
        device: where to compute.
        dtype: of the features; their products are summed in float32.

    Raises:
        ConfigError: an even side.
    """

    neighborhood_sizes: Sequence[int]
    averaged_fraction: Sequence[float]
    parts: Sequence[np.ndarray]
    memory: int
    scratch: Scratch
    device: torch.device
    dtype: torch.dtype

    def __post_init__(self) -> None:
        sides = list(self.neighborhood_sizes)
        if any(side < 1 or side % 2 == 0 for side in sides):
            raise ConfigError(f"musc.neighborhood_sizes: found {sides}; expected odd numbers such as 1, 3, 5.")


def mutual_scores(
    tokens: Sequence[Tensor],
    images: np.ndarray,
    grid: int,
    scoring: Scoring,
    rounds: range | None = None,
    *,
    ignored: np.ndarray | None = None,
) -> Iterator[Tensor]:
    """Anomaly scores of all tokens by mutual scoring (MSM, paper section 3.3), one round per layer and neighborhood.

    For a token and each other image of its part, the Euclidean distance to the nearest token of any tile of that
    image; of these the mean over the nearest `averaged_fraction`. A tile is never compared with a tile of its own
    image. One tile per image is the published case. The mean over rounds is the token's score.

    Args:
        tokens: per layer (M, g*g, C) of M tiles, from `layer_norm`, on any device, may be mapped from disk. Layers may
            have different widths C.
        images: (M,) image number of each tile, 0..N-1, in any order.
        grid: g.
        scoring: how images score each other.
        rounds: which of the rounds, neighborhoods first; None takes all.
        ignored: bool (M, g*g), tokens that no other is compared with, and whose own scores mean nothing; None: none.

    Yields:
        float32 (M, g*g) on the CPU, range 0..2.

    Raises:
        DataError: all tokens of an image are ignored.
    """
    donors = None if ignored is None else Donors.of(ignored, images)
    sizes = scoring.neighborhood_sizes
    rounds = range(len(tokens) * len(sizes)) if rounds is None else rounds
    products = products_for(scoring.device, scoring.dtype)
    jobs = [tiles_of(part, images) for part in scoring.parts]
    pairs = len(rounds) * sum(_pairs_of(of) for _, of in jobs)
    with progress(pairs, "pairs of tiles", "score") as state:
        for number in rounds:
            layer, side = tokens[number // len(sizes)], sizes[number % len(sizes)]
            scores = torch.zeros(layer.shape[:2])
            for tiles, of in jobs:
                pooling = Pooling(grid, side, scoring.device, scoring.dtype)
                features = features_of(layer, tiles, pooling, donors)
                scores[tiles] = _scores_of_part(features, of, tuple(layer.shape[1:]), scoring, products, state.update)
            yield scores


def _scores_of_part(
    features: Callable[[slice], Tensor],
    of: np.ndarray,
    shape: tuple[int, ...],
    scoring: Scoring,
    products: Products,
    progress: Callable[[int], Any],
) -> Tensor:
    """Scores (M, g*g) of a part's tiles, of which `of` says the image; shape: (g*g, C) of a tile."""
    tokens, width = shape
    plan = plan_memory(of, tokens, width, scoring.dtype.itemsize, scoring.memory)
    room = (len(of), plan.images, tokens)
    best = (
        torch.empty(room, device=scoring.device) if plan.distances_in_memory else scoring.scratch(room, torch.float32)
    )
    nearest_cosines(features, of, plan.blocks, best, products, progress)
    return lowest_mean(best, *ranks(plan.images - 1, scoring.averaged_fraction), scoring.device)


def mean_scores(rounds: Iterable[Tensor]) -> Tensor:
    """Mean of the scores (M, g*g) of all rounds, summed in their order."""
    total, count = torch.zeros(()), 0
    for scores in rounds:
        total, count = total + scores, count + 1
    return total / count


def token_store(widths: Sequence[int], shape: tuple[int, int], images: np.ndarray, scoring: Scoring) -> list[Tensor]:
    """Room for the layer-normed tokens of all tiles: on the device where they fit beside the scoring, else in files.

    Args:
        widths: channels C of each layer.
        shape: (M, g*g).
        images: (M,) image number of each tile.
        scoring: how the tokens will be scored.

    Returns:
        Per layer (M, g*g, C).
    """
    itemsize = scoring.dtype.itemsize
    plans = [
        plan_memory(tiles_of(part, images)[1], shape[1], width, itemsize, scoring.memory)
        for part in scoring.parts
        for width in widths
    ]
    dtype = kept_type(scoring.dtype)
    fits = math.prod(shape) * sum(widths) * dtype.itemsize + max(plan.bytes for plan in plans) <= scoring.memory
    return [
        torch.empty((*shape, width), dtype=dtype, device=scoring.device)
        if fits
        else scoring.scratch((*shape, width), dtype)
        for width in widths
    ]


def kept_type(dtype: torch.dtype) -> torch.dtype:
    """The type that tokens are kept as for features of a type.

    For a reduced one this is float16, which is finer than bfloat16 and holds all of their range.
    """
    return torch.float32 if dtype == torch.float32 else torch.float16


def tiles_of(part: np.ndarray, images: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """The tiles of a part, those of one image side by side, and the image of each, numbered from 0 within the part."""
    tiles = np.flatnonzero(np.isin(images, part))
    tiles = tiles[np.argsort(images[tiles], kind="stable")]
    return tiles, np.unique(images[tiles], return_inverse=True)[1]


def _pairs_of(of: np.ndarray) -> int:
    """Pairs of tiles of different images."""
    counts = np.bincount(of)
    return int(counts.sum() ** 2 - (counts**2).sum()) // 2


@dataclass(frozen=True, eq=False)
class Donors:
    """Which token stands for the ignored ones of each tile: one of the same image that is not ignored.

    As the nearest token of an image is looked for, a token that is there twice changes nothing.

    Attributes:
        ignored: bool (M, g*g).
        tiles, tokens: (M,), the number of the donor's tile, and its own in that tile.
    """

    ignored: np.ndarray
    tiles: np.ndarray
    tokens: np.ndarray

    @classmethod
    def of(cls, ignored: np.ndarray, images: np.ndarray) -> Donors:
        """Choose them, of a tile itself where it has one, given the image number (M,) of each tile."""
        has_kept = ~ignored.all(1)
        tiles = np.arange(len(images))
        for tile in np.flatnonzero(~has_kept):
            others = np.flatnonzero(has_kept & (images == images[tile]))
            if not len(others):
                raise DataError(
                    "dataset.ignore: leaves none of the tokens of an image. At least half of each is ignored; ignore "
                    "less of it."
                )
            tiles[tile] = others[0]
        return cls(ignored, tiles, (~ignored).argmax(1)[tiles])


@dataclass(frozen=True)
class Pooling:
    """How tokens become features.

    Attributes:
        grid: tokens along one side of a tile.
        side: of the neighborhood in tokens, odd, see `lnamd`.
        device, dtype: of the features.
    """

    grid: int
    side: int
    device: torch.device
    dtype: torch.dtype

    def features(self, tokens: Tensor) -> Tensor:
        """Features (B, g*g, C), float32, of the tokens of tiles (B, g*g, C) on any device."""
        return lnamd(tokens.to(self.device).float(), self.grid, self.side)


def features_of(layer: Tensor, tiles: np.ndarray, pooling: Pooling, donors: Donors | None) -> Callable[[slice], Tensor]:
    """Features of a range of some tiles of a layer (M, g*g, C), computed on demand."""
    step = max(1, POOLED_AT_ONCE // (4 * layer[0].numel()))

    def features(chosen: slice) -> Tensor:
        numbers = torch.from_numpy(tiles[chosen]).to(layer.device)
        pooled = torch.empty((len(numbers), *layer.shape[1:]), dtype=pooling.dtype, device=pooling.device)
        for start in range(0, len(numbers), step):
            pooled[start : start + step] = pooling.features(layer[numbers[start : start + step]])
        if donors:
            for place, tile in enumerate(tiles[chosen]):
                donate(pooled[place], int(tile), donors)
        return pooled

    def donate(of_tile: Tensor, tile: int, donors: Donors) -> None:
        """Replace the ignored features (g*g, C) of a tile."""
        if (ignored := donors.ignored[tile]).any():
            donor = int(donors.tiles[tile])
            other = layer[donor : donor + 1]
            features_of_donor = of_tile if donor == tile else pooling.features(other)[0].to(of_tile.dtype)
            of_tile[torch.from_numpy(ignored).to(of_tile.device)] = features_of_donor[int(donors.tokens[tile])].clone()

    return features


def score_maps(scores: Tensor, size: int) -> Tensor:
    """Token scores (B, g*g) as maps (B, size, size), bilinear, corners aligned."""
    grid = math.isqrt(scores.shape[1])
    maps = scores.unflatten(1, (1, grid, grid))
    return F.interpolate(maps, size=(size, size), mode="bilinear", align_corners=True).squeeze(1)
