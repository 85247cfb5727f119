"""Run the steps, each as a process with a time limit, and write after each what is known."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from collections.abc import Sequence
from dataclasses import dataclass
from importlib.util import find_spec
from pathlib import Path
from typing import Any

from benchmarks.gpu_check import carried
from benchmarks.gpu_check.plan import EVERYWHERE, SECONDS, STEPS, Step
from benchmarks.gpu_check.record import FAILED, PASSED, RUNNING, SKIPPED, figures, read_json, summary, write_json
from benchmarks.harness import REPOSITORY, THREAD_LIMITS, say

# Below this a step would only start.
LEAST_SECONDS, MOST_THREADS = 10, 16


@dataclass(frozen=True)
class Run:
    """One run of the check.

    Attributes:
        out: where results go.
        work: for files that nobody keeps.
        device: of all steps.
        rehearse: whether sizes are tiny; steps have no time limits of their own then.
        seconds: time for all steps together.
    """

    out: Path
    work: Path
    device: str = "cuda"
    rehearse: bool = False
    seconds: float = SECONDS

    @property
    def packages(self) -> Path:
        """Where carried wheels are unpacked."""
        return self.work / "packages"

    @property
    def threads(self) -> int:
        """Cores of a step."""
        cores = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
        return 1 if self.rehearse else min(MOST_THREADS, cores)


def run_steps(run: Run, names: Sequence[str], wheels: Path) -> bool:
    """Run steps; returns whether none has failed. A machine whose GPU torch does not see fails at once.

    wheels: folder of wheels that were brought along.
    """
    ends = time.monotonic() + run.seconds
    run.out.mkdir(parents=True, exist_ok=True)
    for name in carried.unpack(wheels, run.packages):
        say(f"unpacked {name}")
    sys.path.insert(0, str(run.packages))
    records: dict[str, dict[str, Any]] = {}
    for name in names:
        left = ends - time.monotonic()
        records[name] = run_step(run, name, left if run.rehearse else min(STEPS[name].seconds, left))
        write_summary(run, records)
        say(f"{name}: {records[name]['status']}. {records[name].get('headline', '')}")
        if name == "machine" and records[name]["status"] != PASSED:
            break
    print(write_summary(run, records), end="")
    return all(record["status"] in (PASSED, SKIPPED) for record in records.values())


def write_summary(run: Run, records: dict[str, dict[str, Any]]) -> str:
    """Write what is known as Markdown, and the figures as JSON; returns the former."""
    machine = read_json(run.out / "described.json") or None
    measured = [record for name, record in records.items() if STEPS[name].measures]
    write_json(run.out / "figures.json", figures(measured, machine))
    text = summary(records, machine)
    (run.out / "summary.md").write_text(text, encoding="utf-8")
    return text


def run_step(run: Run, name: str, seconds: float) -> dict[str, Any]:
    """The record of a step, which is on disk, too."""
    file = run.out / f"{name}.json"
    file.unlink(missing_ok=True)
    reason = _why_not(STEPS[name], seconds)
    if reason:
        record: dict[str, Any] = {"status": SKIPPED, "headline": reason}
    else:
        say(f"{name}: {STEPS[name].shows}, at most {seconds:.0f} s")
        started = time.monotonic()
        ended = _start(run, name, seconds)
        record = read_json(file) or {"status": RUNNING}
        if record["status"] == RUNNING or (record["status"] == PASSED and ended):
            log = run.out / f"{name}.log"
            record |= {"status": FAILED, "failures": [*record.get("failures", []), f"{ended}; see {log}"]}
        record["seconds"] = round(time.monotonic() - started, 1)
    write_json(file, record)
    return record


def _why_not(step: Step, seconds: float) -> str:
    absent = [module for module in (*EVERYWHERE, *step.needs) if find_spec(module) is None]
    if absent:
        return f"not installed and not carried: {', '.join(absent)}"
    return f"{max(0, seconds):.0f} s are left" if seconds < LEAST_SECONDS else ""


def _start(run: Run, name: str, seconds: float) -> str:
    """Run a step's process to its end or its limit; says how it ended, nothing if that was well."""
    command = [sys.executable, "-m", "benchmarks.gpu_check", name, "--work", str(run.work), "--out", str(run.out)]
    command += ["--device", run.device, "--seconds", str(seconds), *(["--rehearse"] if run.rehearse else [])]
    with open(run.out / f"{name}.log", "wb") as log:
        process = subprocess.Popen(
            command,
            stdout=log,
            stderr=subprocess.STDOUT,
            env=_environment(run),
            cwd=REPOSITORY,
            # With all that it starts, such as compilers, it can be ended.
            start_new_session=True,
        )
        try:
            code = process.wait(seconds)
        except subprocess.TimeoutExpired:
            return f"still running after {seconds:.0f} s"
        finally:
            _end_group(process)
    return "" if not code else f"ended with {f'signal {-code}' if code < 0 else f'exit code {code}'}"


def _end_group(process: subprocess.Popen[bytes]) -> None:
    """End a process and those it has started."""
    try:
        os.killpg(process.pid, signal.SIGKILL)
    except ProcessLookupError:
        return
    finally:
        process.wait()


def _environment(run: Run) -> dict[str, str]:
    """For a step: packages, threads, its limit, no downloads, and on a CPU the interpreter of Triton's kernels."""
    folders = [str(REPOSITORY / "src"), str(REPOSITORY), str(run.packages), os.environ.get("PYTHONPATH", "")]
    return {
        **os.environ,
        "PYTHONPATH": os.pathsep.join(filter(None, folders)),
        **dict.fromkeys(THREAD_LIMITS, str(run.threads)),
        "HF_HUB_OFFLINE": "1",
        "ROBIS_GPU_TESTS": run.device,
        **({"TRITON_INTERPRET": "1"} if run.device == "cpu" else {}),
    }
