"""Several Snakemakes on one workstation with four simulated GPUs."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest

from tests.cluster.conftest import assert_same_results, needs_no_gpu
from tests.conftest import REPOSITORY
from tests.workflow.conftest import Workspace

pytestmark = pytest.mark.workflow

SNAKEFILE = """
from robis.workflow.params import Params

rule all:
    input:
        expand("{number}.done", number=range(20)),

rule use:
    params:
        settings=lambda wildcards: Params.of({}),
    output:
        "{number}.done",
    log:
        "{number}.log",
    resources:
        gpu=1,
        gpu_jobs=lambda wildcards: 2 if int(wildcards.number) % 2 else 1,
    script:
        "use.py"
"""

# Writes down when it has which GPU. The first try of job 4 is killed while it has one.
SCRIPT = """
import os, signal, time
from pathlib import Path
from robis.workflow.jobs import job

def write(what):
    with open(os.environ["RECORD"], "a") as stream:
        gpu = os.environ["CUDA_VISIBLE_DEVICES"]
        stream.write(f"{time.monotonic_ns()} {what} {snakemake.resources.gpu_jobs} {gpu}\\n")

with job(snakemake):
    write("start")
    time.sleep(0.1)
    write("end")
    if snakemake.wildcards.number == "4" and not Path("killed").exists():
        Path("killed").touch()
        os.kill(os.getpid(), signal.SIGKILL)
    Path(snakemake.output[0]).touch()
"""


def test_forty_jobs_of_two_snakemakes_never_take_the_same_gpu_and_none_is_lost(tmp_path: Path) -> None:
    environment = os.environ | {
        "PYTHONPATH": str(REPOSITORY / "src"),
        "ROBIS_GPUS": "0,1,2,3",
        "ROBIS_GPU_LOCKS": str(tmp_path / "locks"),
        "RECORD": str(tmp_path / "record"),
    }
    for name in ("CUDA_VISIBLE_DEVICES", "SLURM_JOB_ID"):
        environment.pop(name, None)
    runs = []
    for name in ("a", "b"):
        folder = tmp_path / name
        folder.mkdir()
        (folder / "Snakefile").write_text(SNAKEFILE)
        (folder / "use.py").write_text(SCRIPT)
        command = [sys.executable, "-m", "snakemake", "--workflow-profile", "none", "--directory", str(folder)]
        command += ["--snakefile", str(folder / "Snakefile"), "--cores", "4", "--resources", "gpu=4", "--retries", "1"]
        runs.append(
            subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True, env=environment)
        )
    for run in runs:
        output = run.communicate()[0]
        assert run.returncode == 0, output
    assert all((tmp_path / name / "killed").exists() for name in ("a", "b"))
    assert all((tmp_path / name / f"{number}.done").exists() for name in ("a", "b") for number in range(20))
    now: dict[str, list[int]] = {}
    events = sorted((tmp_path / "record").read_text().splitlines())
    assert len(events) == 2 * (2 * 20 + 2)
    for event in events:
        _, what, share, gpu = event.split()
        now.setdefault(gpu, [])
        now[gpu].append(int(share)) if what == "start" else now[gpu].remove(int(share))
        assert len(now[gpu]) <= min(now[gpu], default=0)
    assert len(now) > 1


def test_the_workstation_profile_gives_models_a_gpu_and_nothing_else(workstation: Workspace) -> None:
    said = {
        log.parts[-3] if log.parts[-3] != "logs" else log.parts[-2]: log.read_text()
        for log in (workstation.results / "inp_former" / "logs").rglob("*.log")
    }
    with_gpu = {rule for rule, text in said.items() if "Using GPU sim" in text}
    assert with_gpu == {"train", "infer", "refine"}
    assert {"merge", "binarize", "evaluate"} <= set(said)


@needs_no_gpu
def test_the_workstation_profile_gives_the_bytes_of_the_default_one(local: Workspace, workstation: Workspace) -> None:
    assert_same_results(local, workstation)
