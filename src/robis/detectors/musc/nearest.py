"""For every token the nearest token of every other image: one product per pair of tiles, in bounded memory."""

from __future__ import annotations

import logging
import math
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from threading import Lock

import numpy as np
import torch
from torch import Tensor

logger = logging.getLogger(__name__)

# Below every cosine: nothing found yet.
NONE_YET = -2.0
# Pairs handed over at once: enough to fill any GPU, few enough for a moving progress bar.
PAIRS_AT_ONCE = 4096
SELECTED_AT_ONCE = 1 << 26

Products = Callable[[Tensor, Tensor, Tensor, Tensor, Tensor], None]


@dataclass(frozen=True)
class MemoryPlan:
    """How the scoring of one part keeps to its memory.

    Attributes:
        images: number of images, N.
        blocks: ranges of images; the features of two of them are in memory at a time, or of the only one.
        distances_in_memory: whether the (M, N, g*g) cosines are; otherwise they lie in a file.
        bytes: what the plan keeps in memory.
    """

    images: int
    blocks: list[range]
    distances_in_memory: bool
    bytes: int


def plan_memory(of: np.ndarray, tokens: int, width: int, itemsize: int, memory: int) -> MemoryPlan:
    """Fit the features and distances of a part into memory.

    With M tiles of N images, features take M x T x C values and distances M x N x T. Whatever the memory, the
    features of two images and what belongs to them are in it.

    Args:
        of: (M,) ascending image number of each tile, from 0.
        tokens: per tile, T.
        width: channels of a token, C.
        itemsize: bytes of a feature's value.
        memory: bytes to keep to.
    """
    counts = np.bincount(of)
    images, tiles = len(counts), len(of)
    features, distance = tokens * width * itemsize, tokens * 4
    distances = tiles * images * distance
    whole = tiles * features + distances
    if whole <= memory:
        return MemoryPlan(images, [range(images)], True, whole)
    in_memory = distances <= memory // 2
    left = memory - distances if in_memory else memory
    # t tiles in each of two blocks: 2 t features and, where distances are in a file, 2 t^2 of them on their way there.
    most = (
        left / (2 * features)
        if in_memory
        else (math.sqrt(features**2 + 2 * distance * left) - features) / (2 * distance)
    )
    blocks, first, held = [], 0, 0
    for image, count in enumerate(counts.tolist()):
        if held and held + count > most:
            blocks.append(range(first, image))
            first, held = image, 0
        held += count
    blocks.append(range(first, images))
    return MemoryPlan(images, blocks, in_memory, memory)


def products_for(device: torch.device, dtype: torch.dtype) -> Products:
    """The fused kernel for float16 and bfloat16 on a GPU where Triton works, else plain products.

    In float32, which matrix units do not multiply, torch's products are faster than the kernel (on an H200 1.7 times).
    """
    if device.type == "cuda" and dtype != torch.float32:
        try:
            from robis.detectors.musc import kernel

            x = torch.zeros(2, 16, 64, dtype=dtype, device=device)
            pairs = torch.tensor([[0, 1, 0, 1]], dtype=torch.int32, device=device)
            best = torch.full((2, 2, 16), NONE_YET, device=device)
            kernel.pair_maxima(x, x, pairs, best, best)
            torch.cuda.synchronize(device)
            return kernel.pair_maxima
        except Exception as error:  # no Triton, no C compiler, a GPU that it does not know: no base class in common
            reason = (str(error).strip().splitlines() or [type(error).__name__])[0]
            logger.warning("Triton cannot be used here (%s): plain products, which are slower.", reason)
    return pair_maxima


def pair_maxima(x: Tensor, y: Tensor, pairs: Tensor, rows: Tensor, cols: Tensor) -> None:
    """Raise the cosines of the nearest tokens by those of some pairs of tiles; each pair is one product.

    Reduced types are multiplied in float32, in which their products are exact, as in the fused kernel.

    Args:
        x, y: (A, T, C) and (B, T, C) unit vectors.
        pairs: int32 (P, 4): tile a of x, tile b of y, the image of a, the image of b.
        rows: float32 (A, images of y, T): for tokens of x the cosine of the nearest token of each image of y.
        cols: float32 (B, images of x, T), the other way round. May be `rows` where x is y.
    """
    work = iter(pairs.tolist())
    merging = Lock()

    @torch.inference_mode()  # which is a thread's own
    def take_pairs() -> None:
        product = _aligned(x.shape[1], y.shape[1], x.device)
        for a, b, image_a, image_b in work:
            torch.mm(x[a].float(), y[b].float().T, out=product)
            row, col = product.amax(1), product.amax(0)
            with merging:
                rows[a, image_b] = torch.maximum(rows[a, image_b], row)
                cols[b, image_a] = torch.maximum(cols[b, image_a], col)

    if x.device.type != "cpu":
        take_pairs()
        return
    # A pair per core, not one pair on all: no core waits for another, and a product is the same on any number of them.
    cores = torch.get_num_threads()
    torch.set_num_threads(1)
    try:
        with ThreadPoolExecutor(cores, initializer=torch.set_num_threads, initargs=(1,)) as pool:
            for done in [pool.submit(take_pairs) for _ in range(cores)]:
                done.result()
    finally:
        torch.set_num_threads(cores)


def _aligned(rows: int, cols: int, device: torch.device) -> Tensor:
    """Room for a product whose rows begin at cache lines: MKL fills 1369 x 1369 in two thirds of the time then."""
    return torch.empty(rows, -(-cols // 16) * 16, device=device)[:, :cols]


def nearest_cosines(
    features: Callable[[slice], Tensor],
    of: np.ndarray,
    blocks: list[range],
    best: Tensor,
    products: Products,
    advance: Callable[[int], object],
) -> None:
    """Fill `best` with the largest cosine of every token with the tokens of every image.

    Args:
        features: gives (tiles, T, C) unit vectors of a range of tiles, on the device that computes.
        of: (M,) ascending image number of each tile, from 0.
        blocks: ranges of images whose features are in memory together.
        best: float32 (M, N, T); `NONE_YET` where tile and image belong together. On the same device, or
            mapped from a file.
        products: `pair_maxima`, or the kernel of that name.
        advance: called with the number of pairs that were done.
    """
    starts = np.searchsorted(of, np.arange(best.shape[1] + 1)).tolist()
    tiles_of = [slice(starts[block.start], starts[block.stop]) for block in blocks]
    for number, (first, x_tiles) in enumerate(zip(blocks, tiles_of, strict=True)):
        x = features(x_tiles)
        for second, y_tiles in zip(blocks[number:], tiles_of[number:], strict=True):
            # No name holds a block's features longer than they are needed.
            _compare_blocks(
                x,
                x if second is first else features(y_tiles),
                (of[x_tiles] - first.start, of[y_tiles] - second.start),
                best[x_tiles, second.start : second.stop],
                best[y_tiles, first.start : first.stop],
                products,
                advance,
            )
        del x


def _compare_blocks(
    x: Tensor,
    y: Tensor,
    of: tuple[np.ndarray, np.ndarray],
    rows: Tensor,
    cols: Tensor,
    products: Products,
    advance: Callable[[int], object],
) -> None:
    """All pairs of two blocks' tiles, or of one block's; `rows` and `cols` are their parts of the result."""
    # In memory the result grows in place; a file is written at the end.
    in_place = rows.device == x.device
    new_rows = rows if in_place else torch.empty(rows.shape, device=x.device)
    new_cols = cols if in_place else torch.empty(cols.shape, device=x.device)
    if x is y:
        new_cols = new_rows
    new_rows.fill_(NONE_YET)
    new_cols.fill_(NONE_YET)
    for pairs in _pairs(*of, same=x is y):
        products(x, y, torch.from_numpy(pairs).to(x.device), new_rows, new_cols)
        advance(len(pairs))
    if not in_place:
        rows.copy_(new_rows)
        cols.copy_(new_cols)


def _pairs(of_x: np.ndarray, of_y: np.ndarray, *, same: bool) -> Iterator[np.ndarray]:
    """Chunks of int32 (P, 4): tile a, tile b, image of a, image of b; each pair of images once, none with itself."""
    waiting: list[np.ndarray] = []
    for a, image in enumerate(of_x):
        b = np.arange(np.searchsorted(of_y, image, side="right") if same else 0, len(of_y))
        rows = np.empty((len(b), 4), np.int32)
        rows[:, 0], rows[:, 1], rows[:, 2], rows[:, 3] = a, b, image, of_y[b]
        waiting.append(rows)
        if sum(map(len, waiting)) >= PAIRS_AT_ONCE or a == len(of_x) - 1:
            joined = np.concatenate(waiting)
            waiting = []
            for start in range(0, len(joined), PAIRS_AT_ONCE):
                yield joined[start : start + PAIRS_AT_ONCE]


def lowest_mean(best: Tensor, first: int, last: int, device: torch.device) -> Tensor:
    """Mean over ranks [first, last) of the ascending distances to the other images.

    Args:
        best: float32 (M, N, T) from `nearest_cosines`.
        first, last: ranks, at most N - 1.
        device: where to compute.

    Returns:
        float32 (M, T) on the CPU.
    """
    means = torch.empty(best.shape[0], best.shape[2])
    step = max(1, SELECTED_AT_ONCE // (4 * best[0].numel()))
    for start in range(0, len(best), step):
        # The distance of unit vectors falls as their cosine rises: the nearest have the largest cosines.
        cosines = best[start : start + step].to(device).transpose(1, 2).contiguous()
        nearest = cosines.topk(last, dim=-1, sorted=True).values[..., first:]
        means[start : start + step] = (2 - 2 * nearest).clamp_(min=0).sqrt_().mean(-1)
    return means
