"""The command line: what it prints, and one message with exit status 1 for a mistake."""

from __future__ import annotations

from pathlib import Path

import pandas as pd
import pytest

from robis import __version__
from robis.cli import main
from robis.demo import generate as demo
from robis.evaluation.metrics import METRICS
from robis.io.tables import write_table


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


def test_results_without_metrics_say_why(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["metrics", str(tmp_path)]) == 1
    assert "no ground truth, or is not finished" in capsys.readouterr().err
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
