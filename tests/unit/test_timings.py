"""Time and memory of stages, from benchmark files written as Snakemake writes them."""

from __future__ import annotations

from pathlib import Path

import pandas as pd
import pytest

from robis.cli import main
from robis.workflow.timings import stage_timings


def write_benchmark(path: Path, seconds: str, cpu: str = "5.0", memory: str = "100.0") -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(f"s\th:m:s\tmax_rss\tmean_load\tcpu_time\n{seconds}\t0:00:01\t{memory}\t50.0\t{cpu}\n")


def test_timings_add_up_the_jobs_of_a_stage(tmp_path: Path) -> None:
    write_benchmark(tmp_path / "benchmarks" / "index" / "nut" / "test.tsv", "1.5", "NA", "NA")
    write_benchmark(tmp_path / "benchmarks" / "report.tsv", "9", "-", "50")
    infer = tmp_path / "musc" / "benchmarks" / "infer" / "nut"
    write_benchmark(infer / "test.tsv", "30", "40", "200.5")
    write_benchmark(infer / "train.tsv", "10", "NA", "100")
    (infer / "killed.tsv").write_text("")
    (infer / "started.tsv").write_text("s\th:m:s\tmax_rss\tmean_load\tcpu_time\n")
    write_benchmark(tmp_path / "musc" / "benchmarks" / "train" / "nut.tsv", "60.25", "70")
    timings = stage_timings(tmp_path, ["index", "train", "infer"])
    expected = pd.DataFrame(
        [
            ("", "index", 1, 1.5, None, 1.5, None),
            ("musc", "train", 1, 60.25, 70.0, 60.25, 100.0),
            ("musc", "infer", 2, 40.0, 40.0, 30.0, 200.5),
            ("", "report", 1, 9.0, None, 9.0, 50.0),
        ],
        columns=["run", "stage", "jobs", "wall_s", "cpu_s", "longest_s", "peak_mb"],
    )
    pd.testing.assert_frame_equal(timings, expected, check_dtype=False)
    assert timings["peak_mb"].isna().tolist() == [True, False, False, False]


def test_a_run_without_benchmark_files_has_no_rows(tmp_path: Path) -> None:
    assert stage_timings(tmp_path / "nowhere").empty


def test_the_command_prints_the_stages_in_their_order(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    write_benchmark(tmp_path / "benchmarks" / "report.tsv", "9", "-", "NA")
    write_benchmark(tmp_path / "benchmarks" / "crop" / "nut" / "test.tsv", "2", "1.25", "99")
    write_benchmark(tmp_path / "musc" / "benchmarks" / "infer" / "nut" / "test.tsv", "130.4", "240.6", "1500.5")
    assert main(["timings", str(tmp_path)]) == 0
    assert [line.split() for line in capsys.readouterr().out.splitlines()] == [
        ["run", "stage", "jobs", "wall", "s", "cpu", "s", "longest", "s", "peak", "mb"],
        ["all", "runs", "crop", "1", "2.0", "1.2", "2.0", "99.0"],
        ["musc", "infer", "1", "130", "241", "130", "1500"],
        ["all", "runs", "report", "1", "9.0", "-", "9.0", "-"],
    ]


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (b"\xff\xfe\0\1\t2\n", "not a benchmark file ('utf-8' codec can't decode byte 0xff in position 0"),
        (b"s\tcpu_time\tmax_rss\n1\t2\t3\t4\t5\n1\t2\n1\t2\t3\t4\t5\t6\n", "not a benchmark file ("),
        (b"a\tb\n1\t2\n", "no column 's'; expected s, cpu_time, max_rss"),
    ],
)
def test_a_damaged_benchmark_file_is_named(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], content: bytes, message: str
) -> None:
    file = tmp_path / "musc" / "benchmarks" / "infer" / "nut" / "test.tsv"
    file.parent.mkdir(parents=True)
    file.write_bytes(content)
    assert main(["timings", str(tmp_path)]) == 1
    error = capsys.readouterr().err
    assert error.startswith(f"robis: {file}: {message}")
    assert error.endswith("Make it again with `snakemake --forcerun infer`.\n")


def test_the_command_says_why_there_are_no_timings(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["timings", str(tmp_path)]) == 1
    assert "no job is finished" in capsys.readouterr().err
    assert main(["timings", str(tmp_path / "absent")]) == 1
    assert "no such folder" in capsys.readouterr().err
