"""Tiles to tokens on a CPU: encoders as robis runs them, one tile at a time, beside other ways to run them."""

from __future__ import annotations

import statistics
from collections.abc import Callable, Iterator, Mapping
from copy import deepcopy
from dataclasses import dataclass
from functools import partial
from typing import Any

import torch
from torch import Tensor

from benchmarks.harness import Fact, Options, require, timed
from robis.encoders.build import build_encoder

BF16 = "bf16"
# By how much tokens may differ, as a fraction of the largest value: rounding in float32, and in bf16.
ROUNDING, REDUCED = 1e-5, 0.3


@dataclass(frozen=True)
class Sizes:
    """Encoders with random weights, the side of each one's tiles in pixels, and tiles per run."""

    names: tuple[str, ...] = ("efficientnet_lite0", "resnet18", "wide_resnet50_2", "dinov2_vits14")
    sides: tuple[int, ...] = (256, 256, 256, 224)
    tiles: int = 4


FULL = Sizes()
QUICK = Sizes(("resnet18", "vit_tiny_patch16_224"), (32, 32), tiles=2)


def rows(options: Options, sizes: Sizes) -> Iterator[Fact]:
    """A line for each encoder: all ways in turns, on as many threads for a tile as the options say."""
    tiles_of = partial(torch.randint, 0, 256, dtype=torch.uint8, generator=torch.Generator().manual_seed(0))
    table = f"Tiles to tokens on a CPU, {options.threads} threads for each tile: CPU ms, and how many times as fast"
    for name, side in zip(sizes.names, sizes.sides, strict=True):
        ways = _ways(build_encoder(name, weights="random", input_size=side), tiles_of((sizes.tiles, side, side, 3)))
        yield Fact(table, f"{name}, {side} px", _columns(ways, options.repeats, sizes.tiles))


def _ways(encoder: Any, tiles: Tensor) -> Mapping[str, Callable[[], list[Tensor]]]:
    """Ways to run an encoder, by name; the first is the one that others are compared with."""
    channels_last = deepcopy(encoder).to(memory_format=torch.channels_last)
    return {
        "robis": partial(_tokens, encoder, tiles),
        "weights channels-last": partial(_tokens, channels_last, tiles),
        f"{len(tiles)} tiles at once": partial(_tokens, encoder, tiles, at_once=len(tiles)),
        BF16: partial(_tokens, encoder, tiles, reduced=True),
    }


def _tokens(encoder: Any, tiles: Tensor, at_once: int = 1, reduced: bool = False) -> list[Tensor]:
    with torch.inference_mode(), torch.autocast("cpu", torch.bfloat16, enabled=reduced):
        passes = [encoder(part) for part in tiles.split(at_once)]
    return [torch.cat(layer).float() for layer in zip(*passes, strict=True)]


def _columns(ways: Mapping[str, Callable[[], list[Tensor]]], repeats: int, tiles: int) -> dict[str, str | float | None]:
    """Median CPU ms of a tile as robis runs it; of the other ways the ratio, and how much tokens differ."""
    expected, *_ = tokens = [run() for run in ways.values()]
    differences = {name: _difference(expected, found) for name, found in zip(ways, tokens, strict=True)}
    for name, difference in differences.items():
        require(difference <= (REDUCED if name == BF16 else ROUNDING), f"{name}: tokens differ by {difference:.0e}")
    seconds: dict[str, list[float]] = {name: [] for name in ways}
    for turn in range(repeats):
        for name in list(ways)[:: -1 if turn % 2 else 1]:
            seconds[name].append(timed(ways[name]).cpu_seconds)
    (plain, first), *others = [(name, statistics.median(values)) for name, values in seconds.items()]
    values: dict[str, str | float | None] = {f"{plain}, CPU ms": round(1000 * first / tiles, 1)}
    for name, value in others:
        values[name] = f"{first / max(value, 1e-9):.2f} ({differences[name]:.0e})"
    return values


def _difference(expected: list[Tensor], found: list[Tensor]) -> float:
    """The largest difference of tokens, as a fraction of the largest value of their layer."""
    pairs = zip(expected, found, strict=True)
    return max(float((theirs - ours).abs().max() / theirs.abs().max()) for theirs, ours in pairs)
