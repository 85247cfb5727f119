"""What a command costs with all the processes that it starts."""

from __future__ import annotations

import resource
import subprocess
import threading
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import psutil

EVERY = 0.25  # seconds between two looks at the memory


@dataclass(frozen=True)
class Cost:
    """What a command cost.

    Attributes:
        seconds, cpu_seconds: of the command and its children.
        peak_mb: largest proportional set size (shared pages count once) of all its processes at the same time, in MB.
        output: what it printed.
    """

    seconds: float
    cpu_seconds: float
    peak_mb: float
    output: str


def cost_of(command: Sequence[str], environment: Mapping[str, str], folder: Path) -> Cost:
    """Run a command in a folder. Raises RuntimeError with what it printed when it fails."""
    before, started = _children_seconds(), time.perf_counter()
    process = subprocess.Popen(
        command, env=environment, cwd=folder, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True
    )
    peak = _Peak(process.pid)
    output, errors = process.communicate()
    seconds, cpu_seconds = time.perf_counter() - started, _children_seconds() - before
    peak_mb = peak.stop()
    if process.returncode:
        raise RuntimeError(f"{command[0]} failed: {(output + errors)[-3000:]}")
    return Cost(seconds, cpu_seconds, peak_mb, output)


def folder_mb(folder: Path) -> float:
    """Size of the files of a folder in MB."""
    return sum(path.stat().st_size for path in folder.rglob("*") if path.is_file() and not path.is_symlink()) / 1e6


def _children_seconds() -> float:
    used = resource.getrusage(resource.RUSAGE_CHILDREN)
    return used.ru_utime + used.ru_stime


class _Peak:
    """Watches the memory of a process and its descendants."""

    def __init__(self, pid: int) -> None:
        self.bytes, self._ended = 0, threading.Event()
        self._thread = threading.Thread(target=self._watch, args=(pid,), daemon=True)
        self._thread.start()

    def stop(self) -> float:
        """The peak in MB."""
        self._ended.set()
        self._thread.join()
        return self.bytes / 1e6

    def _watch(self, pid: int) -> None:
        while not self._ended.wait(EVERY):
            try:
                root = psutil.Process(pid)
                processes = [root, *root.children(recursive=True)]
            except psutil.NoSuchProcess:
                return
            self.bytes = max(self.bytes, sum(map(_held, processes)))


def _held(process: psutil.Process) -> int:
    try:
        return int(process.memory_full_info().pss)
    except psutil.Error:
        return 0
