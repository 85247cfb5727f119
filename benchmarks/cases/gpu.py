"""`make bench-gpu`: INP-Former on a GPU, training and inference, beside the plain float32 formulation, in one run.

    python -m benchmarks.bench gpu --device cuda [--set batch=8 compiled=false]
    python -m benchmarks.bench gpu --quick         # on a CPU, tiny: shows that it runs

Needs torch >= 2.6, timm, NumPy and OpenCV; no Snakemake. Results are compared first; where they differ the run ends
with an error, after its tables. Weights and tiles are random: the time does not depend on their values.
"""

from __future__ import annotations

import statistics
import time
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor

from benchmarks.devices import peak, start_peak, synchronize
from benchmarks.harness import Fact, Options, require, say
from benchmarks.models import BASE, LEARNING_RATE, LOSS, TINY, Pair, Size, recipe, same_maps, same_steps, same_updates
from benchmarks.rates import busy_share, matrix_rate, per_call
from robis.detectors.batches import one_behind, tile_batches
from robis.detectors.jobs import Compute
from robis.detectors.reconstruction.maps import tile_maps
from robis.detectors.reconstruction.step import Order, train_step, training_batches
from robis.encoders.devices import autocast
from robis.tiles.windows import windows

# What bf16 may change in maps: root mean square of the difference over the standard deviation of the maps. Compiled
# code rounds bf16 at other places.
BF16_AGREES = COMPILED_AGREES = 0.05
# One category of MVTec AD 2 as RoBiS trains on it.
IMAGES, IMAGE_SIZE, WINDOW, OVERLAP, EPOCHS = 300, (2048, 2448), 1024, 0.1, 200
FROM_DISK = "From the tile store on disk to results on disk or in the model, reading and writing as the stages do"


@dataclass(frozen=True)
class Sizes:
    """Sizes.

    Attributes:
        model: encoder and tiles.
        batch: tiles per step and per forward pass; the published ones are 16.
        seconds: how long each figure is measured.
        stored: tiles of the store on disk, 0.8 MB each.
        matrix: side of the product that tells the chip's rate.
        compiled: whether the compiled variants are measured.
    """

    model: Size = BASE
    batch: int = 16
    seconds: float = 4.0
    stored: int = 1024
    matrix: int = 8192
    compiled: bool = True


FULL = Sizes()
QUICK = Sizes(TINY, batch=2, seconds=0.05, stored=5, matrix=256, compiled=False)


@dataclass(frozen=True)
class Variant:
    """One way to compute robis's model."""

    precision: str
    compiled: bool = False

    def __str__(self) -> str:
        return f"robis, {self.precision}{', compiled' if self.compiled else ''}"


@dataclass
class Bench:
    """What a run computes with.

    Attributes:
        pair: both models.
        rates: the chip's FLOP/s in a large product, by precision.
    """

    pair: Pair
    sizes: Sizes
    options: Options
    rates: dict[str, float]

    @property
    def variants(self) -> list[Variant]:
        """The plain way first."""
        variants = [Variant("float32"), Variant("bf16"), Variant("bf16", compiled=True)]
        return variants if self.sizes.compiled else variants[:2]

    def compile(self, function: Callable[..., Any]) -> Callable[..., Any]:
        """Compiled for the device."""
        return torch.compile(function, backend="inductor" if self.options.on_gpu else "aot_eager")

    def maps(self, variant: Variant) -> Callable[[Tensor], Tensor]:
        """A function from tiles to their maps."""
        function: Callable[..., Tensor] = partial(tile_maps, self.pair.ours)
        # Compiled code of inference mode is not yet reliable in every supported torch.
        without_gradients: Callable[[], AbstractContextManager] = torch.inference_mode
        if variant.compiled:
            function, without_gradients = self.compile(function), torch.no_grad

        def run(tiles: Tensor) -> Tensor:
            with without_gradients(), autocast(tiles.device, variant.precision):
                return function(tiles, self.pair.size.map_side)

        return run

    def step(self, variant: Variant) -> Callable[[Tensor], tuple[float, float]]:
        """One step of training as a function of tiles."""
        forward = self.compile(self.pair.ours) if variant.compiled else self.pair.ours
        chosen, optimizer = recipe(variant.precision), self.pair.optimizer

        def run(tiles: Tensor) -> tuple[float, float]:
            losses = train_step(lambda batch: LOSS(forward(batch)), optimizer, tiles, LEARNING_RATE, chosen)
            require(all(map(np.isfinite, losses)), f"the loss is {losses[0]}")
            return losses

        return run

    def throughput(self, function: Callable[[], Any], flops: float, precision: str, held: int) -> dict[str, Any]:
        """Figures of a function that does a batch a call, all of it on the device.

        Args:
            flops: per tile.
            held: bytes of its weights and optimizer state; what else lies on the device is not counted as its memory.
        """
        before = start_peak(self.options.device)
        calls = per_call(function, self.options.device, self.sizes.seconds)
        middle = statistics.median(calls)
        reached = flops * self.sizes.batch / middle
        values: dict[str, Any] = {
            "tiles/s": self.sizes.batch / middle,
            "ms per call": f"{1000 * middle:.2f} ({1000 * min(calls):.2f}-{1000 * max(calls):.2f})",
            "TFLOP/s": reached / 1e12,
            "of the matrix rate": f"{reached / self.rates[precision]:.0%}",
        }
        most = peak(self.options.device)
        if before is not None and most is not None:
            values["peak memory, GB"] = (most - before + held) / 1e9
        return values


def attempt(table: str, name: str, function: Callable[[], dict[str, Any]]) -> Fact:
    """One line of a table. An error becomes its note: the other figures are worth having."""
    started = time.perf_counter()
    try:
        fact = Fact(table, name, function())
    except Exception as error:  # whatever goes wrong on this machine
        fact = Fact(table, name, {}, f"FAILED: {type(error).__name__}: {str(error)[:300]}", failed=True)
    say(f"{table}, {name}: {fact.note or dict(fact.values)} [{time.perf_counter() - started:.0f} s]")
    return fact


def check(name: str, agreement: Callable[[], str]) -> Fact:
    """How two results agree, or that they do not."""
    return attempt("Results compared", name, lambda: {"agreement": agreement()})


def rows(options: Options, sizes: Sizes) -> Iterator[Fact]:
    """Everything in its order: rates, results, inference, training, from disk, the estimate."""
    bench = Bench(Pair(sizes.model, torch.device(options.device), sizes.batch), sizes, options, {})
    yield from matrix_rates(bench)
    functions = {variant: bench.maps(variant) for variant in bench.variants}
    yield from inference(bench, functions)
    yield check("a step, plain and robis, float32", lambda: same_steps(bench.pair.plain_step(), bench.pair.our_step()))
    yield check("the optimizer", lambda: same_updates(bench.pair))
    bench.pair.ours.train()
    steps = {variant: bench.step(variant) for variant in bench.variants}
    yield from training(bench, steps)
    yield from loops(bench, functions, steps)


def matrix_rates(bench: Bench) -> Iterator[Fact]:
    """The chip's rate in a large product, which the other figures are compared with."""
    side, seconds = bench.sizes.matrix, min(1.0, bench.sizes.seconds)
    for name, dtype in (("float32", torch.float32), ("bf16", torch.bfloat16)):
        # On a CPU robis computes in float32, whatever the config says.
        dtype = dtype if bench.options.on_gpu else torch.float32
        bench.rates[name] = matrix_rate(side, bench.options.device, dtype, seconds)
        values: dict[str, str | float | None] = {"precision": name, "TFLOP/s": bench.rates[name] / 1e12}
        yield Fact("The chip's matrix rate", f"product of {side} x {side}", values)


def inference(bench: Bench, functions: dict[Variant, Callable[[Tensor], Tensor]]) -> Iterator[Fact]:
    """Maps compared, then timed with tiles on the device."""
    pair = bench.pair
    yield check("maps, plain and robis, float32", lambda: same_maps(pair.plain_maps(), pair.our_maps()))
    exact, reduced = pair.our_maps().clone(), functions[Variant("bf16")]
    yield check("maps, float32 and bf16", lambda: close_maps(exact, reduced(pair.tiles), BF16_AGREES))
    compiled = functions.get(Variant("bf16", compiled=True))
    if compiled:
        agreement = partial(close_maps, limit=COMPILED_AGREES)
        yield check("maps, bf16, compiled or not", lambda: agreement(reduced(pair.tiles), compiled(pair.tiles)))
    held = sum(p.nbytes for p in pair.ours.parameters())
    table = f"Inference, {pair.size.encoder}, batches of {bench.sizes.batch} tiles of {pair.size.side} px on the device"
    plain, flops = pair.plain_flops()[0], pair.flops()[0]
    yield attempt(table, "plain, float32", lambda: bench.throughput(pair.plain_maps, plain, "float32", held))
    for variant, function in functions.items():
        run = partial(bench.throughput, partial(function, pair.tiles), flops, variant.precision, held)
        yield attempt(table, str(variant), run)


def training(bench: Bench, steps: dict[Variant, Callable[[Tensor], Any]]) -> Iterator[Fact]:
    """Steps of training, timed with tiles on the device."""
    pair = bench.pair
    parameters = list(pair.ours.parameters())
    # The optimizer keeps three values per trainable one.
    held = sum(p.nbytes for p in parameters) + 3 * sum(p.nbytes for p in parameters if p.requires_grad)
    table = f"Training, {pair.size.encoder}, steps of {bench.sizes.batch} tiles of {pair.size.side} px on the device"
    plain, flops = pair.plain_flops()[1], pair.flops()[1]
    pair.forget_gradients()
    yield attempt(table, "plain, float32", lambda: bench.throughput(pair.plain_step, plain, "float32", held))
    for variant, step in steps.items():
        pair.forget_gradients()
        run = partial(bench.throughput, partial(step, pair.tiles), flops, variant.precision, held)
        yield attempt(table, str(variant), run)
    pair.forget_gradients()


def loops(
    bench: Bench, functions: dict[Variant, Callable[[Tensor], Tensor]], steps: dict[Variant, Callable[[Tensor], Any]]
) -> Iterator[Fact]:
    """The loops of `infer` and `train` from disk, and the time of a whole training by the latter."""
    folder = bench.options.folder
    store = new_store(folder / "tiles.npy", bench.sizes.stored, bench.pair.size)
    # Nobody would choose float32 on a GPU.
    chosen = [variant for variant in bench.variants if variant.precision == "bf16"]
    bench.pair.ours.eval()
    for variant in chosen:
        loop = partial(infer_loop, bench, functions[variant], folder)
        yield attempt(FROM_DISK, f"infer, {variant}", partial(from_disk, bench, loop, store))
    bench.pair.ours.train()
    for variant in chosen:
        fact = attempt(
            FROM_DISK, f"train, {variant}", partial(from_disk, bench, partial(train_loop, bench, steps[variant]), store)
        )
        yield fact
        if not fact.failed:
            yield estimate(str(variant), bench.sizes.batch, float(fact.values["tiles/s"] or 0))


def close_maps(exact: Tensor, rounded: Tensor, limit: float) -> str:
    """How maps in less precision agree with others."""
    difference = (exact - rounded).float()
    share = (difference.square().mean().sqrt() / exact.std()).item()
    largest = difference.abs().max().item()
    agreement = f"root mean square {share:.1%} of the maps' standard deviation, at most {largest:.1e} of 2"
    require(bool(torch.isfinite(rounded).all()), "maps are not finite")
    require(exact.std().item() > 1e-3, "maps are flat and would agree with anything")
    require(share < limit, agreement)
    return agreement


def new_store(path: Path, count: int, size: Size) -> np.ndarray:
    """A tile store of noise on disk, mapped as the stages map it."""
    store = np.lib.format.open_memmap(path, mode="w+", dtype=np.uint8, shape=(count, size.side, size.side, 3))
    rng = np.random.default_rng(0)
    for start in range(0, count, 16):
        part = store[start : start + 16]
        part[:] = rng.integers(0, 256, part.shape, dtype=np.uint8)
    del store
    return np.load(path, mmap_mode="r")


def infer_loop(bench: Bench, maps: Callable[[Tensor], Tensor], folder: Path, store: np.ndarray) -> Iterator[int]:
    """The loop of `infer`: batches read ahead, maps written one batch behind. Yields each batch's number of tiles."""
    side = bench.pair.size.map_side
    shape = (len(store), side, side)
    out = np.lib.format.open_memmap(folder / "maps.npy", mode="w+", dtype=np.float16, shape=shape)
    compute = Compute(batch_size=bench.sizes.batch, threads=bench.options.threads)
    batches = tile_batches(store, compute, bench.pair.device)
    for start, values in one_behind(batches, lambda _, batch: maps(batch)):
        require(bool(np.isfinite(values).all()), "maps are not finite")
        out[start : start + len(values)] = values
        yield len(values)


def train_loop(bench: Bench, step: Callable[[Tensor], Any], store: np.ndarray) -> Iterator[int]:
    """The loop of `train` for two epochs, batches prepared ahead. Yields each batch's number of tiles."""
    order = Order(seed=0, epochs=range(2), batch_size=bench.sizes.batch)
    for _, batch in training_batches(store, bench.pair.device, order, threads=bench.options.threads):
        step(batch)
        yield len(batch)


def from_disk(bench: Bench, loop: Callable[[np.ndarray], Iterator[int]], store: np.ndarray) -> dict[str, Any]:
    """Figures of a whole loop over a store: a part of it to warm up, all of it timed, a part under the profiler.

    The clock starts when the first batch is done: a training of hours waits for its first batch once.
    """
    part = store[: max(2 * bench.sizes.batch, len(store) // 4)]
    sum(loop(part))
    batches = loop(store)
    next(batches)
    synchronize(bench.options.device)
    started = time.perf_counter()
    tiles = sum(batches)
    synchronize(bench.options.device)
    seconds = time.perf_counter() - started
    share = busy_share(lambda: sum(loop(part)), bench.options.device)
    values: dict[str, Any] = {"tiles": tiles, "tiles/s": tiles / seconds, "threads": bench.options.threads}
    return values | {"GPU busy": None if share is None else f"{share:.0%}"}


def estimate(name: str, batch: int, speed: float) -> Fact:
    """Time to train one category of MVTec AD 2 at a speed in tiles per second."""
    per_image = len(windows(*IMAGE_SIZE, WINDOW, OVERLAP, "pad"))
    tiles = IMAGES * per_image
    steps = EPOCHS * (tiles // batch)
    title = (
        f"{EPOCHS} epochs of one MVTec AD 2 category, estimated: {IMAGES} images of {IMAGE_SIZE[1]} x {IMAGE_SIZE[0]}, "
        f"{per_image} tiles each (window {WINDOW}, overlap {OVERLAP})"
    )
    return Fact(title, name, {"tiles": tiles, "steps": steps, "minutes": steps * batch / speed / 60})
