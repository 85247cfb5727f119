"""Measure robis beside straightforward formulations; prints Markdown, writes JSON.

python -m benchmarks.bench                     # `make bench`: every stage, on the CPU
python -m benchmarks.bench --list              # all benchmarks
python -m benchmarks.bench musc crop --quick   # some of them, at sizes that end in seconds
python -m benchmarks.bench superadd --device cuda --set width=1024
python -m benchmarks.bench --write-docs        # the tables of docs/performance.md from the JSON files
"""

from __future__ import annotations

import argparse
import json
import os
import sys
import tempfile
import time
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, fields, replace
from importlib import import_module
from pathlib import Path
from types import ModuleType
from typing import Any

from benchmarks import devices, harness, tables

RESULTS = harness.REPOSITORY / "benchmarks" / "results"
DOCUMENT = harness.REPOSITORY / "docs" / "performance.md"
# Block of the document -> the file that holds its figures.
BLOCKS = {
    "make bench": RESULTS / "cpu.json",
    "benchmarks.bench published": RESULTS / "published.json",
    "benchmarks/gpu_check.sh": RESULTS / "gpu.json",
}


@dataclass(frozen=True)
class Benchmark:
    """An entry of the table of benchmarks, whose module is `benchmarks.cases.NAME`.

    Attributes:
        shows: what it measures.
        suite: whether `make bench` runs it.
    """

    shows: str
    suite: bool = False


BENCHMARKS = {
    "crop": Benchmark("images to tiles, beside loops with Pillow and OpenCV", suite=True),
    "train": Benchmark("one training step of INP-Former, beside unfused attention", suite=True),
    "encode": Benchmark("tiles to tokens by efficientnet_lite0, beside DINOv2 ViT-S/14", suite=True),
    "infer": Benchmark("tiles to maps by INP-Former, beside unfused attention", suite=True),
    "merge": Benchmark("tile maps to anomaly maps, beside full canvases", suite=True),
    "binarize": Benchmark("anomaly maps to coarse masks, beside 64 erosions and labelings", suite=True),
    "refine": Benchmark("SAM refinement, beside segment-anything's predictor", suite=True),
    "metrics": Benchmark("pixel metrics, beside scikit-learn, adeval and anomalib", suite=True),
    "memory": Benchmark("peak memory of the stages without a model, few and many images", suite=True),
    "jobs": Benchmark("fixed cost of every job: imports and Snakemake's own part", suite=True),
    "whole": Benchmark("the demo, or a folder of photos, through the real workflow", suite=True),
    "gpu": Benchmark("`make bench-gpu`: INP-Former's training and inference on a GPU"),
    "encoders_cpu": Benchmark("encoders on a CPU: weights channels-last, tiles in batches, bf16"),
    "musc": Benchmark("MuSc's scoring and neighborhoods, beside the published formulation"),
    "musc_gpu": Benchmark("MuSc's scoring of a whole split on a GPU, and the rate of its products"),
    "superadd": Benchmark("SuperADD's nearest distances and neighbors, beside the full distance matrix"),
    "detectors": Benchmark("time and peak memory of detectors on 300 images, training and inference"),
    "winclip": Benchmark("WinCLIP's windows in batches, beside one at a time and anomalib"),
    "index": Benchmark("the index stage, beside decoding every image"),
    "report": Benchmark("the report of up to 10,000 images: time, memory, size, time to open"),
    "submission": Benchmark("packing an upload, beside tarfile, and checking it"),
    "fingerprints": Benchmark("the first and the next fingerprint of 10,000 images"),
    "incremental": Benchmark("one new image among 200, through the real workflow"),
    "latency": Benchmark("one image by a pack: the library, ONNX Runtime and OpenVINO, first and next images"),
    "end_to_end": Benchmark("a folder of images to metrics, beside anomalib: time, memory, disk"),
    "published": Benchmark("stages beside the published RoBiS code, --set code=FOLDER: time, memory, values"),
    "cluster": Benchmark("the categories and splits of MVTec AD 2 on a SLURM of this machine, by groups of jobs"),
    "growth": Benchmark("CPU time and memory of every stage without a model for 10 to 1,000 images"),
    "large": Benchmark("peak memory of every stage without a model on one image of 14,000 x 14,000 pixels"),
    "plan": Benchmark("Snakemake's dry run for 10 to 1,000 categories"),
}
SUITE = [name for name, benchmark in BENCHMARKS.items() if benchmark.suite]


def main(arguments: Sequence[str] | None = None) -> None:
    """Run what the command line asks for; exits with an error after the tables if a measurement failed."""
    options = _parser().parse_args(arguments)
    if options.list:
        print("\n".join(f"{name:<14}{benchmark.shows}" for name, benchmark in BENCHMARKS.items()))
    elif options.write_docs:
        write_docs()
    else:
        _measure(options)


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    add = parser.add_argument
    add("names", nargs="*", metavar="NAME", help="benchmarks to run (default: make bench's)")
    add("--list", action="store_true", help="list the benchmarks and measure nothing")
    add("--quick", action="store_true", help="tiny sizes: shows that a benchmark runs, not how fast robis is")
    add("--repeats", type=int, default=5, help="how often each side runs (default: %(default)s)")
    add("--threads", type=int, default=min(2, os.cpu_count() or 1), help="cores of both sides (default: %(default)s)")
    add("--device", default="cpu", help="cpu, cuda, cuda:1, ... (default: %(default)s)")
    add("--set", nargs="+", default=[], metavar="SIZE=VALUE", help="change sizes of the benchmark, such as images=50")
    add("--json", type=Path, help="where to write the figures (default: benchmarks/results/ for a full run)")
    add("--write-docs", action="store_true", help="bring docs/performance.md up to date and measure nothing")
    return parser


def _measure(options: argparse.Namespace) -> None:
    names = options.names or SUITE
    for name in names:
        if name not in BENCHMARKS:
            raise SystemExit(f"{name} is no benchmark. Valid: {', '.join(BENCHMARKS)}.")
    if options.set and len(names) > 1:
        raise SystemExit(f"--set changes the sizes of one benchmark; expected one name, found {', '.join(names)}.")
    # Before NumPy is imported, whose libraries read these once.
    os.environ.update(dict.fromkeys(harness.THREAD_LIMITS, str(options.threads)))
    if options.device != "cpu":
        import torch  # noqa: F401 (behind the limits)

        devices.require_gpu(options.device)
    described = tables.machine(options.threads, options.device)
    measured: list[harness.Row | harness.Fact] = []
    failures = []
    for name in names:
        started = time.perf_counter()
        try:
            for item in run(name, options):
                measured.append(item)
                if isinstance(item, harness.Fact) and item.failed:
                    failures.append(f"{name}, {item.stage}: {item.note}")
        except Exception as error:
            # The other benchmarks' figures are worth having.
            failures.append(f"{name}: {type(error).__name__}: {error}")
        harness.say(f"{name}: {time.perf_counter() - started:.0f} s")
    results = tables.as_json(described, measured) | ({"failures": failures} if failures else {})
    print(tables.markdown(results))
    whole_suite = set(names) == set(SUITE) and options.device == "cpu" and not (options.quick or failures)
    _write(results, options.json or (BLOCKS["make bench"] if whole_suite else None))
    if failures:
        raise SystemExit("\n".join(failures))


def run(name: str, options: argparse.Namespace) -> Iterator[harness.Row | harness.Fact]:
    """The rows of one benchmark, one after the other as they are measured."""
    module = import_module(f"benchmarks.cases.{name}")
    sizes = with_values(sizes_of(module, options.quick, options.device), options.set, name)
    harness.limit_threads(options.threads)
    with tempfile.TemporaryDirectory() as folder:
        chosen = harness.Options(Path(folder), options.repeats, options.threads, options.quick, options.device)
        yield from module.rows(chosen, sizes)


def sizes_of(module: ModuleType, quick: bool, device: str = "cpu") -> Any:
    """A benchmark's sizes: tiny ones, a GPU's where it has some, or its full ones."""
    if quick:
        return module.QUICK
    return getattr(module, "GPU", module.FULL) if device != "cpu" else module.FULL


def with_values(sizes: Any, values: Sequence[str], name: str) -> Any:
    """Sizes with some of them replaced, each given as "SIZE=VALUE".

    Raises SystemExit for a size that the benchmark does not have, or a value of another type.
    """
    for text in values:
        key, _, value = text.partition("=")
        valid = {field.name: getattr(sizes, field.name) for field in fields(sizes)}
        if key not in valid:
            raise SystemExit(f"--set {text}: {name} has no size {key!r}. Valid: {', '.join(valid) or 'none'}.")
        try:
            sizes = replace(sizes, **{key: _like(valid[key], value)})
        except ValueError as error:
            kind = type(valid[key]).__name__
            raise SystemExit(f"--set {text}: expected a value of type {kind}, such as {valid[key]}.") from error
    return sizes


def _like(current: Any, value: str) -> Any:
    """A value of the type of the current one; a tuple is separated by commas."""
    if isinstance(current, tuple):
        return tuple(_like(current[0] if current else 0, part) for part in value.split(","))
    if isinstance(current, bool):
        return {"true": True, "false": False}[value] if value in ("true", "false") else bool(int(value))
    return type(current)(value)


def _write(results: dict[str, Any], target: Path | None) -> None:
    if target:
        target.parent.mkdir(parents=True, exist_ok=True)
        target.write_text(json.dumps(results, indent=1) + "\n", encoding="utf-8")


def write_docs() -> None:
    """Write the tables of the figures on disk into the document."""
    for block, file in BLOCKS.items():
        if file.exists():
            tables.write_block(DOCUMENT, block, tables.markdown(json.loads(file.read_text(encoding="utf-8"))))
        else:
            print(f"{file}: not measured yet; the block `{block}` stays as it is.", file=sys.stderr)


if __name__ == "__main__":
    main()
