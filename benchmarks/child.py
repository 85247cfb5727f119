"""One measurement in a process of its own; `benchmarks.harness.run_alone` starts it and reads the line it prints."""

from __future__ import annotations

import json
import resource
import sys
from collections.abc import Callable, Sequence
from importlib import import_module
from pathlib import Path
from typing import Any

from benchmarks import harness


def imports(modules: Sequence[str]) -> Callable[[], dict[str, bool]]:
    """Import modules; the result says whether torch came with them."""

    def run() -> dict[str, bool]:
        for module in modules:
            import_module(module)
        return {"torch": "torch" in sys.modules}

    return run


def _function(target: str) -> Callable[..., Any]:
    module, _, name = target.partition(":")
    function: Callable[..., Any] = getattr(import_module(module), name)
    return function


def _status(key: str) -> float:
    """A figure of /proc/self/status in MB; elsewhere the largest memory so far stands for all of them."""
    try:
        lines = Path("/proc/self/status").read_text(encoding="utf-8").splitlines()
    except OSError:
        largest = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
        return largest / (1e6 if sys.platform == "darwin" else 1e3)
    return next(int(line.split()[1]) for line in lines if line.startswith(key)) * 1024 / 1e6


def _forget_peak() -> None:
    """Let the process's peak begin with what it holds now, where Linux allows that."""
    try:
        Path("/proc/self/clear_refs").write_text("5", encoding="utf-8")
    except OSError:
        return


def main() -> None:
    """Set up, run, and print the figures as JSON."""
    job = json.loads(sys.argv[1])
    run = _function(job["target"])(**job["arguments"])
    harness.limit_threads(job["threads"])
    _forget_peak()
    held = _status("VmRSS")
    measured = harness.timed(run)
    peak = _status("VmHWM") - held
    result = measured.result
    if hasattr(result, "__array__"):
        if job["result"]:
            import numpy as np

            np.save(job["result"], np.asarray(result))
        result = None
    times = {"seconds": measured.seconds, "cpu_seconds": measured.cpu_seconds}
    print(json.dumps({"result": result, **times, "peak_mb": max(0.0, peak), "held_mb": held}))


if __name__ == "__main__":
    main()
