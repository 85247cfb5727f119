"""SuperADD's nearest distances and neighbors beside the full distance matrix.

Tokens are random, in clumps: the time does not depend on their values. On the CPU every run is a process of its own.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from functools import partial
from typing import Any

import numpy as np
import torch
from torch import Tensor

from benchmarks.harness import Call, Options, Row, Work, compare, compare_processes, require
from benchmarks.plain import superadd as plain
from robis.detectors.memory_bank.bank import Bank, neighbor_distances

NEIGHBORS = 100
NAMES = ("plain", "robis")
PLAIN = "the full distance matrix"


@dataclass(frozen=True)
class Sizes:
    """Sizes.

    Attributes:
        width: channels of a token.
        queries: tokens whose distance is computed; a tile has 1,600.
        banks: tokens in the bank.
        parts: tokens of a part that are thinned together.
    """

    width: int = 384
    queries: int = 1600
    banks: tuple[int, ...] = (10_000, 30_000, 100_000)
    # The full matrix of a larger part would not fit beside much else.
    parts: tuple[int, ...] = (2_500, 10_000)


FULL = Sizes()
GPU = Sizes(width=1280, queries=25_600, parts=(2_500, 10_000, 43_200))
QUICK = Sizes(width=16, queries=40, banks=(200,), parts=(150,))


@torch.inference_mode()
def rows(options: Options, sizes: Sizes, *, in_processes: bool | None = None) -> Iterator[Row]:
    """Distances to banks of several sizes, neighbors within parts of several sizes.

    in_processes: whether each run is a process of its own; None: on the CPU.
    """
    row = _row_of_processes if (not options.on_gpu if in_processes is None else in_processes) else _row
    for bank in sizes.banks:
        what = f"distance of {sizes.queries} tokens to a bank of {bank}, width {sizes.width}"
        arguments = {"width": sizes.width, "queries": sizes.queries, "tokens": bank}
        yield row("nearest", what, arguments, options)
    for part in sizes.parts:
        what = f"{NEIGHBORS} nearest neighbors of {part} tokens, width {sizes.width}"
        yield row("neighbors", what, {"width": sizes.width, "tokens": part}, options)


def _row(kind: str, what: str, arguments: dict[str, Any], options: Options) -> Row:
    plain_side, our_side = (SIDES[kind](side=name, device=options.device, **arguments) for name in NAMES)
    work = Work("superadd", what, PLAIN)
    return compare(work, plain_side, our_side, agree_of_tensors, options.repeats, options.device)


def _row_of_processes(kind: str, what: str, arguments: dict[str, Any], options: Options) -> Row:
    plain_call, our_call = (Call(f"benchmarks.cases.superadd:{kind}", {"side": name, **arguments}) for name in NAMES)
    return compare_processes(Work("superadd", what, PLAIN), plain_call, our_call, agree, options)


def nearest(side: str, width: int, queries: int, tokens: int, device: str = "cpu") -> Callable[[], Tensor]:
    """One side of the distances; the bank is made once, as in `infer`."""
    bank, tiles = clumped_tokens(tokens, width, 1, device), clumped_tokens(queries, width, 2, device)
    run = partial(plain.nearest, tiles, bank) if side == "plain" else partial(Bank.of(bank).nearest, tiles)
    return torch.inference_mode()(run)


def neighbors(side: str, width: int, tokens: int, device: str = "cpu") -> Callable[[], Tensor]:
    """One side of the neighbors, whose distances come in no order."""
    function = plain.neighbor_distances if side == "plain" else neighbor_distances
    part = clumped_tokens(tokens, width, 1, device)
    return torch.inference_mode()(lambda: function(part, NEIGHBORS))


SIDES: dict[str, Callable[..., Callable[[], Tensor]]] = {"nearest": nearest, "neighbors": neighbors}


def clumped_tokens(count: int, width: int, seed: int, device: str) -> Tensor:
    """Tokens (count, width) around a thousand centers, made in place, so that nothing else takes memory."""
    generator = torch.Generator(device).manual_seed(seed)
    centers = torch.randn(1000, width, generator=torch.Generator(device).manual_seed(0), device=device)
    tokens = torch.randn(count, width, generator=generator, device=device)
    for start in range(0, count, 1000):
        tokens[start : start + 1000] += 2 * centers[: len(tokens[start : start + 1000])]
    # The first product allocates what the library keeps.
    centers[:64] @ centers[:64].T
    return tokens


def agree(plain_distances: np.ndarray, our_distances: np.ndarray) -> str:
    """Distances of a token's neighbors are sorted before they are compared."""
    if plain_distances.ndim == 2:
        plain_distances, our_distances = np.sort(plain_distances, 1), np.sort(our_distances, 1)
    require(plain_distances.std() > 1e-3, "distances are all the same and would agree with anything")
    difference = float(np.abs(plain_distances - our_distances).max())
    require(difference < 1e-3 * plain_distances.mean(), f"distances differ by {difference:.1e}")
    return f"differ by at most {difference:.0e}"


def agree_of_tensors(plain_distances: Tensor, our_distances: Tensor) -> str:
    """The same for tensors, which may be on a GPU."""
    return agree(plain_distances.cpu().numpy(), our_distances.cpu().numpy())
