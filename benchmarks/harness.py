"""What every benchmark shares: both sides are checked for equality, then timed in turns.

Imports nothing that starts threads, so that `benchmarks.bench` can bound them first.
"""

from __future__ import annotations

import json
import os
import resource
import statistics
import subprocess
import sys
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any, TypeVar

from benchmarks import devices

T = TypeVar("T")

REPOSITORY = Path(__file__).parents[1]
THREAD_LIMITS = ("OMP_NUM_THREADS", "OPENBLAS_NUM_THREADS", "MKL_NUM_THREADS", "NUMEXPR_NUM_THREADS")


@dataclass(frozen=True)
class Options:
    """How a benchmark runs.

    Attributes:
        folder: an empty folder for generated files; removed afterwards.
        repeats: how often each side runs; slow rows run fewer times.
        threads: cores that both sides may use.
        quick: whether sizes are tiny: this shows that a row runs and that its sides agree, not how fast they are.
        device: "cpu" or a CUDA device.
    """

    folder: Path
    repeats: int = 5
    threads: int = 2
    quick: bool = False
    device: str = "cpu"

    @property
    def on_gpu(self) -> bool:
        """Whether the device is a GPU."""
        return self.device != "cpu"


@dataclass(frozen=True)
class Work:
    """What both sides of a comparison do.

    Attributes:
        stage: the rule or method that it belongs to.
        what: the work, with sizes.
        plain: the name of the other side.
        target: how many times as fast robis has to be; None: no target.
        note: what a reader has to know.
    """

    stage: str
    what: str
    plain: str
    target: float | None = None
    note: str = ""


@dataclass(frozen=True)
class Measured:
    """One run: its result, wall-clock seconds, and CPU seconds of this process and of children that ended.

    Attributes:
        peak_mb: the largest memory during the run, beyond what was held before, in MB; None: not measured.
        held_mb: what was held before the run.
    """

    result: Any
    seconds: float
    cpu_seconds: float
    peak_mb: float | None = None
    held_mb: float | None = None


@dataclass
class Timings:
    """All counted runs of one side, in the order in which the sides alternated."""

    seconds: list[float] = field(default_factory=list)
    cpu_seconds: list[float] = field(default_factory=list)
    peaks_mb: list[float] = field(default_factory=list)

    def add(self, run: Measured) -> None:
        """Count a run."""
        self.seconds.append(run.seconds)
        self.cpu_seconds.append(run.cpu_seconds)
        if run.peak_mb is not None:
            self.peaks_mb.append(run.peak_mb)

    @property
    def peak_mb(self) -> float | None:
        """The largest peak of all runs; None: not measured."""
        return max(self.peaks_mb, default=None)


@dataclass(frozen=True)
class Row:
    """One comparison.

    Attributes:
        equal: how the results were compared, such as "bit-identical".
        extra: further figures, for the JSON.
    """

    work: Work
    plain: Timings
    ours: Timings
    equal: str
    extra: Mapping[str, Any] = field(default_factory=dict)

    @property
    def ratio(self) -> float:
        """How many times as fast robis is, by the medians."""
        return statistics.median(self.plain.seconds) / statistics.median(self.ours.seconds)

    @property
    def cpu_ratio(self) -> float:
        """The same by CPU seconds."""
        return statistics.median(self.plain.cpu_seconds) / max(statistics.median(self.ours.cpu_seconds), 1e-9)

    @property
    def met(self) -> bool | None:
        """Whether the target is reached; None: no target."""
        return None if self.work.target is None else self.ratio >= self.work.target


@dataclass(frozen=True)
class Fact:
    """Figures without another side, such as fixed costs: one line of a table.

    Attributes:
        table: the table's title.
        stage: the line's name.
        values: by column.
        failed: whether the measurement failed; `note` says why. The run goes on and exits with an error.
    """

    table: str
    stage: str
    values: Mapping[str, str | float | None]
    note: str = ""
    failed: bool = False


class DifferentResultsError(Exception):
    """The two sides do not agree, so there is nothing to compare."""


def require(agrees: bool, what: str) -> None:
    """Raise DifferentResultsError unless the results agree."""
    if not agrees:
        raise DifferentResultsError(what)


def timed(function: Callable[[], Any], device: str = "cpu") -> Measured:
    """Run once. On a GPU the clock stops when the GPU has finished, and the peak is that of its allocator."""
    held = devices.start_peak(device)
    used, started = _cpu_seconds(), time.perf_counter()
    result = function()
    devices.synchronize(device)
    seconds, cpu_seconds = time.perf_counter() - started, _cpu_seconds() - used
    peak = devices.peak(device)
    if held is None or peak is None:
        return Measured(result, seconds, cpu_seconds)
    return Measured(result, seconds, cpu_seconds, (peak - held) / 1e6, held / 1e6)


def _cpu_seconds() -> float:
    children = resource.getrusage(resource.RUSAGE_CHILDREN)
    return time.process_time() + children.ru_utime + children.ru_stime


Side = Callable[[], Any]
# From the other side's result and robis's: how they agree, in words. Raises DifferentResultsError.
Equal = Callable[[Any, Any], str]


def compare(work: Work, plain: Side, ours: Side, equal: Equal, repeats: int, device: str = "cpu") -> Row:
    """Check that both sides give the same, then time them in turns.

    The first run of each side, whose results are compared, warms caches and compiled code and is not counted.
    """
    agreement = equal(plain(), ours())
    timings = Timings(), Timings()

    def run(side: Side) -> Measured:
        # The result is dropped before the other side runs.
        return replace(timed(side, device), result=None)

    _in_turns((plain, ours), timings, run, range(repeats))
    return Row(work, *timings, agreement)


def _in_turns(sides: tuple[T, T], timings: tuple[Timings, Timings], run: Callable[[T], Measured], turns: range) -> None:
    for turn in turns:
        # Which side goes first changes, so that neither always finds the machine as the other left it.
        for side, timing in list(zip(sides, timings, strict=True))[:: -1 if turn % 2 else 1]:
            timing.add(run(side))


@dataclass(frozen=True)
class Call:
    """Work for a process of its own.

    Attributes:
        target: "module:function". The function takes the arguments, sets everything up, and returns the function
            without arguments that is timed.
        arguments: JSON values.
    """

    target: str
    arguments: Mapping[str, Any] = field(default_factory=dict)


def compare_processes(work: Work, plain: Call, ours: Call, equal: Equal, options: Options) -> Row:
    """As `compare`, but every run is a process of its own, whose largest memory is measured; all runs count."""
    calls = (plain, ours)
    first = [run_alone(call, options.threads, options.folder / f"{n}.npy") for n, call in enumerate(calls)]
    agreement = equal(first[0].result, first[1].result)
    timings = Timings(), Timings()
    for timing, run in zip(timings, first, strict=True):
        timing.add(run)
    _in_turns(calls, timings, lambda call: run_alone(call, options.threads), range(1, options.repeats))
    return Row(work, *timings, agreement)


def run_alone(call: Call, threads: int, result: Path | None = None) -> Measured:
    """Run a call in a process of its own, whose peak is measured from the moment at which its set-up is done.

    Args:
        call: the work.
        threads: cores that it may use.
        result: a .npy file for an array that the work returns; other results have to be JSON values.

    Raises:
        RuntimeError: the call failed; the message ends with what it printed.
    """
    job = {"target": call.target, "arguments": dict(call.arguments), "threads": threads, "result": str(result or "")}
    environment = {**os.environ, **dict.fromkeys(THREAD_LIMITS, str(threads))}
    folders = [str(REPOSITORY / "src"), str(REPOSITORY), environment.get("PYTHONPATH", "")]
    environment["PYTHONPATH"] = os.pathsep.join(filter(None, folders))
    command = [sys.executable, "-m", "benchmarks.child", json.dumps(job)]
    if result:
        # That of an earlier call would pass for this one's.
        result.unlink(missing_ok=True)
    done = subprocess.run(command, capture_output=True, text=True, env=environment)
    if done.returncode:
        raise RuntimeError(f"{call.target} failed: {done.stderr[-2000:]}")
    measured = Measured(**json.loads(done.stdout.splitlines()[-1]))
    return measured if not result or not result.exists() else replace(measured, result=_load(result))


def _load(file: Path) -> Any:
    import numpy as np

    return np.load(file)


def limit_threads(threads: int) -> None:
    """Bound the threads of OpenCV and torch, which have settings of their own; only where they are imported."""
    for name, setter in (("cv2", "setNumThreads"), ("torch", "set_num_threads")):
        if name in sys.modules:
            getattr(sys.modules[name], setter)(threads)


def say(line: str) -> None:
    """Print progress, which is no part of the tables."""
    print(line, file=sys.stderr, flush=True)
