"""The settings that a table of metrics was computed with, and which tables of a results folder have others."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from functools import cache
from pathlib import Path
from typing import Any

import pandas as pd

from robis.config.settings import SharedSettings
from robis.config.stage import Option
from robis.detectors.registry import DETECTORS
from robis.detectors.settings import parse
from robis.errors import ConfigError
from robis.evaluation.metrics import METRICS, SETTINGS
from robis.io.damage import damaged
from robis.io.tables import read_table
from robis.workflow.runs import effective, run_of, runs_of
from robis.workflow.stages import stages

LAST = "evaluate"
_COLUMNS = dict.fromkeys(("detector", "category", "split"), "text") | dict.fromkeys(METRICS, "numbers")
# Re-run stages, with the same results to the bit.
SAME_RESULTS = ("infer.shards", "dataset.archive")


def settings_record(settings: SharedSettings, *, run: str, category: str, split: str) -> dict[str, Any]:
    """What the metrics of a run are computed with, as plain data.

    Returns:
        `config`: the part of the config that can change metrics of any run. `read`: dotted key -> value, after
        overrides, of every option of which a change makes these metrics stale.
    """
    job = {"detector": run, "category": category, "split": split}
    values = settings.model_dump(mode="json")
    config = {name: values[name] for name in ("detectors", "overrides")}
    for section, _, name in (key.partition(".") for key in sorted(_result_keys())):
        config.setdefault(section, {})[name] = values[section][name]
    return {"config": config, "read": _read_values(settings, **job)}


def metrics_and_settings(files: Sequence[Path]) -> tuple[pd.DataFrame, list[str]]:
    """Read tables of metrics, and mark the rows that were computed with other settings than the newest.

    Args:
        files: one row each.

    Returns:
        The rows with one more column, `other_settings` (bool), and a sentence about each marked row.
    """
    newest_first = sorted(files, key=lambda file: file.stat().st_mtime_ns, reverse=True)
    tables = {file: _read_row(file) for file in newest_first}
    configs = {file: config for file, table in tables.items() if (config := _config(table))}
    marked, sentences = [], []
    for file in files:
        table = tables[file]
        differences = list(_differences(table, list(configs.values()), _run_of(table)))
        marked.append(table.assign(other_settings=bool(differences)))
        if differences:
            sentences.append("{detector}, {category}/{split}: ".format(**_run_of(table)) + "; ".join(differences))
    return pd.concat(marked, ignore_index=True), sentences


def _read_row(file: Path) -> pd.DataFrame:
    table = read_table(file, stage=LAST, columns=_COLUMNS)
    if len(table) != 1:
        raise damaged(file, f"{len(table)} rows; expected one", LAST)
    return table


def _run_of(table: pd.DataFrame) -> dict[str, str]:
    return {name: str(table[name].iloc[0]) for name in ("detector", "category", "split")}


def _config(table: pd.DataFrame) -> SharedSettings | None:
    """The config that a table was made with; None where it is not known, or of another version of robis."""
    try:
        return parse(table.attrs[SETTINGS]["config"])
    except (KeyError, ConfigError):
        return None


def _differences(table: pd.DataFrame, configs: Sequence[SharedSettings], run: Mapping[str, str]) -> Iterator[str]:
    """What sets the settings of a row apart from the newest config that has its run."""
    config = next((config for config in configs if run["detector"] in runs_of(config)), None)
    if config is None:
        return
    now, then = _read_values(config, **run), table.attrs.get(SETTINGS, {}).get("read")
    if then is None:
        yield "computed with settings that are not recorded"
        return
    for key in dict.fromkeys([*now, *then]):
        if now.get(key) != then.get(key):
            yield f"{key} was {_shown(then, key)}, now {_shown(now, key)}"


def _shown(values: Mapping[str, Any], key: str) -> str:
    return str(values[key]) if key in values else "not read"


def _read_values(settings: SharedSettings, *, detector: str, category: str, split: str) -> dict[str, Any]:
    of_job = effective(settings, detector=detector, category=category, split=split)
    values = _plain_values(of_job, run_of(settings, detector).detector.name)
    lender = of_job.rescore.embeddings
    if of_job.rescore.method == "rscin" and lender in runs_of(settings) and lender != detector:
        of_lender = _read_values(settings, detector=lender, category=category, split=split)
        values |= {f"{key} of {lender}": value for key, value in of_lender.items() if values.get(key) != value}
    return values


def _plain_values(settings: SharedSettings, detector: str) -> dict[str, Any]:
    """The options that the stages up to `evaluate` read with these settings, as JSON has them."""
    values = settings.model_dump(mode="json")
    keys = [option.key for option in _result_options(detector) if option.is_read(settings)]
    return {key: values[section][name] for key in keys for section, _, name in [key.partition(".")]}


@cache
def _result_options(detector: str) -> tuple[Option, ...]:
    """The options of which a change makes the metrics of a detector stale, in the order of the stages."""
    declared = stages(detector)
    needed, waiting = set(), [LAST]
    while waiting:
        name = waiting.pop()
        if name in declared and name not in needed:
            needed.add(name)
            waiting += declared[name].after
    read = [option for name in declared if name in needed for option in declared[name].stale_options()]
    return tuple(option for option in read if option.key not in SAME_RESULTS)


def _result_keys() -> set[str]:
    """The options of which a change makes the metrics of any detector stale, or decides which runs there are."""
    keys = {option.key for detector in DETECTORS for option in _result_options(detector)}
    return keys.union(*(detector.run_keys for detector in DETECTORS.values()))
