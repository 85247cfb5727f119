"""MuSc's scoring of one split on a GPU as `infer` runs it, and what its matrix products reach. Runs on a CPU, too.

Needs torch, and Triton on the GPU; no workflow.
"""

from __future__ import annotations

import statistics
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from functools import partial

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor

from benchmarks import devices
from benchmarks.harness import Fact, Options, Row, Work, compare, require, timed
from robis.detectors.musc.nearest import NONE_YET, PAIRS_AT_ONCE, Products, pair_maxima, products_for
from robis.detectors.musc.scores import Scoring, layer_norm, mean_scores, mutual_scores, token_store

TYPES = {"bf16": torch.bfloat16, "fp16": torch.float16, "float32": torch.float32}
# Dense bf16 with float32 sums, TFLOP/s, from the vendor's data sheets.
PEAKS = {
    **{"H200": 989, "H100 80GB HBM3": 989, "H100 PCIe": 756, "A100": 312, "L40S": 362, "L4": 121},
    **{"RTX 4090": 165, "RTX 3090": 71, "RTX 5090": 210, "A10": 125},
}


@dataclass(frozen=True)
class Sizes:
    """Sizes.

    Attributes:
        images, grid, width, layers: images, tokens along one side, channels, layers of tokens.
        neighborhoods: sides of the neighborhoods.
        precision: of the products: bf16, fp16 or float32.
        matrix: side of the product that tells the library's rate.
        sweep: whether other launch sizes of the kernel are timed, too; not in float32, which it does not multiply.
    """

    images: int = 200
    grid: int = 37
    width: int = 1024
    layers: int = 4
    neighborhoods: tuple[int, ...] = (1, 3, 5)
    precision: str = "bf16"
    matrix: int = 8192
    sweep: bool = False

    @property
    def flops(self) -> int:
        """Floating-point operations of the products of one layer and neighborhood: every pair of images once."""
        return self.images * (self.images - 1) * self.grid**4 * self.width


FULL = Sizes()
QUICK = Sizes(images=5, grid=4, width=16, layers=2, neighborhoods=(1, 3), precision="float32", matrix=64)


@torch.inference_mode()
def rows(options: Options, sizes: Sizes) -> Iterator[Row | Fact]:
    """The kernel beside plain products, the rate that it reaches, and a whole split."""
    products = PairProducts(sizes, options.device)
    row = products.compared(options)
    yield row
    milliseconds = 1000 * products.seconds(options.repeats)
    yield Fact("Rate of MuSc's products", sizes.precision, _rates(sizes, milliseconds, options))
    if sizes.sweep and sizes.precision != "float32":
        yield from _sweep(products, sizes)
    del products
    yield Fact("MuSc's scoring of one split", _describe(sizes), _split(sizes, milliseconds, options))


def _describe(sizes: Sizes) -> str:
    return (
        f"{sizes.images} images of {sizes.grid} x {sizes.grid} tokens, width {sizes.width}, {sizes.layers} layers, "
        f"neighborhoods {', '.join(map(str, sizes.neighborhoods))}, {sizes.precision}"
    )


class PairProducts:
    """The products of one layer and neighborhood."""

    def __init__(self, sizes: Sizes, device: str) -> None:
        shape = (sizes.images, sizes.grid**2, sizes.width)
        dtype = TYPES[sizes.precision]
        features = F.normalize(torch.randn(shape, generator=torch.Generator().manual_seed(0)), dim=-1)
        self.sizes, self.device, self.features = sizes, device, features.to(device, dtype)
        numbers = torch.combinations(torch.arange(sizes.images, dtype=torch.int32))
        self.pairs = numbers.repeat(1, 2).to(device)
        self.best = torch.empty(sizes.images, sizes.images, sizes.grid**2, device=device)
        self.kernel = products_for(torch.device(device), dtype)

    def run(self, products: Products, pairs: Tensor) -> Tensor:
        """The largest cosines of some pairs."""
        self.best.fill_(NONE_YET)
        for chunk in pairs.split(PAIRS_AT_ONCE):
            products(self.features, self.features, chunk, self.best, self.best)
        return self.best

    def run_again(self, products: Products, pairs: Tensor) -> Tensor:
        """As `run`, in memory that the next run does not change."""
        return self.run(products, pairs).clone()

    def compared(self, options: Options) -> Row:
        """The kernel beside plain products, on some of the pairs."""
        few = self.pairs[:: max(1, len(self.pairs) // 400)]
        work = Work("musc_gpu", f"{len(few)} of {len(self.pairs)} pairs, {_describe(self.sizes)}", "plain products")

        def equal(plain: Tensor, ours: Tensor) -> str:
            require(bool((plain > NONE_YET).any()), "nothing was computed")
            difference = (plain - ours).abs().max().item()
            require(difference < 1e-4, f"cosines differ by {difference:.1e}")
            return f"cosines differ by at most {difference:.0e}"

        plain, ours = (partial(self.run_again, products, few) for products in (pair_maxima, self.kernel))
        return compare(work, plain, ours, equal, options.repeats, options.device)

    def seconds(self, repeats: int) -> float:
        """Median seconds of all pairs."""
        return _median(partial(self.run, self.kernel, self.pairs), repeats, self.device)


def _median(function: Callable[[], object], repeats: int, device: str) -> float:
    """Median seconds after one call to warm up."""
    function()
    return statistics.median(timed(function, device).seconds for _ in range(repeats))


def _rates(sizes: Sizes, milliseconds: float, options: Options) -> dict[str, str | float | None]:
    """The rate of the kernel, of the library in a large product, and of the data sheet."""
    dtype = TYPES[sizes.precision]
    x, y = (torch.randn(sizes.matrix, sizes.matrix, device=options.device).to(dtype) for _ in range(2))
    library = 2 * sizes.matrix**3 / _median(partial(torch.matmul, x, y), 9, options.device) / 1e12
    reached = sizes.flops / milliseconds / 1e9
    values: dict[str, str | float | None] = {
        "ms": milliseconds,
        "TFLOP/s": reached,
        f"torch's {sizes.matrix} x {sizes.matrix} product, TFLOP/s": library,
        "of torch's": f"{reached / library:.0%}",
    }
    chip = devices.name(options.device)
    peak = next((value for name, value in PEAKS.items() if name in chip), None)
    if peak and sizes.precision != "float32":
        values["of the data sheet's peak"] = f"{reached / peak:.0%}"
    return values


def _split(sizes: Sizes, milliseconds: float, options: Options) -> dict[str, str | float | None]:
    """The scoring of one split from tokens in memory to the mean over all rounds."""
    device, numbers = torch.device(options.device), np.arange(sizes.images)
    memory = devices.free_bytes(options.device) * 3 // 4
    scoring = Scoring(sizes.neighborhoods, (0.0, 0.3), [numbers], memory, _room, device, TYPES[sizes.precision])
    tokens = sizes.grid**2
    stored = token_store([sizes.width] * sizes.layers, (sizes.images, tokens), numbers, scoring)
    for layer in stored:
        for image in range(sizes.images):
            layer[image] = layer_norm(torch.randn(1, tokens, sizes.width, device=device))[0]
    whole = partial(_scored, stored, numbers, sizes.grid, scoring)
    scores = whole()
    require(bool(torch.isfinite(scores).all()), "scores are not finite")
    run = timed(whole, options.device)
    in_products = milliseconds / 1000 * sizes.layers * len(sizes.neighborhoods)
    return {
        "s": run.seconds,
        "ms per image": 1000 * run.seconds / sizes.images,
        "in products": f"{in_products / run.seconds:.0%}",
        "tokens, GB": sum(layer.nbytes for layer in stored) / 1e9,
        "peak beside the tokens, GB": None if run.peak_mb is None else run.peak_mb / 1000,
    }


def _scored(stored: list[Tensor], numbers: np.ndarray, grid: int, scoring: Scoring) -> Tensor:
    return mean_scores(mutual_scores(stored, numbers, grid, scoring))


def _room(shape: tuple[int, ...], dtype: torch.dtype) -> Tensor:
    return torch.empty(shape, dtype=dtype)


def _sweep(products: PairProducts, sizes: Sizes) -> Iterator[Fact]:
    """Other launch sizes of the kernel; those that the chip cannot hold are noted."""
    from robis.detectors.musc import kernel

    pieces, steps = [(128, 128), (128, 256), (256, 128), (64, 256)], (32, 64)
    launches = [
        kernel.Launch(rows, cols, channels, warps, stages)
        for rows, cols in pieces
        for channels in steps
        for warps in (4, 8)
        for stages in (3, 4)
    ]
    for launch in launches:
        values: dict[str, str | float | None] = {}
        note = ""
        try:
            run = partial(products.run, partial(kernel.pair_maxima, launch=launch), products.pairs)
            seconds = _median(run, 1, products.device)
            values = {"ms": 1000 * seconds, "TFLOP/s": sizes.flops / seconds / 1e12}
        except Exception as error:  # more shared memory or registers than the chip has
            note = type(error).__name__
        yield Fact("Launch sizes of MuSc's kernel", str(launch), values, note)
