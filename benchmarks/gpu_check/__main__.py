"""Check and measure on one GPU, in at most ten minutes, what robis computes there. benchmarks/gpu_check.sh starts it.

Results are in the folder --out: a record (JSON) and a log of each step, and summary.md, all written after every step.
"""

from __future__ import annotations

import argparse
import faulthandler
import os
import signal
import sys
import tempfile
import traceback
from collections.abc import Sequence
from functools import partial
from importlib import import_module
from pathlib import Path

from benchmarks import devices, harness
from benchmarks.gpu_check.plan import SECONDS, STEPS
from benchmarks.gpu_check.record import Check
from benchmarks.gpu_check.runner import Run, run_steps


def main(arguments: Sequence[str] | None = None) -> int:
    """Run what the command line asks for; 0 if nothing has failed."""
    options = _parser().parse_args(arguments)
    device = options.device or ("cpu" if options.rehearse else "cuda")
    run = partial(Run, options.out.absolute(), device=device, rehearse=options.rehearse, seconds=options.seconds)
    if options.work:
        return 0 if run_one(options.steps[0], run(options.work)) else 1
    # Steps are processes of their own, which would go on.
    signal.signal(signal.SIGTERM, lambda number, frame: sys.exit(128 + number))
    # The machine is described first: without a GPU there is nothing else to do.
    names = ["machine", *(name for name in options.steps or STEPS if name != "machine")]
    with tempfile.TemporaryDirectory(prefix="gpu_check_") as work:
        return 0 if run_steps(run(Path(work)), names, options.wheels) else 1


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(prog="benchmarks/gpu_check.sh", description=__doc__)
    add = parser.add_argument
    steps = "; ".join(f"{name}: {step.shows}" for name, step in STEPS.items())
    add("steps", nargs="*", metavar="STEP", type=_step, help=f"steps to run (default: all). {steps}")
    default = os.environ.get("GPU_CHECK_OUT", "results/gpu_check")
    add(
        "--out", type=Path, default=Path(default), help="folder of the results (default: $GPU_CHECK_OUT or %(default)s)"
    )
    add("--wheels", type=Path, default=Path("wheels"), help="folder of carried wheels (default: %(default)s)")
    add("--rehearse", action="store_true", help="tiny sizes on the CPU: shows that every step runs")
    add("--device", help="cuda, cuda:1, ... (default: cuda, with --rehearse cpu)")
    add("--seconds", type=float, default=SECONDS, help="time for all steps together (default: %(default)s)")
    add("--work", type=Path, help=argparse.SUPPRESS)
    return parser


def _step(name: str) -> str:
    if name not in STEPS:
        raise argparse.ArgumentTypeError(f"{name} is no step. Valid: {', '.join(STEPS)}.")
    return name


def run_one(name: str, run: Run) -> bool:
    """A step in this process; returns whether it has passed."""
    # Where a step hangs is worth knowing.
    faulthandler.dump_traceback_later(max(1.0, run.seconds - 3), file=sys.stderr)
    with tempfile.TemporaryDirectory(dir=run.work, ignore_cleanup_errors=True) as folder:
        check = Check(run.device, run.rehearse, Path(folder), run.out / f"{name}.json", run.threads)
        try:
            import torch  # noqa: F401 (for devices)

            if run.device != "cpu":
                devices.require_gpu(run.device)
            harness.limit_threads(run.threads)
            import_module(f"benchmarks.gpu_check.steps.{name}").run(check)
        except (Exception, SystemExit) as error:
            traceback.print_exc()
            check.fail(f"{type(error).__name__}: {str(error)[:500]}")
        return check.end()


if __name__ == "__main__":
    sys.exit(main())
