"""The check of ten minutes for a GPU: its rehearsal on a CPU, and what it does when a step goes wrong."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import zipfile
from dataclasses import replace
from importlib.util import find_spec
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
import torch

from benchmarks import devices, harness, rates
from benchmarks.gpu_check import carried, runner
from benchmarks.gpu_check.plan import SECONDS, STEPS
from benchmarks.gpu_check.record import Check, summary
from benchmarks.gpu_check.runner import Run
from benchmarks.gpu_check.steps import detectors, inp_former
from benchmarks.harness import Fact
from robis.encoders.devices import autocast
from tests.conftest import REPOSITORY

# What a machine with torch, timm, NumPy and OpenCV may lack and nobody carries.
ABSENT = ("pyarrow", "numba", "scipy", "skimage", "sklearn", "snakemake", "matplotlib", "tifffile", "openpyxl")
HIDING = f"""
import sys
from importlib.machinery import PathFinder

class Hiding(PathFinder):
    @classmethod
    def find_spec(cls, name, path=None, target=None):
        return None if name.split(".")[0] in {ABSENT!r} else PathFinder.find_spec(name, path, target)

sys.meta_path = [Hiding if finder is PathFinder else finder for finder in sys.meta_path]
"""


@pytest.mark.skipif(find_spec("triton") is None, reason="Triton is for Linux")
def test_every_step_runs_on_a_cpu_with_what_is_carried(tmp_path: Path) -> None:
    """All but INP-Former's, which has a test below: its compiled code takes long to make."""
    (tmp_path / "sitecustomize.py").write_text(HIDING)
    environment = os.environ | {"PYTHON": sys.executable, "PYTHONPATH": str(tmp_path)}
    steps = [name for name in STEPS if name != "inp_former"]
    command = [str(REPOSITORY / "benchmarks" / "gpu_check.sh"), "--rehearse", "--out", str(tmp_path / "out"), *steps]
    done = subprocess.run(command, capture_output=True, text=True, env=environment, cwd=tmp_path)
    logs = "".join(file.read_text()[-1500:] for file in sorted((tmp_path / "out").glob("*.log")))
    assert done.returncode == 0, done.stdout[:3000] + done.stderr[-1000:] + logs
    records = {name: json.loads((tmp_path / "out" / f"{name}.json").read_text()) for name in steps}
    assert {record["status"] for record in records.values()} == {"passed"}
    # Triton's interpreter does not multiply bfloat16.
    assert records["tests"]["headline"].endswith(" passed, 1 skipped")
    compared = [fact["stage"] for fact in records["detectors"]["facts"]]
    trained = [name for name in detectors.DETECTORS if name != "musc"]
    assert len(compared) == 2 * len(detectors.DETECTORS) + len(trained)
    assert [row["work"].rpartition(" ")[2] for row in records["kernel"]["rows"]] == ["fp16"]
    figures = json.loads((tmp_path / "out" / "figures.json").read_text())
    measuring = [records[name] for name in ("kernel", "musc", "superadd", "sam")]
    assert figures["machine"] and figures["rows"] == [row for record in measuring for row in record["rows"]]
    assert figures["facts"] == [fact for record in measuring for fact in record["facts"]]
    text = (tmp_path / "out" / "summary.md").read_text()
    assert done.stdout.endswith(text)
    assert all(f"\n| {name} | passed | " in text for name in steps)
    assert not (tmp_path / "out" / "packages").exists(), "packages are no results"


def test_inp_former_is_rehearsed(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(inp_former, "TINY", replace(inp_former.TINY, compiled=False))
    check = Check("cpu", True, tmp_path, tmp_path / "inp_former.json")
    inp_former.run(check)
    assert check.end()
    assert check.headline.startswith("bf16: inference ") and "; training " in check.headline


def test_all_steps_fit_into_ten_minutes() -> None:
    assert sum(step.seconds for step in STEPS.values()) <= SECONDS < 600


# A step that goes wrong


def run_script(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, script: str, name: str, seconds: float = 100) -> Any:
    """The record of a step whose process is a shell script instead of Python."""
    program = tmp_path / "program.sh"
    program.write_text(f"#!/bin/sh\n{script}\n")
    program.chmod(0o755)
    monkeypatch.setattr(runner.sys, "executable", str(program))
    monkeypatch.setattr(runner, "LEAST_SECONDS", 0)
    out = tmp_path / "out"
    out.mkdir(exist_ok=True)
    record = runner.run_step(Run(out, tmp_path, "cpu", rehearse=True), name, seconds)
    assert json.loads((out / f"{name}.json").read_text()) == record
    return record


def test_a_step_that_is_killed_keeps_its_figures(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    check = Check("cpu", True, tmp_path, tmp_path / "kept.json")
    check.add(Fact("table", "line", {"s": 1.0}))
    script = f"cp {tmp_path}/kept.json {tmp_path}/out/musc.json; kill -9 $$"
    record = run_script(tmp_path, monkeypatch, script, "musc")
    assert record["status"] == "failed" and record["facts"][0]["values"] == {"s": 1.0}
    assert record["failures"] == [f"ended with signal 9; see {tmp_path}/out/musc.log"]


def test_a_step_that_hangs_is_ended_with_all_that_it_started(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    os.mkfifo(tmp_path / "open")
    reader = os.open(tmp_path / "open", os.O_RDONLY | os.O_NONBLOCK)
    # The process in the background keeps the pipe open.
    script = f"exec 3>{tmp_path}/open; sleep 1000 & exec 3>&-; wait"
    record = run_script(tmp_path, monkeypatch, script, "musc", seconds=1)
    assert record["failures"][0].startswith("still running after 1 s; see ")
    os.set_blocking(reader, True)
    assert os.read(reader, 1) == b"", "it reads on until the last process is gone"
    os.close(reader)


def test_a_step_without_its_packages_is_skipped(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(STEPS, "musc", replace(STEPS["musc"], needs=("torch", "no_such_module")))
    record = run_script(tmp_path, monkeypatch, "exit 1", "musc")
    assert record == {"status": "skipped", "headline": "not installed and not carried: no_such_module"}
    monkeypatch.undo()
    left = runner.run_step(Run(tmp_path, tmp_path, "cpu"), "musc", 3.0)
    assert left == {"status": "skipped", "headline": "3 s are left"}


def test_without_a_gpu_nothing_else_is_tried(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    if torch.cuda.is_available():
        pytest.skip("there is a GPU")
    run = Run(tmp_path / "out", tmp_path)
    assert not runner.run_steps(run, ["machine", "musc"], tmp_path)
    printed = capsys.readouterr().out
    assert "torch finds no GPU" in printed and "| machine | failed |" in printed and "musc" not in printed


def test_a_failed_figure_fails_its_step(tmp_path: Path) -> None:
    check = Check("cpu", True, tmp_path, tmp_path / "step.json")
    check.add(Fact("table", "good", {"s": 1.0}))
    check.add(Fact("table", "bad", {}, "maps differ", failed=True))
    assert not check.end()
    record = json.loads((tmp_path / "step.json").read_text())
    assert record["status"] == "failed" and record["failures"] == ["bad: maps differ"]
    assert "| step | failed | bad: maps differ | 0 |  |" in summary({"step": record}, None)


# Maps beside those of the CPU


def test_differences_of_maps_by_hand() -> None:
    exact = np.zeros((1, 10, 10))
    exact[0, 0, 0], exact[0, 0, 1] = 1.0, 0.5
    maps = exact.copy()
    maps[0, 0, 1] = 0.5005
    agreeing = detectors.same("one", exact, maps)
    assert not agreeing.failed
    assert agreeing.values["largest difference"] == agreeing.values["of the range"] == "5.0e-04"
    assert agreeing.values["mask pixels that differ"] == "0 of 100"
    # By hand: the root of 0.0005^2 / 100, over the standard deviation, the root of 1.25 / 100 - 0.015^2.
    assert detectors.root_mean_square(exact, maps) == pytest.approx(5e-5 / 0.0122750**0.5, rel=1e-4)
    maps[0, 0, 1] = 0.51
    assert detectors.same("one", exact, maps).note == "maps may differ by 3.0e-03"
    maps[0, 0, 1] = np.nan
    assert detectors.same("one", exact, maps).failed and detectors.similar("one", exact, maps).failed


def test_masks_that_differ_fail() -> None:
    """Values that lie at the threshold: what moves no map by a thousandth moves every tenth pixel of the mask."""
    exact = np.zeros((1, 10, 100))
    exact[0, 0] = 1.0
    # By hand: the mean is 0.1, the standard deviation 0.3, and so the threshold 1.0, which nothing exceeds.
    maps = exact.copy()
    maps[0, 0, :50] += 1e-3
    assert detectors.masks_differ(exact, maps) == pytest.approx(0.05)
    assert detectors.same("one", exact, maps).note == "at most 0.2% of the pixels of masks may differ"


def test_near_maps_are_held_to_a_share_of_the_standard_deviation() -> None:
    exact = np.tile([0.0, 2.0], (1, 2, 50))
    assert not detectors.similar("near", exact, exact + 0.29).failed
    assert (
        detectors.similar("far", exact, exact + 0.31).note
        == "the root mean square may be 30% of the standard deviation"
    )


# Carried wheels


def wheel(folder: Path, name: str, version: str, tags: str = "py3-none-any") -> None:
    with zipfile.ZipFile(folder / f"{name}-{version}-{tags}.whl", "w") as archive:
        archive.writestr(f"{name}.py", f"version = {version!r}")


def test_wheels_are_unpacked_where_they_fit_and_lack(tmp_path: Path) -> None:
    for name, version, *tags in (
        ("absent_package", "1.0"),
        ("other_python", "1.0", "cp38-cp38-manylinux2014_x86_64"),
        ("other_system", "1.0", f"cp3{sys.version_info.minor}-cp3{sys.version_info.minor}-win_amd64"),
        # Installed: an older one is not needed, a later one is.
        ("numpy", "0.1"),
        ("torch", "999.0"),
    ):
        wheel(tmp_path, name, version, *tags)
    unpacked = carried.unpack(tmp_path, tmp_path / "packages")
    assert unpacked == ["absent_package-1.0-py3-none-any.whl", "torch-999.0-py3-none-any.whl"]
    assert sorted(path.name for path in (tmp_path / "packages").iterdir()) == ["absent_package.py", "torch.py"]
    assert carried.unpack(tmp_path / "no_such_folder", tmp_path / "none") == []


def test_versions_of_what_is_carried_are_fixed() -> None:
    def normal(name: str) -> str:
        return name.lower().replace("_", "-")

    lines = (REPOSITORY / "benchmarks" / "gpu_check" / "carry.txt").read_text().splitlines()
    fixed = {normal(line.partition("==")[0]) for line in (REPOSITORY / "constraints.txt").read_text().splitlines()}
    assert {normal(line) for line in lines if not line.startswith("#")} <= fixed


# Devices


class Cuda:
    """A stand-in for torch.cuda: remembers calls, and has an allocator whose peak can be set back."""

    def __init__(self) -> None:
        self.calls: list[str] = []
        self.held = self.most = 0

    def hold(self, bytes_: int) -> None:
        self.held = bytes_
        self.most = max(self.most, bytes_)

    def reset_peak_memory_stats(self, device: str) -> None:
        self.most = self.held

    def __getattr__(self, name: str) -> Any:
        answers = {
            "synchronize": None,
            "is_available": True,
            "memory_allocated": self.held,
            "max_memory_allocated": self.most,
            "mem_get_info": (70, 80),
            "get_device_name": "a GPU",
            "get_device_properties": SimpleNamespace(name="a GPU", total_memory=80 * 2**30),
        }

        def answer(*arguments: str) -> Any:
            self.calls.append(name)
            return answers[name]

        return answer

    def set_device(self, device: str | int) -> None:
        """As torch's own, refuse a device without an index."""
        assert isinstance(device, int), f"Expected a torch.device with a specified index or an integer, not {device}"
        self.calls.append(f"set_device {device}")


@pytest.fixture
def cuda(monkeypatch: pytest.MonkeyPatch) -> Cuda:
    stand_in = Cuda()
    backends = SimpleNamespace(cuda=SimpleNamespace(matmul=SimpleNamespace()), cudnn=SimpleNamespace())
    version = SimpleNamespace(cuda="13.2")
    stand_ins = SimpleNamespace(cuda=stand_in, backends=backends, version=version, device=torch.device)
    monkeypatch.setitem(sys.modules, "torch", stand_ins)
    monkeypatch.setattr(devices, "_earlier_peaks", {})
    return stand_in


def test_a_run_on_a_gpu_is_waited_for_and_its_memory_measured(cuda: Cuda) -> None:
    def run() -> str:
        cuda.calls.append("run")
        cuda.hold(5_000_000)
        cuda.hold(3_000_000)
        return "result"

    cuda.hold(2_000_000)
    measured = harness.timed(run, "cuda")
    assert (measured.result, measured.peak_mb, measured.held_mb) == ("result", 3.0, 2.0)
    ran = cuda.calls.index("run")
    assert "synchronize" in cuda.calls[:ran] and "synchronize" in cuda.calls[ran + 1 :]
    cuda.hold(4_000_000)
    assert harness.timed(lambda: None, "cuda").peak_mb == 0.0
    assert devices.peak("cuda") == 4_000_000 and devices.largest_peak("cuda") == 5_000_000


def test_a_gpu_is_described(cuda: Cuda) -> None:
    devices.require_gpu("cuda:2")
    devices.require_gpu("cuda")
    assert [call for call in cuda.calls if "set_device" in call] == ["set_device 2", "set_device 0"]
    torch_now = sys.modules["torch"]
    assert not torch_now.backends.cuda.matmul.allow_tf32 and not torch_now.backends.cudnn.allow_tf32
    assert devices.described("cuda") == "a GPU, 80 GiB, CUDA 13.2, no TF32"
    assert (devices.name("cuda"), devices.free_bytes("cuda")) == ("a GPU", 70)


def test_a_cpu_is_asked_nothing(cuda: Cuda) -> None:
    measured = harness.timed(lambda: 1, "cpu")
    assert (measured.peak_mb, measured.held_mb, devices.largest_peak("cpu"), devices.name("cpu")) == (
        None,
        None,
        None,
        "",
    )
    assert devices.free_bytes("cpu") == devices.CPU_BYTES
    assert cuda.calls == []


def test_busy_spans_are_read_from_torchs_profiler() -> None:
    """The CPU's events have what those of a GPU have."""
    with torch.profiler.profile(activities=[torch.profiler.ProfilerActivity.CPU]) as profiler:
        torch.ones(64, 64) @ torch.ones(64, 64)
    kind = torch.autograd.DeviceType.CPU
    spans = rates.spans_on(kind, profiler.events())
    assert spans and all(start <= end for start, end in spans)
    assert rates.spans_on(torch.autograd.DeviceType.CUDA, profiler.events()) == []


@pytest.mark.parametrize("precision", ["float32", "bf16"])
def test_convolutions_are_float32_while_robis_computes(precision: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(torch.backends.cudnn, "allow_tf32", True)
    with autocast(torch.device("cpu"), precision):
        assert not torch.backends.cudnn.allow_tf32
    assert torch.backends.cudnn.allow_tf32
