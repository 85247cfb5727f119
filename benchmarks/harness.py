"""What every comparison shares: both sides checked for equality, then timed in turns, in one process.

Imports nothing that starts threads, so that `bench.py` can bound them first.
"""

from __future__ import annotations

import json
import os
import platform
import resource
import statistics
import subprocess
import sys
import time
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, field
from importlib import metadata
from pathlib import Path
from typing import Any

REPOSITORY = Path(__file__).parents[1]
RESULTS = REPOSITORY / "benchmarks" / "results"
DOCUMENT = REPOSITORY / "docs" / "performance.md"
VERSIONS = (
    *("numpy", "numba", "opencv-python-headless", "pillow", "pandas", "pyarrow", "scikit-learn", "scipy"),
    *("torch", "timm", "segment-anything", "adeval", "anomalib", "snakemake"),
)
THREAD_LIMITS = ("OMP_NUM_THREADS", "OPENBLAS_NUM_THREADS", "MKL_NUM_THREADS", "NUMEXPR_NUM_THREADS")


@dataclass(frozen=True)
class Options:
    """What a benchmark is run with.

    Attributes:
        folder: an empty folder for generated files; removed afterwards.
        repeats: times that each side is run; slow rows run fewer and say so.
        threads: cores that both sides may use.
        train_batch: tiles per training step; the published 16 take minutes per step.
        quick: tiny sizes that end in seconds: shows that a row runs and that its sides agree, not how fast they are.
    """

    folder: Path
    repeats: int = 5
    threads: int = 2
    quick: bool = False
    train_batch: int = 4


@dataclass(frozen=True)
class Row:
    """One comparison: the seconds of every run of both sides.

    Attributes:
        stage: the rule it belongs to.
        work: what is done, with sizes.
        plain_name: the other side.
        plain_s, ours_s: wall-clock seconds of each run, in the order in which they alternated.
        plain_cpu_s, ours_cpu_s: CPU seconds of the process, of the same runs.
        target: how many times as fast robis has to be; None where there is no target.
        equal: how the results were compared, e.g. "bit-identical".
        note: what a reader has to know.
        extra: further figures, for the JSON.
    """

    stage: str
    work: str
    plain_name: str
    plain_s: list[float]
    ours_s: list[float]
    plain_cpu_s: list[float]
    ours_cpu_s: list[float]
    target: float | None
    equal: str
    note: str = ""
    extra: dict[str, Any] = field(default_factory=dict)

    @property
    def ratio(self) -> float:
        """How many times as fast robis is, by the medians."""
        return statistics.median(self.plain_s) / statistics.median(self.ours_s)

    @property
    def cpu_ratio(self) -> float:
        """The same by CPU seconds."""
        return statistics.median(self.plain_cpu_s) / max(statistics.median(self.ours_cpu_s), 1e-9)

    @property
    def met(self) -> bool | None:
        """Whether the target is reached; None without one."""
        return None if self.target is None else self.ratio >= self.target


@dataclass(frozen=True)
class Fact:
    """Figures without another side (memory, fixed costs): one line of the table `table`; values by column."""

    table: str
    stage: str
    values: dict[str, str | float | None]
    note: str = ""


class DifferentResultsError(Exception):
    """The two sides do not agree, so there is nothing to compare."""


def timed(function: Callable[[], Any]) -> tuple[Any, float, float]:
    """Run once: the result, wall-clock seconds, and CPU seconds of this process and of children that ended."""
    used, started = _cpu_seconds(), time.perf_counter()
    result = function()
    return result, time.perf_counter() - started, _cpu_seconds() - used


def _cpu_seconds() -> float:
    children = resource.getrusage(resource.RUSAGE_CHILDREN)
    return time.process_time() + children.ru_utime + children.ru_stime


def compare(
    stage: str,
    work: str,
    plain_name: str,
    plain: Callable[[], Any],
    ours: Callable[[], Any],
    equal: Callable[[Any, Any], str],
    *,
    repeats: int,
    target: float | None = None,
    note: str = "",
    **extra: Any,
) -> Row:
    """Check that both sides give the same, then time them in turns.

    The first run of each side, whose results are compared, warms caches, compiled code and the page cache; it is not
    counted. `equal(plain's result, ours)` returns in words how they agree and raises DifferentResultsError.
    """
    told = equal(plain(), ours())
    seconds: dict[str, list[float]] = {"plain": [], "ours": [], "plain_cpu": [], "ours_cpu": []}
    for turn in range(repeats):
        # Which side goes first changes, so that neither always finds the machine as the other left it.
        for name, side in (("plain", plain), ("ours", ours))[:: -1 if turn % 2 else 1]:
            result, wall, cpu = timed(side)
            del result
            seconds[name].append(wall)
            seconds[f"{name}_cpu"].append(cpu)
    return Row(
        stage=stage,
        work=work,
        plain_name=plain_name,
        plain_s=seconds["plain"],
        ours_s=seconds["ours"],
        plain_cpu_s=seconds["plain_cpu"],
        ours_cpu_s=seconds["ours_cpu"],
        target=target,
        equal=told,
        note=note,
        extra=extra,
    )


def require(agrees: bool, what: str) -> None:
    """Raise DifferentResultsError unless the results agree."""
    if not agrees:
        raise DifferentResultsError(what)


def child(code: str, *arguments: str, threads: int) -> dict[str, Any]:
    """Run Python code in a process of its own; what it prints last is JSON. `peak_mb`: its largest resident memory.

    Raises RuntimeError with what the child said when it fails.
    """
    # VmHWM starts anew with the program, unlike ru_maxrss, which begins at what the parent held.
    ending = (
        "\nimport json as _json\nfrom pathlib import Path as _Path\n"
        "_status = dict(line.split(':', 1) for line in _Path('/proc/self/status').read_text().splitlines())\n"
        "print(_json.dumps({**(globals().get('told') or {}), 'peak_mb': int(_status['VmHWM'].split()[0]) / 1024}))\n"
    )
    environment = {**os.environ, **dict.fromkeys(THREAD_LIMITS, str(threads))}
    environment["PYTHONPATH"] = os.pathsep.join(
        [str(REPOSITORY / "src"), str(REPOSITORY), environment.get("PYTHONPATH", "")]
    )
    done = subprocess.run(
        [sys.executable, "-c", code + ending, *arguments], capture_output=True, text=True, env=environment
    )
    if done.returncode:
        raise RuntimeError(done.stderr[-2000:])
    return dict(json.loads(done.stdout.splitlines()[-1]))


def installed(name: str) -> str | None:
    """Version of a distribution, None where it is not installed."""
    try:
        return metadata.version(name)
    except metadata.PackageNotFoundError:
        return None


def limit_threads(threads: int) -> None:
    """Bound the threads of OpenCV and torch, which have their own settings; only what is imported already."""
    for name, setter in (("cv2", "setNumThreads"), ("torch", "set_num_threads")):
        if name in sys.modules:
            getattr(sys.modules[name], setter)(threads)


def machine(threads: int) -> dict[str, Any]:
    """Where and with what the figures were measured."""
    cpu = platform.processor() or platform.machine()
    info = Path("/proc/cpuinfo")
    if info.exists():
        names = [line.split(":", 1)[1].strip() for line in info.read_text().splitlines() if "model name" in line]
        cpu = names[0] if names else cpu
    memory = os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES") / 2**30
    return {
        "cpu": cpu,
        "cores": os.cpu_count(),
        "memory_gb": round(memory, 1),
        "system": platform.platform(),
        "python": platform.python_version(),
        "threads": threads,
        "load_before": round(os.getloadavg()[0], 2),
        "time": time.strftime("%Y-%m-%d %H:%M"),
        "versions": {name: found for name in VERSIONS if (found := installed(name))},
    }


def as_json(described: dict[str, Any], found: Iterable[Row | Fact]) -> dict[str, Any]:
    """Everything that was measured, as JSON holds it."""
    rows, facts = [], []
    for one in found:
        if isinstance(one, Fact):
            facts.append({"table": one.table, "stage": one.stage, "values": one.values, "note": one.note})
            continue
        rows.append(
            {
                "stage": one.stage,
                "work": one.work,
                "plain": one.plain_name,
                "plain_s": _short(one.plain_s),
                "ours_s": _short(one.ours_s),
                "plain_cpu_s": _short(one.plain_cpu_s),
                "ours_cpu_s": _short(one.ours_cpu_s),
                "ratio": round(one.ratio, 2),
                "cpu_ratio": round(one.cpu_ratio, 2),
                "target": one.target,
                "met": one.met,
                "equal": one.equal,
                "note": one.note,
                **one.extra,
            }
        )
    return {"machine": described, "rows": rows, "facts": facts}


def _short(seconds: Sequence[float]) -> list[float]:
    return [round(value, 5) for value in seconds]


def markdown(found: dict[str, Any]) -> str:
    """Tables of what `as_json` holds: the comparisons, then each table of facts."""
    parts = [_described(found["machine"])]
    if found["rows"]:
        parts.append(_comparisons(found["rows"]))
    for title in dict.fromkeys(fact["table"] for fact in found["facts"]):
        parts.append(_facts(title, [fact for fact in found["facts"] if fact["table"] == title]))
    return "\n\n".join(parts) + "\n"


def _described(described: dict[str, Any]) -> str:
    versions = ", ".join(f"{name} {version}" for name, version in described["versions"].items())
    return (
        f"{described['time']}: {described['cpu']}, {described['threads']} of {described['cores']} cores, "
        f"{described['memory_gb']:.0f} GB, {described['system']}, Python {described['python']}, {versions}. "
        f"Load before: {described['load_before']}."
    )


def _comparisons(rows: Sequence[dict[str, Any]]) -> str:
    head = ("stage", "work", "other side", "other, s", "robis, s", "times as fast", "by CPU s", "target", "results")
    lines = [_line(head), _line(["---"] * len(head))]
    for row in rows:
        target = "" if row["target"] is None else f"{row['target']:g}: {'met' if row['met'] else 'missed'}"
        lines.append(
            _line(
                [
                    *(row["stage"], row["work"], row["plain"]),
                    *(spread(row["plain_s"]), spread(row["ours_s"])),
                    *(_rounded(row["ratio"]), _rounded(row["cpu_ratio"]), target),
                    row["equal"] + (f"; {row['note']}" if row["note"] else ""),
                ]
            )
        )
    return "\n".join(lines)


def _facts(title: str, facts: Sequence[dict[str, Any]]) -> str:
    columns = list(dict.fromkeys(name for fact in facts for name in fact["values"]))
    notes = any(fact["note"] for fact in facts)
    head = ["stage", *columns, *(["note"] if notes else [])]
    lines = [f"{title}:", "", _line(head), _line(["---"] * len(head))]
    for fact in facts:
        values = [_cell(fact["values"].get(name)) for name in columns]
        lines.append(_line([fact["stage"], *values, *([fact["note"]] if notes else [])]))
    return "\n".join(lines)


def spread(seconds: Sequence[float]) -> str:
    """Median and range, with three digits: `0.123 (0.120-0.131)`."""
    low, middle, high = min(seconds), statistics.median(seconds), max(seconds)
    return f"{_rounded(middle)} ({_rounded(low)}-{_rounded(high)})"


def _cell(value: str | float | None) -> str:
    if value is None:
        return ""
    return value if isinstance(value, str) else _rounded(value)


def _rounded(value: float) -> str:
    if value >= 100 or value == int(value):
        return f"{value:.0f}"
    return f"{value:.{max(1, 2 - _magnitude(value))}f}"


def _magnitude(value: float) -> int:
    return int(f"{value:e}".split("e")[1]) if value else 0


def _line(cells: Iterable[str]) -> str:
    return f"| {' | '.join(cells)} |"


def write_block(document: Path, name: str, text: str) -> None:
    """Replace what stands between `<!-- NAME: begin -->` and `<!-- NAME: end -->` in a document.

    Raises ValueError where the document lacks the two.
    """
    begin, end = f"<!-- {name}: begin -->", f"<!-- {name}: end -->"
    before, found, rest = document.read_text(encoding="utf-8").partition(begin)
    _, closed, after = rest.partition(end)
    if not found or not closed:
        raise ValueError(f"{document}: no {begin} ... {end}")
    document.write_text(f"{before}{begin}\n\n{text.strip()}\n\n{end}{after}", encoding="utf-8")
