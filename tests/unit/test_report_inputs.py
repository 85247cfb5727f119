"""Which files a report reads: of its own runs and of other results folders, declared and paired again."""

from __future__ import annotations

import re
from dataclasses import replace
from pathlib import Path

import pytest

from robis.errors import ConfigError
from robis.evaluation.metrics import METRICS
from robis.workflow.compared import check_compared, compared_runs
from robis.workflow.report_inputs import FILES, described, inputs_of, paired, run_files
from tests.made_results import Made, made_files, write_run, write_verdicts

IMAGES = [Made("bad/000", "anomalous", truth=(8, 8, 24, 40), final=(8, 8, 24, 24))]
SAMPLES = {("nut", "test"): Path("samples/nut/test.parquet"), ("nut", "private"): Path("samples/nut/private.parquet")}


@pytest.fixture
def other(tmp_path: Path) -> Path:
    folder = tmp_path / "results" / "before"
    write_run(folder / "musc", "nut", "test", IMAGES, dict.fromkeys(METRICS, 0.9))
    write_verdicts(folder / "musc", "nut", "test", IMAGES, 0.5)
    write_run(folder / "musc", "nut", "private", IMAGES)
    write_run(folder / "winclip", "bolt", "test", IMAGES)
    return folder


def test_the_files_of_a_run_are_those_that_the_stages_write(other: Path) -> None:
    files = run_files(other, "musc", "musc", ("nut", "test"))
    unmade = dict.fromkeys(("history", "pack", "detectability", "regions", "evidence", "clusters"))
    assert replace(files, **unmade) == made_files(other / "musc", "nut", "test")


def test_finished_runs_of_other_folders_are_compared(other: Path) -> None:
    runs = compared_runs([str(other)], SAMPLES)
    assert [(run.name, run.part, run.compared) for run in runs] == [
        ("before: musc", ("nut", "test"), True),
        ("before: musc", ("nut", "private"), True),
    ]
    assert runs[0].samples == SAMPLES["nut", "test"], "of this run, with whose images theirs are matched"
    assert runs[0].metrics == other / "musc" / "metrics" / "nut" / "test.parquet"
    assert runs[0].verdicts and runs[0].held_out_scores is None, "only this run's own limits are compared with others"
    assert (runs[1].verdicts, runs[1].metrics, runs[1].curves, runs[1].history) == (None,) * 4
    assert all(Path(path).exists() for name in FILES if name != "samples" for path in inputs_of(runs)[name])


def test_folders_of_one_name_are_named_by_their_path(tmp_path: Path, other: Path) -> None:
    second = tmp_path / "elsewhere" / "before"
    write_run(second / "musc", "nut", "test", IMAGES)
    names = [run.name for run in compared_runs([str(other), str(second)], SAMPLES)]
    assert names == [f"{other}: musc", f"{other}: musc", f"{second}: musc"]


def test_folders_that_do_not_fit_are_named(tmp_path: Path, other: Path) -> None:
    own = tmp_path / "results" / "shop"
    own.mkdir()
    with pytest.raises(ConfigError, match=r"report\.compare: .*/befor is not a folder.*Did you mean 'before'"):
        check_compared([str(other.with_name("befor"))], own)
    with pytest.raises(ConfigError, match=r"report\.compare: .* is this run's own folder"):
        check_compared([str(own)], own)
    with pytest.raises(ConfigError, match=r"report\.compare: .* is listed twice"):
        check_compared([str(other), f"{other}/../before"], own)
    (tmp_path / "empty").mkdir()
    with pytest.raises(ConfigError, match=r"report\.compare: .*/empty holds no results: no DETECTOR/image_scores"):
        check_compared([str(tmp_path / "empty")], own)
    check_compared([str(other)], own)
    with pytest.raises(ConfigError, match=re.escape("has no finished results of what is reported here (bolt/val)")):
        compared_runs([str(other)], {("bolt", "val"): Path("samples")})


def test_runs_are_paired_with_their_files_wherever_these_lie(other: Path) -> None:
    runs = compared_runs([str(other)], SAMPLES)
    runs.insert(0, run_files(other, "musc", "musc", ("nut", "test")))
    inputs = {name: [f"/storage/{path}" for path in paths] for name, paths in inputs_of(runs).items()}
    back = paired(described(runs), inputs)
    assert len(back) == 3
    for run, moved in zip(runs, back, strict=True):
        assert (moved.name, moved.part, moved.compared) == (run.name, run.part, run.compared)
        for name in FILES:
            path = getattr(run, name)
            assert getattr(moved, name) == (None if path is None else Path(f"/storage/{path}"))
