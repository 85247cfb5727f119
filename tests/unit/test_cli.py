"""The command line: what it prints, and one message with exit status 1 for a mistake."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pandas as pd
import pytest

from robis import __version__
from robis.cli import main
from robis.demo import generate as demo
from robis.detectors.settings import load, parse
from robis.evaluation.metrics import METRICS, typed
from robis.io.tables import write_csv, write_table
from robis.workflow.runs import effective
from tests.conftest import REPOSITORY


def test_version_and_help(capsys: pytest.CaptureFixture[str]) -> None:
    for arguments, expected in ((["--version"], __version__), (["--help"], "explain")):
        with pytest.raises(SystemExit) as stopped:
            main(arguments)
        assert stopped.value.code == 0
        assert expected in capsys.readouterr().out


def test_metrics_are_printed_in_percent_with_the_report(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    row = {
        "detector": "inp_former",
        "category": "nut",
        "split": "test",
        "images": 4,
        "anomalous_images": 2,
        "defects": 2,
    }
    table = pd.DataFrame([row | dict.fromkeys(METRICS, 0.4321)])
    write_table(tmp_path / "inp_former" / "metrics" / "nut" / "test.parquet", table)
    (tmp_path / "report").mkdir()
    (tmp_path / "report" / "index.html").touch()
    assert main(["metrics", str(tmp_path)]) == 0
    output = capsys.readouterr().out
    assert output.count("43.2") == 2 * len(METRICS), "one row of the category and one of the mean"
    assert str(tmp_path / "report" / "index.html") in output


@pytest.mark.parametrize("category", ["nut", "01", "NA", "-1"])
def test_metrics_end_with_the_summary_of_the_report_unless_it_is_of_other_results(
    category: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    (tmp_path / "report").mkdir()
    (tmp_path / "report" / "summary.txt").write_text("musc judges 3 of 9 images anomalous.\n")
    assert main(["metrics", str(tmp_path)]) == 0
    assert capsys.readouterr().out == "musc judges 3 of 9 images anomalous.\n", "a run without labels"
    keys = {"detector": "musc", "category": category, "split": "test"}
    table = typed(pd.DataFrame([keys | {"images": 9, "defects": 3} | dict.fromkeys(METRICS, 1 / 3)]))
    write_table(tmp_path / "musc" / "metrics" / category / "test.parquet", table)
    write_csv(tmp_path / "report" / "metrics.csv", table)
    assert main(["metrics", str(tmp_path)]) == 0
    assert capsys.readouterr().out.endswith("33.3\n\nmusc judges 3 of 9 images anomalous.\n")
    write_csv(tmp_path / "report" / "metrics.csv", table.assign(seg_f1=0.333))
    assert main(["metrics", str(tmp_path)]) == 0
    output = capsys.readouterr().out
    assert "The report is of other results than these. Run `snakemake` to renew it" in output
    assert "judges" not in output
    (tmp_path / "report" / "summary.txt").unlink()
    assert main(["metrics", str(tmp_path)]) == 0
    assert "Run `snakemake` up to the report for a verdict on every image." in capsys.readouterr().out


def test_results_without_metrics_say_why(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["metrics", str(tmp_path)]) == 1
    assert "no metrics and no report there (the run is not finished)" in capsys.readouterr().err
    assert main(["metrics", str(tmp_path / "absent")]) == 1
    assert "no such folder" in capsys.readouterr().err


def test_the_demo_is_written_where_it_is_wanted(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(demo, "CATEGORIES", ("weave",))
    monkeypatch.setattr(demo, "NORMAL", {"train": 1, "test_public": 1})
    monkeypatch.setattr(demo, "ANOMALOUS", {})
    assert main(["data", "demo", "--out", str(tmp_path / "d")]) == 0
    assert (tmp_path / "d" / "weave" / "train" / "good" / "000_regular.png").is_file()
    (tmp_path / "mine").mkdir()
    (tmp_path / "mine" / "a.txt").touch()
    assert main(["data", "demo", "--out", str(tmp_path / "mine")]) == 1
    assert "is no demo dataset" in capsys.readouterr().err


def test_the_demo_of_each_layout_has_a_folder_of_its_own(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(demo, "NORMAL", {})
    monkeypatch.setattr(demo, "ANOMALOUS", {})
    for arguments, folder in (([], "demo"), (["--layout", "visa"], "demo_visa")):
        assert main(["data", "demo", *arguments]) == 0
        assert capsys.readouterr().out == f"Demo images: data/{folder}\n"
    assert (tmp_path / "data" / "demo_visa" / "split_csv" / "1cls.csv").is_file()
    assert main(["data", "demo", "--layout", "vsa"]) == 1
    assert "'vsa' is no layout. Valid: mvtec_ad_2" in capsys.readouterr().err


ROBIS = [sys.executable, "-c", "import sys; from robis.cli import main; sys.exit(main())"]
COMMANDS = [
    ["--help"],
    ["--version"],
    ["explain", "binarize"],
    ["config", "show"],
    ["config", "show", "--configfile", "config/mvtec_ad_2.yaml"],
    ["data", "check", "--help"],
]


def run_robis(arguments: list[str], output: int, folder: Path = REPOSITORY) -> subprocess.CompletedProcess[str]:
    # Output is buffered as in a shell.
    environment = os.environ | {"PYTHONPATH": str(REPOSITORY / "src"), "PYTHONUNBUFFERED": ""}
    return subprocess.run(
        [*ROBIS, *arguments], cwd=folder, env=environment, stdout=output, stderr=subprocess.PIPE, text=True, check=False
    )


@pytest.mark.parametrize("arguments", COMMANDS, ids=" ".join)
def test_a_reader_that_has_gone_ends_a_command_quietly(arguments: list[str]) -> None:
    reader, writer = os.pipe()
    os.close(reader)
    done = run_robis(arguments, writer)
    os.close(writer)
    assert "Broken pipe" not in done.stderr and "Traceback" not in done.stderr
    assert done.returncode == 141, "as a shell reports a command that SIGPIPE ended"


@pytest.mark.skipif(not Path("/dev/full").exists(), reason="only Linux has a device that is always full")
def test_output_that_cannot_be_written_is_named() -> None:
    with open("/dev/full", "w") as full:
        done = run_robis(["explain", "merge.scale"], full.fileno())
    assert done.stderr == "robis: the output cannot be written: No space left on device.\n"
    assert done.returncode == 1


def test_a_key_is_explained_and_the_config_shown_without_a_config(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.chdir(tmp_path)
    assert main(["explain", "merge.scale"]) == 0
    printed = capsys.readouterr()
    assert "value:    0.25" in printed.out
    assert printed.err == "config/config.yaml: no such file. These are the defaults.\n"
    assert main(["config", "show"]) == 0
    (tmp_path / "shown.yaml").write_text(capsys.readouterr().out)
    assert effective(load(tmp_path / "shown.yaml")) == effective(parse({}))
    assert main(["explain", "merge.scale", "--configfile", "absent.yaml"]) == 1
    assert capsys.readouterr().err == (
        "robis: absent.yaml: this config file cannot be read (No such file or directory).\n"
    )
    (tmp_path / "config").mkdir()
    (tmp_path / "config" / "config.yaml").write_text("merge: {scale: 0.5}")
    assert main(["explain", "merge.scale"]) == 0
    printed = capsys.readouterr()
    assert "value:    0.5 (config/config.yaml)" in printed.out and not printed.err


def test_a_failure_of_the_system_names_its_file(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(demo, "CATEGORIES", ("weave",))
    (tmp_path / "file").touch()
    assert main(["data", "demo", "--out", str(tmp_path / "file" / "below")]) == 1
    error = capsys.readouterr().err
    assert error.startswith(f"robis: {tmp_path / 'file'}") and error.endswith(": File exists.\n")
