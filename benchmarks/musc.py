"""MuSc's scoring and neighborhoods against the formulation of the published code, both in one run, equal first.

    .venv/bin/python benchmarks/musc.py [--threads 2] [--repeats 3]
    .venv/bin/python benchmarks/musc.py --device cuda [--precision bf16] [--images 200] [--sweep] [--peak TFLOP/s]

Features are random: the time does not depend on what they say. On the CPU each figure comes from a process of its own,
which also says how much memory it took at most. With `--device cuda` the whole scoring of one split runs as `infer`
runs it; that needs torch and what robis.detectors.musc.scores imports, no workflow.
"""

from __future__ import annotations

import argparse
import json
import os
import platform
import resource
import subprocess
import sys
import tempfile
import time
import types
from collections.abc import Callable
from functools import partial
from pathlib import Path

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor

REPOSITORY = Path(__file__).parents[1]
try:
    from robis.detectors.musc import nearest as musc_scoring
    from robis.detectors.musc import scores as musc
except ImportError:
    # The registry of detectors needs pydantic, the arithmetic does not.
    sys.path.insert(0, str(REPOSITORY / "src"))
    for name in [name for name in sys.modules if name.startswith("robis")]:
        del sys.modules[name]
    bare = types.ModuleType("robis.detectors")
    bare.__path__ = [str(REPOSITORY / "src" / "robis" / "detectors")]
    sys.modules["robis.detectors"] = bare
    from robis.detectors.musc import nearest as musc_scoring
    from robis.detectors.musc import scores as musc

BLOCKS, NEIGHBORHOODS, SHARE = 4, (1, 3, 5), (0.0, 0.3)
# Dense bf16 with float32 sums, TFLOP/s, by the vendor's data sheets.
PEAKS = {
    **{"H200": 989, "H100 80GB HBM3": 989, "H100 PCIe": 756, "A100": 312, "L40S": 362, "L4": 121},
    **{"RTX 4090": 165, "RTX 3090": 71, "RTX 5090": 210, "A10": 125},
}


def unit_features(images: int, grid: int, width: int) -> Tensor:
    """Unit vectors with a common part, so that distances differ."""
    generator = torch.Generator().manual_seed(0)
    found = torch.randn(images, grid * grid, width, generator=generator)
    found += torch.randn(1, grid * grid, width, generator=generator)
    return F.normalize(found, dim=-1)


def published_scoring(features: Tensor) -> Tensor:
    """Every image against all tokens of all images by cdist, minimum per image, mean of the nearest share."""
    images, tokens, width = features.shape
    first, last = musc.ranks(images - 1, SHARE)
    scores = []
    for image in range(images):
        distances = torch.cdist(features[image : image + 1], features.reshape(1, -1, width))
        nearest = distances.view(tokens, images, tokens).min(-1).values
        nearest = torch.cat([nearest[:, :image], nearest[:, image + 1 :]], dim=1)
        lowest = torch.topk(nearest, last, largest=False, sorted=True).values[:, first:]
        scores.append(lowest.mean(1))
    return torch.stack(scores)


def our_scoring(features: Tensor) -> Tensor:
    """The same from one product per pair of images."""
    images, tokens, width = features.shape
    plan = musc_scoring.plan_memory(np.arange(images), tokens, width, 4, 1 << 40)
    best = torch.empty(images, images, tokens)
    of, ranks = np.arange(images), musc.ranks(images - 1, SHARE)
    products = musc_scoring.pair_maxima
    musc_scoring.nearest_cosines(lambda chosen: features[chosen], of, plan.blocks, best, products, lambda _: None)
    return musc_scoring.lowest_mean(best, *ranks, torch.device("cpu"))


def published_neighborhoods(tokens: Tensor, grid: int, r: int) -> Tensor:
    """Unfold to C r^2 values, adaptive average pooling to C, unit length."""
    maps = tokens.transpose(1, 2).unflatten(2, (grid, grid))
    patches = F.unfold(maps, r, padding=r // 2).transpose(1, 2)
    pooled = F.adaptive_avg_pool1d(patches.reshape(-1, 1, patches.shape[-1]), tokens.shape[-1])
    pooled = pooled.view(tokens.shape)
    return pooled / pooled.norm(dim=-1, keepdim=True)


def measure(job: dict) -> None:
    """In a child: best seconds and peak memory of one side; the result goes to a file."""
    torch.set_num_threads(job["threads"])
    features = unit_features(job["images"], job["grid"], job["width"])
    if job["what"] == "scoring":
        sides: dict[str, Callable[[], Tensor]] = {
            "published": lambda: published_scoring(features),
            "robis": lambda: our_scoring(features),
        }
    else:
        sides = {
            "published": lambda: published_neighborhoods(features, job["grid"], job["r"]),
            "robis": lambda: musc.lnamd(features, job["grid"], job["r"]),
        }
    # The first product allocates what the library keeps.
    features[0] @ features[0].T
    held = int(Path("/proc/self/statm").read_text().split()[1]) * resource.getpagesize()
    seconds, cpu_seconds = [], []
    for _ in range(job["repeats"]):
        started, used = time.perf_counter(), time.process_time()
        found = sides[job["side"]]()
        seconds.append(time.perf_counter() - started)
        cpu_seconds.append(time.process_time() - used)
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024 - held
    np.save(job["result"], found.numpy())
    print(json.dumps({"seconds": min(seconds), "cpu": min(cpu_seconds), "megabytes": max(0, peak) / 1e6}))


def both(folder: Path, **job: object) -> tuple[dict, dict]:
    """Both sides, each in a process of its own. Stops where their results differ."""
    found = []
    for side in ("published", "robis"):
        told = json.dumps({**job, "side": side, "result": str(folder / f"{side}.npy")})
        done = subprocess.run([sys.executable, __file__, "--child", told], capture_output=True, text=True, check=True)
        found.append(json.loads(done.stdout))
    published, ours = (np.load(folder / f"{side}.npy") for side in ("published", "robis"))
    difference = float(np.abs(published - ours).max())
    if difference > 1e-4 or published.std() < 1e-4:
        raise SystemExit(f"{job}: results differ by {difference:.2g}; nothing to compare")
    found[1]["difference"] = difference
    return found[0], found[1]


COLUMNS = ("published, s", "robis, s", "ratio", "CPU s", "CPU s", "ratio", "published, MB", "robis, MB", "difference")


def head(name: str) -> None:
    """The first two lines of a table."""
    print(f"| {name} | {' | '.join(COLUMNS)} |\n|{' --- |' * (len(COLUMNS) + 1)}")


def row(name: str, sides: tuple[dict, dict]) -> None:
    """One line of a table."""
    published, ours = sides
    cells = [name]
    for key in ("seconds", "cpu"):
        cells += [f"{published[key]:.2f}", f"{ours[key]:.2f}", f"{published[key] / ours[key]:.1f}"]
    cells += [f"{published['megabytes']:.0f}", f"{ours['megabytes']:.0f}", f"{ours['difference']:.0e}"]
    print(f"| {' | '.join(cells)} |", flush=True)


def on_cpu(threads: int, repeats: int, most: int) -> None:
    """Tables of both sides: scoring at two sizes, its growth, and neighborhoods."""
    print(
        f"Python {platform.python_version()}, torch {torch.__version__}, {threads} of {os.cpu_count()} cores, float32"
    )
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        common = {"threads": threads, "repeats": repeats}
        print("\n12 images of 518 pixels (37 x 37 tokens, width 1024), one block:\n")
        head("step")
        row("scoring", both(folder, what="scoring", images=12, grid=37, width=1024, **common))
        for r in (3, 5):
            sides = both(folder, what="neighborhoods", images=4, grid=37, width=1024, neighborhood_sizes=r, **common)
            row(f"neighborhoods, r = {r}, 4 images", sides)
        print("\nGrowth of scoring, 16 x 16 tokens, width 768:\n")
        head("images")
        for images in [n for n in (25, 50, 100, 200) if n <= most]:
            row(str(images), both(folder, what="scoring", images=images, grid=16, width=768, **common))


def timed(function: Callable[[], object], repeats: int = 3) -> float:
    """Median milliseconds on the GPU, after one call to warm up."""
    function()
    found = []
    for _ in range(repeats):
        start, end = (torch.cuda.Event(enable_timing=True) for _ in range(2))
        start.record()
        function()
        end.record()
        torch.cuda.synchronize()
        found.append(start.elapsed_time(end))
    return sorted(found)[repeats // 2]


def on_gpu(precision: str, images: int, grid: int, width: int, *, sweep: bool, peak: float | None) -> None:
    """The scoring of one split as `infer` runs it, and what its products reach."""
    from robis.detectors.musc import kernel as musc_kernels

    device = torch.device("cuda", torch.cuda.current_device())
    chip = torch.cuda.get_device_name(device)
    dtype = {"bf16": torch.bfloat16, "fp16": torch.float16, "float32": torch.float32}[precision]
    tokens = grid * grid
    print(
        f"{chip}, torch {torch.__version__}, triton {musc_kernels.triton.__version__}, {precision}: {images} images of "
        f"{grid} x {grid} tokens, width {width}, {BLOCKS} blocks, r {NEIGHBORHOODS}\n"
    )
    pairs = torch.combinations(torch.arange(images, dtype=torch.int32)).repeat(1, 2).to(device)
    flops = 2 * len(pairs) * tokens**2 * width
    features = F.normalize(torch.randn(images, tokens, width, device=device), dim=-1).to(dtype)
    best = torch.empty(images, images, tokens, device=device)

    def run(kernel: Callable[..., None], chosen: Tensor = pairs, **options: object) -> None:
        for chunk in chosen.split(musc_scoring.PAIRS_AT_ONCE):
            kernel(features, features, chunk, best, best, **options)

    few = pairs[:: max(1, len(pairs) // 400)]
    results = []
    for kernel in (musc_scoring.pair_maxima, musc_kernels.pair_maxima):
        best.fill_(musc_scoring.NONE_YET)
        run(kernel, few)
        results.append(best.clone())
    difference = (results[0] - results[1]).abs().max().item()
    if difference > 1e-4 or not (results[0] > musc_scoring.NONE_YET).any():
        raise SystemExit(f"the kernel and plain products differ by {difference:.2g}")
    del results
    plain = timed(partial(run, musc_scoring.pair_maxima, few)) * len(pairs) / len(few)
    fused = timed(partial(run, musc_kernels.pair_maxima))
    side = 8192
    x, y = (torch.randn(side, side, device=device, dtype=dtype) for _ in range(2))
    library = 2 * side**3 / timed(partial(torch.matmul, x, y), 9) / 1e9
    del x, y
    reached = flops / fused / 1e9
    print(f"products of one block and r, kernel: {fused:.1f} ms, {reached:.0f} TFLOP/s (differs by {difference:.0e})")
    print(f"the same by plain products: {plain:.1f} ms, {plain / fused:.1f} times the kernel's")
    print(
        f"torch's own {side} x {side} products here: {library:.0f} TFLOP/s; the kernel reaches {reached / library:.0%}"
    )
    peak = peak or next((value for key, value in PEAKS.items() if key in chip), None)
    if peak and precision != "float32":
        print(f"data sheet: {peak:.0f} TFLOP/s; the kernel reaches {reached / peak:.0%}")
    if sweep:
        _sweep(run, musc_kernels, flops, dtype)

    features = best = torch.empty(0)
    torch.cuda.empty_cache()
    torch.cuda.reset_peak_memory_stats()
    of, parts = np.arange(images), [np.arange(images)]
    memory = torch.cuda.mem_get_info()[0] * 3 // 4
    scoring = {"parts": parts, "memory": memory, "scratch": _host, "device": device, "dtype": dtype}
    stored = musc.token_store((BLOCKS, images, tokens, width), of, **scoring)
    for block in stored:
        for image in range(images):
            block[image] = musc.layer_norm(torch.randn(1, tokens, width, device=device))[0]

    def whole() -> Tensor:
        rounds = musc.mutual_scores(
            stored, of, grid=grid, neighborhood_sizes=NEIGHBORHOODS, averaged_fraction=SHARE, **scoring
        )
        return musc.mean_scores(rounds)

    total = timed(whole)
    in_products = fused * BLOCKS * len(NEIGHBORHOODS)
    print(f"\nscoring of the split: {total / 1000:.2f} s, {total / images:.2f} ms per image")
    print(f"in matrix products: {in_products / total:.0%}")
    print(f"most memory: {torch.cuda.max_memory_allocated() / 1e9:.2f} GB, of it tokens {stored.nbytes / 1e9:.2f} GB")


def _host(shape: tuple[int, ...], dtype: torch.dtype) -> Tensor:
    return torch.empty(shape, dtype=dtype)


def _sweep(run: Callable[..., None], kernels: types.ModuleType, flops: int, dtype: torch.dtype) -> None:
    print("\n| rows | cols | channels | warps | stages | ms | TFLOP/s |\n| --- | --- | --- | --- | --- | --- | --- |")
    sizes = [(128, 128), (128, 256), (256, 128), (64, 256)]
    full = dtype == torch.float32
    for rows, cols in [(64, 64), (128, 64), (128, 128)] if full else sizes:
        for channels in (16, 32) if full else (32, 64):
            for warps in (4, 8):
                for stages in (3, 4):
                    launch = kernels.Launch(rows, cols, channels, warps, stages)
                    try:
                        took = timed(partial(run, kernels.pair_maxima, launch=launch), 1)
                    except Exception as error:  # more shared memory or registers than there are
                        print(f"| {rows} | {cols} | {channels} | {warps} | {stages} | {type(error).__name__} | |")
                        continue
                    reached = flops / took / 1e9
                    print(
                        f"| {rows} | {cols} | {channels} | {warps} | {stages} | {took:.1f} | {reached:.0f} |",
                        flush=True,
                    )


def main() -> None:
    """Print the tables."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--device", choices=["cpu", "cuda"], default="cpu")
    parser.add_argument("--threads", type=int, default=min(2, os.cpu_count() or 1), help="cores to use on the CPU")
    parser.add_argument("--repeats", type=int, default=3, help="the best of so many counts, on the CPU")
    parser.add_argument("--most", type=int, default=200, help="images in the last row of the growth, on the CPU")
    parser.add_argument("--precision", choices=["bf16", "fp16", "float32"], default="bf16", help="on a GPU")
    parser.add_argument("--images", type=int, default=200, help="on a GPU")
    parser.add_argument("--grid", type=int, default=37, help="tokens along a side, on a GPU")
    parser.add_argument("--width", type=int, default=1024, help="channels of a token, on a GPU")
    parser.add_argument("--peak", type=float, help="TFLOP/s of the chip in this precision, if it is not known here")
    parser.add_argument("--sweep", action="store_true", help="time other sizes of the kernel, too")
    parser.add_argument("--child", help=argparse.SUPPRESS)
    options = parser.parse_args()
    if options.child:
        measure(json.loads(options.child))
    elif options.device == "cuda":
        with torch.inference_mode():
            sizes = (options.images, options.grid, options.width)
            on_gpu(options.precision, *sizes, sweep=options.sweep, peak=options.peak)
    else:
        on_cpu(options.threads, options.repeats, options.most)


if __name__ == "__main__":
    main()
