"""What was measured as JSON, as Markdown tables, and as a block of a document."""

from __future__ import annotations

import os
import platform
import statistics
import time
from collections.abc import Iterable, Mapping, Sequence
from importlib import metadata
from pathlib import Path
from typing import Any

from benchmarks import devices
from benchmarks.harness import Fact, Row

VERSIONS = (
    *("numpy", "numba", "opencv-python-headless", "pillow", "pandas", "pyarrow", "scikit-learn", "scipy"),
    *("torch", "triton", "timm", "open_clip_torch", "segment-anything", "adeval", "anomalib", "snakemake"),
)


def machine(threads: int, device: str = "cpu") -> dict[str, Any]:
    """Where and with what the figures are measured."""
    memory = os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES") / 2**30
    gpu = {} if device == "cpu" else {"gpu": devices.described(device)}
    return {
        "cpu": _processor(),
        "cores": os.cpu_count(),
        "memory_gb": round(memory, 1),
        "system": platform.platform(),
        "python": platform.python_version(),
        "threads": threads,
        "load_before": round(os.getloadavg()[0], 2),
        "time": time.strftime("%Y-%m-%d %H:%M"),
        "versions": {name: version for name in VERSIONS if (version := installed(name))},
        **gpu,
    }


def _processor() -> str:
    info = Path("/proc/cpuinfo")
    lines = info.read_text(encoding="utf-8").splitlines() if info.exists() else []
    names = [line.split(":", 1)[1].strip() for line in lines if "model name" in line]
    return names[0] if names else platform.processor() or platform.machine()


def installed(name: str) -> str | None:
    """Version of a distribution; None: not installed."""
    try:
        return metadata.version(name)
    except metadata.PackageNotFoundError:
        return None


def as_json(described: Mapping[str, Any], measured: Iterable[Row | Fact]) -> dict[str, Any]:
    """Everything that was measured, as the JSON files hold it."""
    rows: list[dict[str, Any]] = []
    facts: list[dict[str, Any]] = []
    for item in measured:
        if isinstance(item, Row):
            rows.append(_row_as_json(item))
        else:
            facts.append({"table": item.table, "stage": item.stage, "values": dict(item.values), "note": item.note})
    return {"machine": dict(described), "rows": rows, "facts": facts}


def _row_as_json(row: Row) -> dict[str, Any]:
    peaks = {"plain_mb": row.plain.peak_mb, "ours_mb": row.ours.peak_mb}
    return {
        "stage": row.work.stage,
        "work": row.work.what,
        "plain": row.work.plain,
        "plain_s": _short(row.plain.seconds),
        "ours_s": _short(row.ours.seconds),
        "plain_cpu_s": _short(row.plain.cpu_seconds),
        "ours_cpu_s": _short(row.ours.cpu_seconds),
        "ratio": round(row.ratio, 2),
        "cpu_ratio": round(row.cpu_ratio, 2),
        "target": row.work.target,
        "met": row.met,
        "equal": row.equal,
        "note": row.work.note,
        **{name: round(peak, 1) for name, peak in peaks.items() if peak is not None},
        **row.extra,
    }


def _short(seconds: Sequence[float]) -> list[float]:
    return [round(value, 5) for value in seconds]


def markdown(results: Mapping[str, Any]) -> str:
    """What `as_json` holds: the machine, then its tables."""
    return f"{described(results['machine'])}\n\n{tables_of(results)}\n"


def tables_of(results: Mapping[str, Any]) -> str:
    """The comparisons, then each table of facts."""
    parts = []
    if results["rows"]:
        parts.append(_comparisons(results["rows"]))
    for title in dict.fromkeys(fact["table"] for fact in results["facts"]):
        parts.append(_facts(title, [fact for fact in results["facts"] if fact["table"] == title]))
    return "\n\n".join(parts)


def described(machine: Mapping[str, Any]) -> str:
    """What `machine` gives, as two sentences."""
    versions = ", ".join(f"{name} {version}" for name, version in machine["versions"].items())
    gpu = f"{machine['gpu']}, " if "gpu" in machine else ""
    return (
        f"{machine['time']}: {gpu}{machine['cpu']}, {machine['threads']} of {machine['cores']} cores, "
        f"{machine['memory_gb']:.0f} GB, {machine['system']}, Python {machine['python']}, {versions}. "
        f"Load before: {machine['load_before']}."
    )


def _comparisons(rows: Sequence[Mapping[str, Any]]) -> str:
    peaks = any("plain_mb" in row for row in rows)
    memory = ["other, MB", "robis, MB"] if peaks else []
    head = ["stage", "work", "other side", "other, s", "robis, s", "times as fast", "by CPU s", *memory]
    head += ["target", "results"]
    lines = [line(head), line(["---"] * len(head))]
    for row in rows:
        target = "" if row["target"] is None else f"{row['target']:g}: {'met' if row['met'] else 'missed'}"
        cells = [row["stage"], row["work"], row["plain"], spread(row["plain_s"]), spread(row["ours_s"])]
        cells += [_rounded(row["ratio"]), _rounded(row["cpu_ratio"])]
        cells += [_cell(row.get(name)) for name in ("plain_mb", "ours_mb")] if peaks else []
        cells += [target, row["equal"] + (f"; {row['note']}" if row["note"] else "")]
        lines.append(line(cells))
    return "\n".join(lines)


def _facts(title: str, facts: Sequence[Mapping[str, Any]]) -> str:
    columns = list(dict.fromkeys(name for fact in facts for name in fact["values"]))
    notes = any(fact["note"] for fact in facts)
    head = ["stage", *columns, *(["note"] if notes else [])]
    lines = [f"{title}:", "", line(head), line(["---"] * len(head))]
    for fact in facts:
        values = [_cell(fact["values"].get(name)) for name in columns]
        lines.append(line([fact["stage"], *values, *([fact["note"]] if notes else [])]))
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


def line(cells: Iterable[str]) -> str:
    """A line of a table."""
    return f"| {' | '.join(cells)} |"


def write_block(document: Path, name: str, text: str) -> None:
    """Replace what stands between `<!-- NAME: begin -->` and `<!-- NAME: end -->` in a document.

    Raises ValueError when the document lacks the two.
    """
    begin, end = f"<!-- {name}: begin -->", f"<!-- {name}: end -->"
    before, opened, rest = document.read_text(encoding="utf-8").partition(begin)
    _, closed, after = rest.partition(end)
    if not opened or not closed:
        raise ValueError(f"{document}: expected a block {begin} ... {end}; add the two lines.")
    document.write_text(f"{before}{begin}\n\n{text.strip()}\n\n{end}{after}", encoding="utf-8")
