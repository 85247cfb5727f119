"""profiles/slurm on a real SLURM: GPUs, retries, resuming, and the same results as anywhere else."""

from __future__ import annotations

import re

import pandas as pd
import pytest

from tests.cluster.conftest import CATEGORIES, SlurmRun, assert_same_results, needs_no_gpu
from tests.workflow.conftest import Workspace

pytestmark = pytest.mark.workflow


def resumed_at(run: SlurmRun, category: str) -> int:
    log = (run.workspace.results / "inp_former" / "logs" / "train" / f"{category}.log").read_text()
    found = re.search(r"Resuming at step (\d+)", log)
    assert found, log
    return int(found[1])


def minutes(limit: str) -> int:
    """SLURM's [days-]hours:minutes:seconds."""
    days, _, clock = limit.rpartition("-")
    hours, rest, _ = clock.split(":")
    return int(days or 0) * 24 * 60 + int(hours) * 60 + int(rest)


def test_three_categories_run_to_metrics(on_slurm: SlurmRun) -> None:
    assert on_slurm.process.returncode == 0, (on_slurm.workspace.folder / "snakemake.log").read_text()
    for category in CATEGORIES:
        file = on_slurm.workspace.results / "inp_former" / "metrics" / category / "test_public.parquet"
        assert len(pd.read_parquet(file)) == 1
    states = [job["JobState"] for job in on_slurm.jobs]
    assert sorted(set(states)) == ["CANCELLED", "COMPLETED"]
    assert states.count("CANCELLED") == 1, "the one training that the test has cancelled"


def test_small_stages_share_submissions_and_gpu_stages_have_their_own(on_slurm: SlurmRun) -> None:
    """33 jobs; index and crop, merge and binarize, scores and metrics of all three categories are one each."""
    single = len(on_slurm.of_rule("train")) + len(on_slurm.of_rule("infer")) + len(on_slurm.of_rule("refine"))
    assert single == 4 + 3 + 3
    assert len(on_slurm.jobs) == single + 3


def test_only_jobs_that_run_a_model_ask_for_a_gpu_and_each_for_one(on_slurm: SlurmRun) -> None:
    gpu_jobs = [job for rule in ("train", "infer", "refine") for job in on_slurm.of_rule(rule)]
    assert {job["TresPerJob"] for job in gpu_jobs} == {"gres:gpu:1"}
    assert {job["Partition"] for job in gpu_jobs} == {"gpu"}
    others = [job for job in on_slurm.jobs if job not in gpu_jobs]
    assert all("TresPerJob" not in job and job["Partition"] == "cpu" for job in others)


def test_two_trainings_hold_two_different_gpus_at_the_same_time(on_slurm: SlurmRun) -> None:
    assert sorted(on_slurm.beside.values()) == ["gpu:1(IDX:0)", "gpu:1(IDX:1)"]


def test_a_cancelled_training_is_submitted_again_and_resumes(on_slurm: SlurmRun) -> None:
    first, second = on_slurm.of_rule("train", on_slurm.cancelled)
    assert (first["JobState"], second["JobState"]) == ("CANCELLED", "COMPLETED")
    assert resumed_at(on_slurm, on_slurm.cancelled) > 0


def test_a_retried_job_asks_for_more_memory_and_time(on_slurm: SlurmRun) -> None:
    first, second = on_slurm.of_rule("train", on_slurm.cancelled)
    assert (first["MinMemoryNode"], second["MinMemoryNode"]) == ("16000M", "32000M")
    assert (minutes(first["TimeLimit"]), minutes(second["TimeLimit"])) == (480, 960)


def test_a_preempted_training_is_started_again_by_slurm_and_resumes(on_slurm: SlurmRun) -> None:
    (job,) = on_slurm.of_rule("train", on_slurm.preempted)
    assert (job["JobState"], job["Restarts"]) == ("COMPLETED", "1")
    assert resumed_at(on_slurm, on_slurm.preempted) > 0


@needs_no_gpu
def test_the_cluster_gives_the_bytes_of_a_local_run(local: Workspace, on_slurm: SlurmRun) -> None:
    """Also the models and masks of the trainings that were cancelled and preempted."""
    assert_same_results(local, on_slurm.workspace)
