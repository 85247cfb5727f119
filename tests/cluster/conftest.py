"""The three profiles on the same data: on this machine, on one with simulated GPUs, and on a real SLURM."""

from __future__ import annotations

import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import pandas as pd
import pytest
import torch

from tests.cluster.slurm import LOOK_EVERY_SECOND, NO_ACCOUNTING, Cluster, missing
from tests.workflow.conftest import Workspace, write_tiny_dataset

CATEGORIES = ("bolt", "nut", "washer")
# The number of threads is the one thing of a profile that may change the last digit of a result.
THREADS = [f"{rule}=1" for rule in ("crop", "train", "infer", "merge", "binarize", "refine", "evaluate")]
needs_no_gpu = pytest.mark.skipif(torch.cuda.is_available(), reason="on a GPU, sums may differ in their last digit")


def new_workspace(folder: Path) -> Workspace:
    """Three categories, one split, a state of the training after every epoch."""
    write_tiny_dataset(folder / "data", CATEGORIES)
    workspace = Workspace(folder)
    workspace.write_config({"dataset": {"splits": ["test_public"]}, "inp_former": {"epochs": 12}})
    return workspace


def snakemake(workspace: Workspace, profile: str, *options: str) -> list[str]:
    """The command that makes the metrics of a workspace with a profile as it is shipped, and options in addition."""
    program = ["-c", LOOK_EVERY_SECOND] if profile == "slurm" else ["-m", "snakemake"]
    return [
        *(sys.executable, *program, "--snakefile", str(workspace.code / "Snakefile")),
        *("--directory", str(workspace.folder), "--configfile", str(workspace.configfile)),
        *("--workflow-profile", str(workspace.code / "profiles" / profile), *options),
        *("--set-threads", *THREADS, "--quiet", "host", "--", "metrics"),
    ]


def run_locally(folder: Path, profile: str, *options: str, **variables: str) -> Workspace:
    """A complete run on the CPU of this machine."""
    workspace = new_workspace(folder)
    command = snakemake(workspace, profile, "--cores", "2", *options)
    environment = workspace.environment | variables
    done = subprocess.run(command, capture_output=True, text=True, check=False, env=environment)
    assert done.returncode == 0, done.stdout + done.stderr
    return workspace


def assert_same_results(one: Workspace, other: Workspace) -> None:
    """Tiles, models, maps, masks, metrics are the same bytes, and every training took the same steps."""
    expected, found = one.outputs(), other.outputs()
    assert len([name for name in expected if "anomaly_images_thresholded" in name]) == 5 * len(CATEGORIES)
    assert found.keys() == expected.keys()
    assert [name for name in expected if found[name] != expected[name]] == []
    for category in CATEGORIES:
        file = Path("inp_former", "models", category, "training.parquet")
        histories = [pd.read_parquet(run.results / file).drop(columns="images_per_second") for run in (one, other)]
        pd.testing.assert_frame_equal(*histories, check_exact=True)


@pytest.fixture(scope="session")
def local(tmp_path_factory: pytest.TempPathFactory) -> Workspace:
    """The default profile."""
    return run_locally(tmp_path_factory.mktemp("local"), "default", CUDA_VISIBLE_DEVICES="")


@pytest.fixture(scope="session")
def workstation(tmp_path_factory: pytest.TempPathFactory) -> Workspace:
    """The workstation profile on two GPUs that CUDA does not know."""
    folder = tmp_path_factory.mktemp("workstation")
    return run_locally(
        folder, "workstation", "--resources", "gpu=2", ROBIS_GPUS="sim0,sim1", ROBIS_GPU_LOCKS=str(folder / "locks")
    )


@pytest.fixture(scope="session")
def cluster(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Cluster]:
    """A running SLURM with two GPUs; tests skip, saying why, where there can be none."""
    why = missing()
    if why:
        pytest.skip(why)
    cluster = Cluster(tmp_path_factory.mktemp("slurm"))
    try:
        cluster.start()
        yield cluster
    finally:
        cluster.stop()


class SlurmRun:
    """A run on the cluster in which one training is cancelled and another preempted.

    Attributes:
        cancelled, preempted: their categories.
        beside: category -> index of the GPU, of trainings that ran at one time.
        jobs: the scheduler's records after the run.
    """

    def __init__(self, cluster: Cluster, workspace: Workspace) -> None:
        self.cluster = cluster
        self.workspace = workspace
        self.beside: dict[str, str] = {}
        self.jobs: list[dict[str, str]] = []
        command = snakemake(workspace, "slurm", *NO_ACCOUNTING)
        with open(workspace.folder / "snakemake.log", "w") as log:
            self.process = subprocess.Popen(
                command, stdout=log, stderr=subprocess.STDOUT, env=workspace.environment | cluster.environment
            )
        try:
            self._until(self._two_trainings)
            # Not before there is something to lose, a state of the first epoch; the faster one first.
            self._until(lambda: any(map(self._saved, self.beside)))
            self.cancelled, self.preempted = sorted(self.beside, key=self._saved, reverse=True)
            cluster.ask("scancel", self._training(self.cancelled)["JobId"])
            self._until(lambda: self._saved(self.preempted))
            job = self._training(self.preempted)["JobId"]
            cluster.ask("scontrol", "requeue", job)
            # SLURM lets what it preempted rest for two minutes.
            self._until(lambda: self._training(self.preempted)["Reason"] == "BeginTime")
            cluster.ask("scontrol", "update", f"JobId={job}", "StartTime=now")
            self.process.wait()
        finally:
            if self.process.poll() is None:
                self.process.kill()
                self.process.wait()
        self.jobs = cluster.jobs()

    def of_rule(self, rule: str, category: str = "") -> list[dict[str, str]]:
        """Records of a rule's or a group's submissions, in the order they were made."""
        jobs = self.jobs or self.cluster.jobs()
        kind = [job for job in jobs if job.get("Comment", "").startswith(f"rule_{rule}")]
        return sorted((job for job in kind if category in job["Comment"]), key=lambda job: int(job["JobId"]))

    def _training(self, category: str) -> dict[str, str]:
        return self.of_rule("train", category)[0]

    def _two_trainings(self) -> bool:
        running = [job for job in self.of_rule("train") if job["JobState"] == "RUNNING" and "(IDX:" in job["GRES"]]
        self.beside = {job["Comment"].rpartition("_")[2]: job["GRES"] for job in running}
        return len(running) == 2

    def _saved(self, category: str) -> bool:
        return (self.workspace.results / "inp_former" / "models" / category / "state.pt").exists()

    def _until(self, condition: Callable[[], bool]) -> None:
        """Wait for a condition as long as Snakemake runs, on however slow a machine."""
        while not condition():
            log = self.workspace.folder / "snakemake.log"
            assert self.process.poll() is None, f"{condition}\n{log.read_text()}\n{self.cluster.jobs()}"
            time.sleep(0.1)


@pytest.fixture(scope="session")
def on_slurm(cluster: Cluster, tmp_path_factory: pytest.TempPathFactory) -> SlurmRun:
    """The slurm profile, with trainings that are cancelled and preempted."""
    return SlurmRun(cluster, new_workspace(tmp_path_factory.mktemp("on_slurm")))
