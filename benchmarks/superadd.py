"""SuperADD's nearest distances and neighbors against the full distance matrix, both in one run, equal first.

    .venv/bin/python benchmarks/superadd.py [--threads 2] [--repeats 3] [--width 384] [--most 100000]
    .venv/bin/python benchmarks/superadd.py --device cuda [--width 1280] [--tiles 16]

Tokens are random, in clumps: the time does not depend on what they say. On the CPU each figure comes from a process of
its own, which also says how much memory it took at most on top of the tokens; on a GPU the allocator says it.
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
from collections.abc import Callable
from pathlib import Path

import numpy as np
import torch
from torch import Tensor

from robis.detectors.superadd.bank import Bank, neighbor_distances

TOKENS_OF_A_TILE, NEIGHBORS = 1600, 100
BANKS, PARTS = (10_000, 30_000, 100_000), (2_500, 10_000, 43_200)
COLUMNS = ("work", "full, s", "robis, s", "ratio", "CPU s", "CPU s", "ratio", "full, MB", "robis, MB", "difference")


def clumped_tokens(count: int, width: int, seed: int, device: str = "cpu") -> Tensor:
    """Tokens (count, width) around a thousand centers, in place, so that nothing else takes memory."""
    generator = torch.Generator(device).manual_seed(seed)
    centers = torch.randn(1000, width, generator=torch.Generator(device).manual_seed(0), device=device)
    tokens = torch.randn(count, width, generator=generator, device=device)
    for start in range(0, count, 1000):
        tokens[start : start + 1000] += 2 * centers[: len(tokens[start : start + 1000])]
    return tokens


def full_nearest(queries: Tensor, bank: Tensor) -> Tensor:
    """The distance of every query to every token of the bank, then the smallest."""
    return torch.cdist(queries, bank).min(1).values


def full_neighbors(tokens: Tensor) -> Tensor:
    """The distance of every token to every other, then the smallest."""
    distances = torch.cdist(tokens, tokens).fill_diagonal_(torch.inf)
    return distances.topk(min(NEIGHBORS, len(tokens) - 1), largest=False, sorted=False).values


def sides_of(what: str, size: int, width: int, queries: int, device: str) -> dict[str, Callable[[], Tensor]]:
    """Both sides of one kind of work."""
    tokens = clumped_tokens(size, width, 1, device)
    if what == "neighbors":
        return {"full": lambda: full_neighbors(tokens), "robis": lambda: neighbor_distances(tokens, NEIGHBORS)}
    asked = clumped_tokens(queries, width, 2, device)
    # As in `infer`, the bank is made once and asked for every batch.
    bank = Bank.of(tokens)
    return {"full": lambda: full_nearest(asked, tokens), "robis": lambda: bank.nearest(asked)}


def comparable(found: Tensor) -> Tensor:
    """Neighbors come in no order."""
    return found.sort(1).values if found.ndim == 2 else found


def measure(job: dict) -> None:
    """In a child: best seconds and peak memory of one side; the result goes to a file."""
    torch.set_num_threads(job["threads"])
    run = sides_of(job["what"], job["size"], job["width"], job["queries"], "cpu")[job["side"]]
    # The first product allocates what the library keeps.
    torch.ones(64, 64) @ torch.ones(64, 64)
    held = int(Path("/proc/self/statm").read_text().split()[1]) * resource.getpagesize()
    seconds, cpu_seconds = [], []
    for _ in range(job["repeats"]):
        started, used = time.perf_counter(), time.process_time()
        found = run()
        seconds.append(time.perf_counter() - started)
        cpu_seconds.append(time.process_time() - used)
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024 - held
    np.save(job["result"], comparable(found).numpy())
    print(json.dumps({"seconds": min(seconds), "cpu": min(cpu_seconds), "megabytes": max(0, peak) / 1e6}))


def both(folder: Path, **job: object) -> tuple[dict, dict, float]:
    """Both sides, each in a process of its own, and how much they differ."""
    found = []
    for side in ("full", "robis"):
        told = json.dumps({**job, "side": side, "result": str(folder / f"{side}.npy")})
        done = subprocess.run([sys.executable, __file__, "--child", told], capture_output=True, text=True, check=True)
        found.append(json.loads(done.stdout))
    full, ours = (torch.from_numpy(np.load(folder / f"{side}.npy")) for side in ("full", "robis"))
    return found[0], found[1], difference_of(full, ours, str(job))


def difference_of(full: Tensor, ours: Tensor, what: str) -> float:
    """The largest difference. Stops where there is one, or nothing that could differ."""
    difference = (full - ours).abs().max().item()
    if difference > 1e-3 * full.mean().item() or full.std() < 1e-3:
        raise SystemExit(f"{what}: results differ by {difference:.2g}; nothing to compare")
    return difference


def head() -> None:
    print(f"| {' | '.join(COLUMNS)} |\n|{' --- |' * len(COLUMNS)}")


def row(name: str, full: dict, ours: dict, difference: float) -> None:
    cells = [name]
    for key in ("seconds", "cpu"):
        cells += [f"{full[key]:.2f}", f"{ours[key]:.2f}", f"{full[key] / ours[key]:.1f}"]
    cells += [f"{full['megabytes']:.0f}", f"{ours['megabytes']:.0f}", f"{difference:.0e}"]
    print(f"| {' | '.join(cells)} |", flush=True)


def on_cpu(threads: int, repeats: int, width: int, tiles: int, most: int) -> None:
    """A table: distances of some tiles to banks of three sizes, neighbors in parts of three sizes."""
    print(
        f"Python {platform.python_version()}, torch {torch.__version__}, {threads} of {os.cpu_count()} cores, float32, "
        f"width {width}\n"
    )
    queries = tiles * TOKENS_OF_A_TILE
    common = {"threads": threads, "repeats": repeats, "width": width, "queries": queries}
    head()
    with tempfile.TemporaryDirectory() as name:
        for bank in [size for size in BANKS if size <= most]:
            row(f"{queries} tokens, bank of {bank}", *both(Path(name), what="nearest", size=bank, **common))
        # Its full matrix would not fit beside much else.
        for part in [size for size in PARTS[:2] if size <= most]:
            row(f"neighbors in a part of {part}", *both(Path(name), what="neighbors", size=part, **common))


def on_gpu(repeats: int, width: int, tiles: int) -> None:
    """The same table with the sizes of MVTec AD 2."""
    print(f"{torch.cuda.get_device_name()}, torch {torch.__version__}, float32, width {width}\n")
    queries = tiles * TOKENS_OF_A_TILE
    head()
    work = [(f"{queries} tokens, bank of {size}", "nearest", size) for size in BANKS]
    for name, what, size in [*work, *((f"neighbors in a part of {size}", "neighbors", size) for size in PARTS)]:
        found, results = [], []
        for side in ("full", "robis"):
            run = sides_of(what, size, width, queries, "cuda")[side]
            results.append(comparable(run()).cpu())
            torch.cuda.empty_cache()
            held = torch.cuda.memory_allocated()
            torch.cuda.reset_peak_memory_stats()
            seconds, cpu_seconds = [], []
            for _ in range(repeats):
                torch.cuda.synchronize()
                started, used = time.perf_counter(), time.process_time()
                run()
                torch.cuda.synchronize()
                seconds.append(time.perf_counter() - started)
                cpu_seconds.append(time.process_time() - used)
            megabytes = (torch.cuda.max_memory_allocated() - held) / 1e6
            found.append({"seconds": min(seconds), "cpu": min(cpu_seconds), "megabytes": megabytes})
        row(name, found[0], found[1], difference_of(results[0], results[1], name))


def main() -> None:
    """Print the table."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--device", choices=["cpu", "cuda"], default="cpu")
    parser.add_argument("--threads", type=int, default=min(2, os.cpu_count() or 1), help="cores to use on the CPU")
    parser.add_argument("--repeats", type=int, default=3, help="the best of so many counts")
    parser.add_argument("--width", type=int, help="channels of a token; 384 on the CPU, 1280 on a GPU")
    parser.add_argument("--tiles", type=int, help="tiles that are asked together; 1 on the CPU, 16 on a GPU")
    parser.add_argument("--most", type=int, default=100_000, help="tokens in the largest bank or part, on the CPU")
    parser.add_argument("--child", help=argparse.SUPPRESS)
    options = parser.parse_args()
    with torch.inference_mode():
        if options.child:
            measure(json.loads(options.child))
        elif options.device == "cuda":
            on_gpu(options.repeats, options.width or 1280, options.tiles or 16)
        else:
            on_cpu(options.threads, options.repeats, options.width or 384, options.tiles or 1, options.most)


if __name__ == "__main__":
    main()
