"""What `robis metrics` prints of a results folder: metrics, verdicts, and how good the runs are."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pandas as pd

from robis.binarization.promise import promises_in_words, read_promise
from robis.errors import DataError
from robis.evaluation.metrics import METRICS
from robis.evaluation.tables import format_table
from robis.io.tables import as_written
from robis.report.detectability import sentences
from robis.workflow import results
from robis.workflow.provenance import metrics_and_settings

KEYS = ["detector", "category", "split"]


def finished_text(folder: Path) -> str:
    """Metrics where there is ground truth, the report's summary, whether packs repeat the masks, the report's place.

    Args:
        folder: results/NAME.

    Raises:
        DataError: there is neither a metrics table nor a report.
    """
    files, summary = results.places(results.METRICS, folder), results.place(results.REPORT_SUMMARY, folder)
    if not files and not summary.is_file():
        reason = "the run is not finished" if folder.is_dir() else "no such folder"
        raise DataError(
            f"{folder}: no metrics and no report there ({reason}). Expected a results folder, results/NAME."
        )
    metrics, settings = metrics_and_settings(files) if files else (None, [])
    parts = [] if metrics is None else [format_table(metrics, settings)]
    if not summary.is_file():
        parts += promises_of(folder)
        parts.append("Run `snakemake` up to the report for a verdict on every image.")
    elif metrics is not None and not _is_current(metrics, results.place(results.REPORT_METRICS, folder)):
        parts.append("The report is of other results than these. Run `snakemake` to renew it and its verdicts.")
    else:
        parts.append(summary.read_text(encoding="utf-8").rstrip())
    parts += [*_checks_of_packs(folder), *_detectability(folder)]
    page = results.place(results.REPORT, folder)
    return "\n\n".join([*parts, *([f"Report: {page.resolve()}"] if page.is_file() else [])])


def promises_of(folder: Path) -> list[str]:
    """What the thresholds of all runs promise, as one text; nothing without a promise. The report's summary has it."""
    files = results.places(results.THRESHOLDS, folder)
    named = ((f"{file.parts[-4]} {file.parent.name}/{file.stem}", read_promise(file)) for file in files)
    lines = promises_in_words(named)
    return ["\n".join(lines)] if lines else []


def _checks_of_packs(folder: Path) -> list[str]:
    """What each pack's comparison with the run says, as one text; nothing where there are no packs."""
    files = results.places(results.PACK_MANIFEST, folder)
    if not files:
        return []
    from robis.packs.format import read_manifest  # torch with it

    lines = ["Packs, compared with the run by inspecting its images:"]
    for file in files:
        manifest = read_manifest(file.parent)
        said = manifest.check.in_words(manifest.split) if manifest.check else "not compared."
        lines.append(f"  {manifest.run}/{manifest.category}: {said}")
    return ["\n".join(lines)]


def _detectability(folder: Path) -> list[str]:
    """Which sizes of synthetic defects the runs find, as one text; nothing where that is not measured."""
    places = [file.parent for file in results.places(results.DETECTABILITY_CURVES, folder)]
    lines = [text for place in places for text in sentences(place, place.name, place.parts[-3])]
    return ["\n  ".join(["Detectability, by synthetic defects on held-out good images:", *lines])] if lines else []


def _is_current(metrics: pd.DataFrame, reported: Path) -> bool:
    """Whether a report has the same metrics; it may lack runs that are no longer in the config."""
    if not reported.is_file():
        return False
    # As text: a category may be called 01.
    text = dict.fromkeys(KEYS, as_written)
    there = pd.read_csv(reported, converters=text, keep_default_na=False, na_values={key: [""] for key in METRICS})
    there = there.set_index(KEYS)
    here = metrics.set_index(KEYS).loc[lambda table: table.index.isin(there.index)]
    now, then = (table[list(METRICS)].to_numpy(float, na_value=np.nan) for table in (here, there.loc[here.index]))
    # Reading text may change the last digit.
    return np.allclose(now, then, rtol=1e-9, atol=0, equal_nan=True)
