"""What a step has found so far, on disk at any moment, and all of it as Markdown."""

from __future__ import annotations

import json
import os
import time
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from benchmarks import devices, tables
from benchmarks.harness import Fact, Row, say

RUNNING, PASSED, FAILED, SKIPPED = "running", "passed", "failed", "skipped"


@dataclass
class Check:
    """A step in its process: how it computes, and its record.

    Attributes:
        device: "cpu" or a CUDA device.
        rehearse: whether sizes are tiny.
        folder: for files of the step.
        file: the record (JSON).
        threads: cores that it may use.
        headline: the result in a few words.
    """

    device: str
    rehearse: bool
    folder: Path
    file: Path
    threads: int = 1
    headline: str = ""
    _items: list[Row | Fact] = field(default_factory=list)
    _failures: list[str] = field(default_factory=list)
    _started: float = field(default_factory=time.monotonic)

    def add(self, item: Row | Fact) -> None:
        """Keep a figure; a failed one fails the step."""
        self._items.append(item)
        if isinstance(item, Fact) and item.failed:
            self._failures.append(f"{item.stage}: {item.note}")
        self.write()

    def fail(self, reason: str) -> None:
        """Fail the step, which may go on."""
        say(f"FAILED: {reason}")
        self._failures.append(reason)
        self.write()

    def end(self) -> bool:
        """Write the outcome; returns whether the step has passed."""
        self.write(FAILED if self._failures else PASSED)
        return not self._failures

    def write(self, status: str = RUNNING) -> None:
        """Write the record as it is."""
        peak = devices.largest_peak(self.device)
        record = {
            "status": status,
            "headline": self.headline,
            "failures": self._failures,
            "seconds": round(time.monotonic() - self._started, 1),
            "peak_gb": None if peak is None else round(peak / 1e9, 2),
            **tables.as_json({}, self._items),
        }
        write_json(self.file, record)


def write_json(file: Path, record: Mapping[str, Any]) -> None:
    """Write a record; a reader sees the old or the new one."""
    file.parent.mkdir(parents=True, exist_ok=True)
    unfinished = file.with_suffix(".new")
    unfinished.write_text(json.dumps(record, indent=1) + "\n", encoding="utf-8")
    os.replace(unfinished, file)


def read_json(file: Path) -> dict[str, Any]:
    """A record; an empty one where there is none."""
    return dict(json.loads(file.read_text(encoding="utf-8"))) if file.exists() else {}


def figures(records: Iterable[Mapping[str, Any]], machine: Mapping[str, Any] | None) -> dict[str, Any]:
    """The rows and facts of several records as those of one benchmark."""
    parts = {kind: [item for record in records for item in record.get(kind, [])] for kind in ("rows", "facts")}
    return {"machine": machine, **parts}


def summary(records: Mapping[str, Mapping[str, Any]], machine: Mapping[str, Any] | None) -> str:
    """Markdown: the machine, a line for each step, then the tables of each step."""
    head = ["step", "outcome", "result", "seconds", "peak memory, GB"]
    lines = [tables.line(head), tables.line(["---"] * len(head))]
    for name, record in records.items():
        reasons = "; ".join(record.get("failures", []))
        result = "; ".join(filter(None, [record.get("headline", ""), reasons])).replace("|", "/").replace("\n", " ")
        peak = record.get("peak_gb")
        figures = [f"{record.get('seconds', 0):.0f}", "" if not peak else f"{peak:.2f}"]
        lines.append(tables.line([name, record["status"], result[:400], *figures]))
    parts = [tables.described(machine)] if machine else []
    parts.append("\n".join(lines))
    for name, record in records.items():
        if record.get("rows") or record.get("facts"):
            parts.append(f"### {name}\n\n{tables.tables_of(record)}")
    return "\n\n".join(parts) + "\n"
