"""`make bench-gpu`: INP-Former on a GPU, training and inference, beside the plain float32 formulation, in one run.

    make bench-gpu
    PYTHONPATH=src python3 benchmarks/gpu.py [--batch 16] [--json FILE] [--no-compile]
    PYTHONPATH=src python3 benchmarks/gpu.py --device cpu --quick    # tiny, shows that it runs
    PYTHONPATH=src python3 benchmarks/gpu.py --write-docs            # the tables of docs/performance.md from the JSON

Needs torch >= 2.6, timm, NumPy and OpenCV; no Snakemake. Results are compared first; the run ends with an error, after
its tables, where they differ. Weights and tiles are random: time does not depend on what they say.
"""

from __future__ import annotations

import argparse
import json
import os
import statistics
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path
from typing import Any

sys.path.insert(0, str(Path(__file__).parents[1] / "src"))
sys.path.insert(0, str(Path(__file__).parents[1]))

import numpy as np
import torch
from torch import Tensor

from benchmarks import harness
from benchmarks.models import BASE, LEARNING_RATE, TINY, Pair, Size, recipe, same_maps, same_steps, same_updates
from robis.detectors.batches import one_behind, tile_batches
from robis.detectors.inp_former.step import train_step, training_batches
from robis.encoders.devices import autocast
from robis.tiles.windows import windows

BLOCK = "make bench-gpu"
# What bf16 may change in maps: root mean square of the difference over the standard deviation of the maps.
BF16_AGREES = 0.05
# Compiled or not, bf16 rounds at other places.
COMPILED_AGREES = 0.05
# One category of MVTec AD 2 as RoBiS trains on it.
IMAGES, IMAGE_SIZE, WINDOW, OVERLAP, EPOCHS = 300, (2048, 2448), 1024, 0.1, 200


@dataclass
class Bench:
    """What a run is made with, and what it has found.

    Attributes:
        pair: both models.
        seconds: how long each figure is measured.
        stored: tiles of the store on disk, for what is timed from disk to result.
        threads: that prepare batches.
        backend: of torch.compile; None compiles nothing.
        facts: lines of the tables.
        failures: checks that did not hold.
    """

    pair: Pair
    seconds: float
    stored: int
    threads: int
    backend: str | None
    facts: list[harness.Fact] = field(default_factory=list)
    failures: list[str] = field(default_factory=list)

    @property
    def device(self) -> torch.device:
        """Where everything is computed."""
        return self.pair.device

    def check(self, name: str, compare: Callable[[], str]) -> None:
        """Note how two results agree; a difference or an error fails the run at its end, not now."""
        try:
            told = compare()
        except Exception as error:  # whatever goes wrong on this machine, the other figures are worth having
            told = f"FAILED: {type(error).__name__}: {str(error)[:300]}"
            self.failures.append(f"{name}: {told}")
        self.facts.append(harness.Fact("Results compared", name, {"agreement": told}))
        say(f"{name}: {told}")

    def measure(self, table: str, name: str, function: Callable[[], dict[str, Any]]) -> dict[str, Any]:
        """One line of a table; an error is its note and fails the run at its end."""
        started = time.perf_counter()
        try:
            values, note = function(), ""
        except Exception as error:
            values, note = {}, f"FAILED: {type(error).__name__}: {str(error)[:300]}"
            self.failures.append(f"{name}: {note}")
        self.facts.append(harness.Fact(table, name, values, note))
        say(f"{table}, {name}: {values or note} [{time.perf_counter() - started:.0f} s]")
        return values


def say(line: str) -> None:
    """Progress, which is no part of the tables."""
    print(line, file=sys.stderr, flush=True)


def synchronize(device: torch.device) -> None:
    """Wait for the GPU, if there is one."""
    if device.type == "cuda":
        torch.cuda.synchronize(device)


def per_call(function: Callable[[], Any], device: torch.device, seconds: float, at_least: int = 3) -> list[float]:
    """Seconds of each call, for `seconds` in all, after two calls to warm up."""
    for _ in range(2):
        function()
    synchronize(device)
    found: list[float] = []
    while sum(found) < seconds or len(found) < at_least:
        started = time.perf_counter()
        function()
        synchronize(device)
        found.append(time.perf_counter() - started)
    return found


def throughput(
    function: Callable[[], Any], items: int, flops: float, rate: float, held: int, device: torch.device, seconds: float
) -> dict[str, Any]:
    """Figures of one function that does `items` tiles a call, all of it on the device.

    `held` bytes are its own weights and optimizer state; what else lies on the device is not counted as its memory.
    """
    before = 0
    if device.type == "cuda":
        torch.cuda.empty_cache()
        torch.cuda.reset_peak_memory_stats(device)
        before = torch.cuda.memory_allocated(device)
    found = per_call(function, device, seconds)
    middle = statistics.median(found)
    values: dict[str, Any] = {
        "tiles/s": items / middle,
        "ms per call": f"{1000 * middle:.2f} ({1000 * min(found):.2f}-{1000 * max(found):.2f})",
        "TFLOP/s": flops * items / middle / 1e12,
        "of the matrix rate": f"{flops * items / middle / rate:.0%}",
    }
    if device.type == "cuda":
        values["peak memory, GB"] = (torch.cuda.max_memory_allocated(device) - before + held) / 1e9
    return values


def matrix_rate(dtype: torch.dtype, side: int, device: torch.device, seconds: float) -> float:
    """FLOP/s of the chip in products of square matrices, by the library that torch takes."""
    x, y = (torch.randn(side, side, device=device).to(dtype) for _ in range(2))
    out = torch.empty(side, side, device=device, dtype=dtype)
    calls = 10 if device.type == "cuda" else 1

    def several() -> None:
        for _ in range(calls):
            torch.mm(x, y, out=out)

    return 2 * calls * side**3 / statistics.median(per_call(several, device, seconds, 5))


def busy_share(function: Callable[[], Any], device: torch.device) -> float | None:
    """Share of the time from the first kernel to the last in which the GPU runs one, or copies; None without a GPU."""
    if device.type != "cuda":
        return None
    from torch.profiler import ProfilerActivity, profile

    with profile(activities=[ProfilerActivity.CUDA]) as profiler:
        function()
        synchronize(device)
    # Named ranges, such as the optimizer's, span gaps between kernels.
    spans = sorted(
        (event.time_range.start, event.time_range.end)
        for event in profiler.events() or []
        if event.device_type == torch.autograd.DeviceType.CUDA
        and not getattr(event, "is_user_annotation", False)
        and not event.name.startswith(("Optimizer.", "ProfilerStep"))
    )
    if not spans:
        return None
    busy, reached = 0.0, spans[0][0]
    for start, end in spans:
        busy += max(0.0, end - max(start, reached))
        reached = max(reached, end)
    return busy / (reached - spans[0][0])


class Variants:
    """Robis's model in a precision, compiled or not, as functions of a batch."""

    def __init__(self, bench: Bench) -> None:
        self.bench, self.model = bench, bench.pair.ours
        self.size = bench.pair.size.map_side

    def names(self) -> list[tuple[str, str, bool]]:
        """(name, precision, compiled), the plain way first."""
        found = [("robis, float32", "float32", False), ("robis, bf16", "bf16", False)]
        return [*found, ("robis, bf16, compiled", "bf16", True)] if self.bench.backend else found

    def maps(self, precision: str, compiled: bool) -> Callable[[Tensor], Tensor]:
        """From tiles to their maps."""
        function: Callable[..., Tensor] = self.model.tile_maps
        # Compiled code of inference mode is not yet reliable in every supported torch.
        quiet: Callable[[], AbstractContextManager] = torch.no_grad if compiled else torch.inference_mode
        if compiled:
            function = torch.compile(function, backend=self.bench.backend)

        def run(tiles: Tensor) -> Tensor:
            with quiet(), autocast(tiles.device, precision):
                return function(tiles, self.size)

        return run

    def step(self, precision: str, compiled: bool) -> Callable[[Tensor], tuple[float, float]]:
        """One step of training."""
        forward = torch.compile(self.model, backend=self.bench.backend) if compiled else self.model
        chosen, optimizer = recipe(precision), self.bench.pair.optimizer

        def run(tiles: Tensor) -> tuple[float, float]:
            found = train_step(forward, optimizer, tiles, LEARNING_RATE, chosen)
            harness.require(all(map(np.isfinite, found)), f"the loss is {found[0]}")
            return found

        return run


def close_maps(exact: Tensor, rounded: Tensor, limit: float) -> str:
    """How maps in less precision agree with others."""
    difference = (exact - rounded).float()
    share = (difference.square().mean().sqrt() / exact.std()).item()
    largest = difference.abs().max().item()
    told = f"root mean square {share:.1%} of the maps' standard deviation, at most {largest:.1e} of 2"
    harness.require(bool(torch.isfinite(rounded).all()), "maps are not finite")
    harness.require(exact.std().item() > 1e-3, "maps are flat and would agree with anything")
    harness.require(share < limit, told)
    return told


def run(bench: Bench, side: int) -> None:
    """Everything in its order: rates, results, inference, training, the estimate."""
    device, pair = bench.device, bench.pair
    rates = {}
    for name, dtype in (("float32", torch.float32), ("bf16", torch.bfloat16)):
        # On a CPU robis computes in float32 whatever the config says.
        dtype = dtype if device.type == "cuda" else torch.float32
        rates[name] = matrix_rate(dtype, side, device, min(1.0, bench.seconds))
        values = {"precision": name, "TFLOP/s": rates[name] / 1e12}
        bench.facts.append(harness.Fact("The chip's matrix rate", f"product of {side} x {side}", values))
        say(f"matrix rate, {name}: {rates[name] / 1e12:.2f} TFLOP/s")
    variants = Variants(bench)
    maps_flops, step_flops = pair.flops()
    plain_maps_flops, plain_step_flops = pair.plain_flops()
    batch = len(pair.tiles)

    bench.check("maps, plain and robis, float32", lambda: same_maps(pair.plain_maps(), pair.our_maps()))
    exact = pair.our_maps().clone()
    functions = {name: variants.maps(precision, compiled) for name, precision, compiled in variants.names()}
    bf16, compiled_bf16 = functions["robis, bf16"], functions.get("robis, bf16, compiled")
    bench.check("maps, float32 and bf16", lambda: close_maps(exact, bf16(pair.tiles), BF16_AGREES))
    if compiled_bf16:
        bench.check(
            "maps, bf16, compiled or not",
            lambda: close_maps(bf16(pair.tiles), compiled_bf16(pair.tiles), COMPILED_AGREES),
        )

    def line(function: Callable[[], Any], flops: float, precision: str, held: int) -> dict[str, Any]:
        return throughput(function, batch, flops, rates[precision], held, device, bench.seconds)

    weights = sum(p.nbytes for p in pair.ours.parameters())
    # The optimizer keeps three values per trainable one.
    states = weights + 3 * sum(p.nbytes for p in pair.ours.parameters() if p.requires_grad)

    table = f"Inference, {pair.size.encoder}, batches of {batch} tiles of {pair.size.side} px on the device"
    bench.measure(table, "plain, float32", lambda: line(pair.plain_maps, plain_maps_flops, "float32", weights))
    for name, precision, _ in variants.names():
        bench.measure(
            table, name, lambda f=functions[name], p=precision: line(lambda: f(pair.tiles), maps_flops, p, weights)
        )

    bench.check("a step, plain and robis, float32", lambda: same_steps(pair.plain_step(), pair.our_step()))
    bench.check("the optimizer", lambda: same_updates(pair))
    pair.forget_gradients()
    table = f"Training, {pair.size.encoder}, steps of {batch} tiles of {pair.size.side} px on the device"
    bench.measure(table, "plain, float32", lambda: line(pair.plain_step, plain_step_flops, "float32", states))
    pair.forget_gradients()
    steps = {}
    pair.ours.train()
    for name, precision, compiled in variants.names():
        steps[name] = step = variants.step(precision, compiled)
        bench.measure(table, name, lambda s=step, p=precision: line(lambda: s(pair.tiles), step_flops, p, states))
        pair.forget_gradients()

    # What nobody would choose on a GPU is not timed from disk.
    chosen = [name for name, precision, _ in variants.names() if precision == "bf16"]
    table = "From the tile store on disk to results on disk or in the model, reading and writing as the stages do"
    speeds = {}
    with tempfile.TemporaryDirectory() as folder:
        store = new_store(Path(folder) / "tiles.npy", bench.stored, pair.size)
        pair.ours.eval()
        for name in chosen:
            loop = partial(infer_loop, bench, functions[name], Path(folder))
            bench.measure(table, f"infer, {name}", partial(from_disk, bench, loop, store))
        pair.ours.train()
        for name in chosen:
            loop = partial(train_loop, bench, steps[name])
            speeds[name] = bench.measure(table, f"train, {name}", partial(from_disk, bench, loop, store)).get("tiles/s")
    estimate(bench, batch, speeds)


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
    """The loop of `infer`: batches read ahead, maps written one batch behind. Yields the tiles done, batch by batch."""
    side = bench.pair.size.map_side
    shape = (len(store), side, side)
    out = np.lib.format.open_memmap(folder / "maps.npy", mode="w+", dtype=np.float16, shape=shape)
    batches = tile_batches(store, len(bench.pair.tiles), bench.device, bench.threads)
    for start, values in one_behind(batches, maps):
        harness.require(bool(np.isfinite(values).all()), "maps are not finite")
        out[start : start + len(values)] = values
        yield len(values)


def train_loop(bench: Bench, step: Callable[[Tensor], Any], store: np.ndarray) -> Iterator[int]:
    """The loop of `train` for two epochs: augmented batches prepared ahead. Yields the tiles done, batch by batch."""
    chosen: dict[str, Any] = {"seed": 0, "epochs": range(2), "batch_size": len(bench.pair.tiles)}
    for _, batch in training_batches(store, bench.device, threads=bench.threads, **chosen):
        step(batch)
        yield len(batch)


def from_disk(bench: Bench, loop: Callable[[np.ndarray], Iterator[int]], store: np.ndarray) -> dict[str, Any]:
    """Figures of a whole loop over a store: a part of it to warm up, all of it timed, a part under the profiler.

    The clock starts when the first batch is done: a training of hours waits for its first batch once.
    """
    part = store[: max(2 * len(bench.pair.tiles), len(store) // 4)]
    sum(loop(part))
    running = loop(store)
    next(running)
    synchronize(bench.device)
    started = time.perf_counter()
    done = sum(running)
    synchronize(bench.device)
    wall = time.perf_counter() - started
    values: dict[str, Any] = {"tiles": done, "tiles/s": done / wall, "threads": bench.threads}
    share = busy_share(lambda: sum(loop(part)), bench.device)
    return values | {"GPU busy": None if share is None else f"{share:.0%}"}


def estimate(bench: Bench, batch: int, speeds: dict[str, float | None]) -> None:
    """Time to train one category of MVTec AD 2, from the images per second that the loop from disk reaches."""
    per_image = len(windows(*IMAGE_SIZE, WINDOW, OVERLAP, "pad"))
    tiles = IMAGES * per_image
    steps = EPOCHS * (tiles // batch)
    title = (
        f"{EPOCHS} epochs of one MVTec AD 2 category, estimated: {IMAGES} images of {IMAGE_SIZE[1]} x {IMAGE_SIZE[0]}, "
        f"{per_image} tiles each (window {WINDOW}, overlap {OVERLAP})"
    )
    for name, speed in speeds.items():
        if speed:
            values = {"tiles": tiles, "steps": steps, "minutes": steps * batch / speed / 60}
            bench.facts.append(harness.Fact(title, name, values))


def options() -> argparse.Namespace:
    """What the command line says."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--device", default="cuda", help="cuda, cuda:1, or cpu to see that it runs")
    parser.add_argument("--batch", type=int, default=16, help="tiles per step and per forward pass (published: 16)")
    parser.add_argument("--seconds", type=float, default=4.0, help="for each figure (default: %(default)s)")
    parser.add_argument("--stored", type=int, default=1024, help="tiles on disk; 0.8 MB each (default: %(default)s)")
    parser.add_argument("--threads", type=int, default=os.cpu_count() or 1, help="that prepare batches")
    parser.add_argument("--no-compile", action="store_true", help="leave the compiled rows out")
    parser.add_argument("--quick", action="store_true", help="a tiny model: shows that it runs, not how fast it is")
    parser.add_argument("--json", type=Path, help="default: benchmarks/results/gpu.json, on a GPU and not quick")
    parser.add_argument("--write-docs", action="store_true", help="measure nothing; docs/performance.md from the JSON")
    return parser.parse_args()


def main() -> None:
    """Print the tables and write the JSON."""
    chosen = options()
    if chosen.write_docs:
        found = json.loads((chosen.json or harness.RESULTS / "gpu.json").read_text(encoding="utf-8"))
        harness.write_block(harness.DOCUMENT, BLOCK, tables(found))
        return
    device = torch.device(chosen.device)
    if device.type == "cuda" and not torch.cuda.is_available():
        raise SystemExit("no GPU that torch sees. `--device cpu --quick` shows that the benchmark runs.")
    if device.type == "cuda":
        torch.cuda.set_device(device)
    # Float32 means float32 on both sides; torch's convolutions would round to TF32 otherwise.
    torch.backends.cuda.matmul.allow_tf32 = torch.backends.cudnn.allow_tf32 = False
    size, batch = (TINY, 2) if chosen.quick else (BASE, chosen.batch)
    backend = None if chosen.no_compile else "inductor" if device.type == "cuda" else "aot_eager"
    bench = Bench(
        Pair(size, device, batch),
        seconds=0.05 if chosen.quick else chosen.seconds,
        stored=5 if chosen.quick else chosen.stored,
        threads=chosen.threads,
        backend=backend,
    )
    described = harness.machine(chosen.threads) | {"gpu": gpu(device)}
    started = time.perf_counter()
    run(bench, 256 if chosen.quick else 8192)
    found = harness.as_json(described, bench.facts) | {"failures": bench.failures}
    print(tables(found))
    say(f"{time.perf_counter() - started:.0f} s in all")
    target = chosen.json or (harness.RESULTS / "gpu.json" if device.type == "cuda" and not chosen.quick else None)
    if target:
        target.parent.mkdir(parents=True, exist_ok=True)
        target.write_text(json.dumps(found, indent=1) + "\n", encoding="utf-8")
    if bench.failures:
        raise SystemExit("\n".join(bench.failures))


def gpu(device: torch.device) -> str:
    """The GPU and what drives it, in words."""
    if device.type != "cuda":
        return "no GPU: computed on the CPU, in float32 throughout"
    about = torch.cuda.get_device_properties(device)
    return f"{about.name}, {about.total_memory / 2**30:.0f} GiB, CUDA {torch.version.cuda}, no TF32"


def tables(found: dict[str, Any]) -> str:
    """Markdown of what was found."""
    return f"{found['machine']['gpu']}. {harness.markdown(found)}"


if __name__ == "__main__":
    main()
