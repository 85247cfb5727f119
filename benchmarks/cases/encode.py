"""Tiles to tokens: efficientnet_lite0, the encoder for machines without a GPU, beside DINOv2 ViT-S/14."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from functools import partial

from benchmarks.harness import Call, Options, Row, Work, compare_processes

CALL = "benchmarks.cases.encode:encode"


@dataclass(frozen=True)
class Sizes:
    """Encoders, sides of a tile in pixels, and tiles per process."""

    plain: str = "dinov2_vits14"
    plain_side: int = 518
    ours: str = "efficientnet_lite0"
    ours_side: int = 256
    tiles: int = 16


FULL = Sizes()
QUICK = Sizes("vit_tiny_patch16_224", 32, "efficientnet_lite0", 32, tiles=2)


def rows(options: Options, sizes: Sizes) -> Iterator[Row]:
    """The same number of tiles, each encoder at its default side and with its default blocks."""
    plain, ours = (
        Call(CALL, {"name": name, "side": side, "tiles": sizes.tiles})
        for name, side in ((sizes.plain, sizes.plain_side), (sizes.ours, sizes.ours_side))
    )
    what = f"{sizes.tiles} tiles to tokens by {sizes.ours} at {sizes.ours_side} px, four at a time"
    work = Work("encoder", what, f"{sizes.plain} at {sizes.plain_side} px", 10)
    yield compare_processes(work, plain, ours, lambda first, second: "different encoders: tokens differ", options)


def encode(name: str, side: int, tiles: int) -> Callable[[], object]:
    """Set up an encoder with random weights, which take as long as others."""
    import torch

    from robis.encoders.build import build_encoder

    encoder = build_encoder(name, weights="random", input_size=side)
    images = torch.randint(0, 256, (4, side, side, 3), dtype=torch.uint8)

    def run(count: int) -> int:
        with torch.inference_mode():
            return sum(len(encoder(images[: min(4, count - start)])[0]) for start in range(0, count, 4))

    return partial(run, tiles)
