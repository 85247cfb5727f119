"""The benchmarks infer, train and gpu at tiny sizes on the CPU."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest
import torch

from benchmarks import harness
from benchmarks.cases import gpu, infer, train
from benchmarks.models import TINY, Pair, same_maps, same_steps, same_updates
from tests.conftest import REPOSITORY

# What a machine with torch, timm, NumPy and OpenCV need not have.
ABSENT = (
    "open_clip",
    "snakemake",
    "pydantic",
    "pyarrow",
    "pandas",
    "tifffile",
    "tensorboard",
    "numba",
    "scipy",
    "segment_anything",
)
HIDING = f"""
import runpy, sys
from importlib.machinery import PathFinder

class Hiding(PathFinder):
    @classmethod
    def find_spec(cls, name, path=None, target=None):
        return None if name.split(".")[0] in {ABSENT!r} else PathFinder.find_spec(name, path, target)

sys.meta_path = [Hiding if finder is PathFinder else finder for finder in sys.meta_path]
runpy.run_module("benchmarks.bench", run_name="__main__", alter_sys=True)
"""


@pytest.fixture(scope="module")
def pair() -> Pair:
    torch.set_num_threads(1)
    return Pair(TINY, torch.device("cpu"), 2)


@pytest.mark.parametrize("stage", [infer, train])
def test_rows_compare_and_time(tmp_path: Path, stage) -> None:
    rows = list(stage.rows(harness.Options(tmp_path, repeats=1, threads=1, quick=True), stage.QUICK))
    assert [row.work.stage for row in rows] == [stage.__name__.rpartition(".")[2]] * len(rows)
    assert all("differ" in row.equal and row.work.target for row in rows)
    assert all(row.extra["gflop"] > 0 and row.extra["matrix_gflops_per_s"] > 0 for row in rows)


def test_maps_that_differ_are_not_timed(pair: Pair) -> None:
    maps = pair.plain_maps().clone()
    assert "at most" in same_maps(maps, pair.our_maps())
    wrong = maps.clone()
    wrong[1, 3, 4] += 1e-3
    with pytest.raises(harness.DifferentResultsError, match=r"differ by 1\.0e-03"):
        same_maps(maps, wrong)
    with pytest.raises(harness.DifferentResultsError, match="flat"):
        same_maps(torch.ones(1, 8, 8), torch.ones(1, 8, 8))


def test_every_part_of_the_model_counts(pair: Pair) -> None:
    """A weight that changed nothing would let the sides differ in it unseen."""
    maps = pair.plain_maps().clone()
    # A key's bias adds the same to all scores of a query; softmax takes it away again.
    for name, value in pair.plain.w.items():
        if name.endswith(("learn_scale", "norm1.bias", "norm2.weight", "fc1.weight", "q.weight", "qkv.weight")):
            block = int(name.split(".")[3]) if name.startswith("encoder.") else 0
            if block > TINY.blocks[-1]:
                continue
            kept = value.detach().clone()
            with torch.no_grad():
                value += 0.1
            changed = (pair.plain_maps() - maps).abs().max().item()
            with torch.no_grad():
                value.copy_(kept)
            assert changed > 1e-6, name


def test_steps_that_differ_are_not_timed(pair: Pair) -> None:
    loss, gradients = pair.plain_step()
    gradients = {name: g.clone() for name, g in gradients.items()}
    assert "loss differs" in same_steps((loss, gradients), pair.our_step())
    wrong = gradients | {"decoder.1.attn.q.weight": gradients["decoder.1.attn.q.weight"] * 1.01}
    with pytest.raises(harness.DifferentResultsError, match=r"gradient differs by 1\.0e-02"):
        same_steps((loss, gradients), (loss, wrong))
    with pytest.raises(harness.DifferentResultsError, match="losses"):
        same_steps((loss, gradients), (loss * 1.001, gradients))
    assert "updates" in same_updates(pair)


def test_the_gpu_benchmark_runs_without_the_workflow(tmp_path: Path) -> None:
    """On the CPU, with nothing importable but what its docstring names."""
    command = [sys.executable, "-c", HIDING, "gpu", "--quick", "--threads", "1", "--json", str(tmp_path / "gpu.json")]
    environment = os.environ | {"OMP_NUM_THREADS": "1", "PYTHONPATH": f"{REPOSITORY / 'src'}:{REPOSITORY}"}
    done = subprocess.run(command, capture_output=True, text=True, cwd=tmp_path, env=environment)
    assert done.returncode == 0, done.stderr[-2000:]
    results = json.loads((tmp_path / "gpu.json").read_text())
    assert "failures" not in results
    lines = [(fact["table"].split(",")[0].split(" ")[0], fact["stage"]) for fact in results["facts"]]
    for table in ("Inference", "Training"):
        assert [name for kind, name in lines if kind == table] == ["plain, float32", "robis, float32", "robis, bf16"]
    estimated = next(fact for fact in results["facts"] if fact["table"].startswith("200 epochs"))
    # 300 images of 2448 x 2048, nine tiles each; two tiles a step here.
    assert estimated["values"]["tiles"] == 2700
    assert estimated["values"]["steps"] == 200 * 1350
    assert done.stdout.count("| robis, bf16 |") == 3


def test_a_difference_fails_the_gpu_benchmark_and_leaves_its_other_figures() -> None:
    def differing() -> str:
        raise harness.DifferentResultsError("maps differ by 0.5")

    failed = gpu.check("maps", differing)
    assert failed.failed and failed.note == "FAILED: DifferentResultsError: maps differ by 0.5"
    measured = gpu.attempt("table", "row", lambda: {"tiles/s": 1.0})
    assert not measured.failed and measured.values == {"tiles/s": 1.0}


def test_maps_in_less_precision_are_held_to_a_limit() -> None:
    exact = torch.rand(2, 16, 16, generator=torch.Generator().manual_seed(0))
    assert "root mean square" in gpu.close_maps(exact, exact + 1e-4, gpu.BF16_AGREES)
    with pytest.raises(harness.DifferentResultsError, match="standard deviation"):
        gpu.close_maps(exact, exact + 0.1, gpu.BF16_AGREES)
    with pytest.raises(harness.DifferentResultsError, match="not finite"):
        gpu.close_maps(exact, exact * float("nan"), gpu.BF16_AGREES)
