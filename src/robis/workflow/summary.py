"""What `robis metrics` prints of a results folder: metrics, verdicts, and how good the runs are."""

from __future__ import annotations

from pathlib import Path

import pandas as pd

from robis.errors import DataError
from robis.evaluation.tables import format_table
from robis.io.tables import read_table
from robis.workflow import results


def finished_text(folder: Path) -> str:
    """Metrics where there is ground truth, then the report's summary and where the report is.

    Args:
        folder: results/NAME.

    Raises:
        DataError: there is neither a metrics table nor a report.
    """
    metrics = results.places(results.METRICS, folder)
    summary = results.place(results.REPORT_SUMMARY, folder)
    if not metrics and not summary.is_file():
        reason = "the run is not finished" if folder.is_dir() else "no such folder"
        raise DataError(f"{folder}: no metrics and no report there ({reason}). Expected a results folder, results/NAME.")
    parts = [format_table(pd.concat(map(read_table, metrics), ignore_index=True))] if metrics else []
    parts.append(_summary(folder, summary))
    page = results.place(results.REPORT, folder)
    if page.is_file():
        parts.append(f"Report: {page.resolve()}")
    return "\n\n".join(parts)


def _summary(folder: Path, summary: Path) -> str:
    """The summary of the report, or why it does not hold for these results."""
    if not summary.is_file():
        return "Run `snakemake` up to the report for a verdict on every image."
    written = summary.stat().st_mtime
    tables = [*results.places(results.IMAGE_SCORES, folder), *results.places(results.METRICS, folder)]
    if any(path.stat().st_mtime > written for path in tables):
        return "The report is older than these results. Run `snakemake` to renew it and its verdicts."
    return summary.read_text(encoding="utf-8").rstrip()
