"""GPUs of jobs: which are visible, that no job takes another's, and that a killed holder frees its own."""

from __future__ import annotations

import logging
import os
import subprocess
import sys
import textwrap
from collections import Counter
from pathlib import Path

import pytest

from robis.errors import ConfigError
from robis.workflow.gpu_lock import Gpu, gpu_of_job, parse_listing, visible_gpus

LISTING = """\
GPU 0: NVIDIA A100-SXM4-40GB (UUID: GPU-5d1c2ab0-1111-2222-3333-000000000000)
  MIG 3g.20gb     Device  0: (UUID: MIG-aaaa1111-0000-0000-0000-000000000000)
  MIG 3g.20gb     Device  1: (UUID: MIG-bbbb2222-0000-0000-0000-000000000000)
GPU 1: NVIDIA A100-SXM4-40GB (UUID: GPU-9e8f7d60-4444-5555-6666-000000000000)
"""

# Forks jobs that write down when they have which GPU, and kills one of them while it has it.
WORKSTATION = """
import os, signal, sys, time
from pathlib import Path
from robis.workflow.gpu_lock import gpu_of_job

record, jobs, victim = Path(sys.argv[1]), [int(share) for share in sys.argv[2].split(",")], int(sys.argv[3])

def write(what, number, gpu):
    with open(record, "a") as stream:
        stream.write(f"{time.monotonic_ns()} {what} {number} {gpu}\\n")

def work(number):
    with gpu_of_job(1, jobs[number], poll=0.01) as gpu:
        assert os.environ["CUDA_VISIBLE_DEVICES"] == gpu
        write("start", number, gpu)
        if number == victim:
            signal.pause()
        time.sleep(0.1 + number % 3 * 0.03)
        write("end", number, gpu)

def lines():
    return [line.split() for line in record.read_text().splitlines()] if record.exists() else []

children = {}
for number in range(len(jobs)):
    children[number] = os.fork()
    if not children[number]:
        work(number)
        os._exit(0)
if victim >= 0:
    while not (held := [gpu for _, _, number, gpu in lines() if number == str(victim)]):
        assert os.waitpid(children[victim], os.WNOHANG) == (0, 0), "the job to kill has ended"
        time.sleep(0.005)
    write("end", victim, held[0])
    os.kill(children[victim], signal.SIGKILL)
for number, child in children.items():
    assert (os.waitpid(child, 0)[1] == 0) == (number != victim), number
"""


@pytest.fixture(autouse=True)
def machine(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """A workstation of four simulated GPUs with locks of its own."""
    for name in ("CUDA_VISIBLE_DEVICES", "SLURM_JOB_ID"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setenv("ROBIS_GPUS", "0,1,2,3")
    monkeypatch.setenv("ROBIS_GPU_LOCKS", str(tmp_path / "locks"))


def workstation(tmp_path: Path, shares: list[int], victim: int = -1) -> list[tuple[str, int, str]]:
    """Run one job per share at the same time; (start or end, job, GPU) of all of them in the order it happened."""
    record = tmp_path / "record"
    command = [sys.executable, "-c", textwrap.dedent(WORKSTATION), str(record), ",".join(map(str, shares)), str(victim)]
    subprocess.run(command, check=True)
    lines = sorted(line.split() for line in record.read_text().splitlines())
    return [(what, int(number), gpu) for _, what, number, gpu in lines]


def most_at_once(events: list[tuple[str, int, str]]) -> dict[str, int]:
    """The largest number of jobs that each GPU had at one time."""
    now: Counter[str] = Counter()
    most: Counter[str] = Counter()
    for what, _, gpu in events:
        now[gpu] += 1 if what == "start" else -1
        most[gpu] = max(most[gpu], now[gpu])
    return dict(most)


@pytest.mark.parametrize("limit", [1, 2])
def test_forty_jobs_never_exceed_a_device_and_none_is_lost_with_a_killed_holder(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, limit: int
) -> None:
    events = workstation(tmp_path, [limit] * 40, victim=5)
    most = most_at_once(events)
    assert sorted(most) == ["0", "1", "2", "3"]
    assert max(most.values()) <= limit
    assert sorted(job for what, job, _ in events if what == "end") == list(range(40))
    of_killed = next(gpu for what, job, gpu in events if (what, job) == ("end", 5))
    monkeypatch.setenv("ROBIS_GPUS", of_killed)
    with gpu_of_job(1, 1, poll=0.01) as gpu:
        assert gpu == of_killed, "its GPU is free, for one that wants it alone, too"


def test_a_job_alone_on_its_device_is_alone_among_jobs_that_share(tmp_path: Path) -> None:
    shares = [1, 3] * 15
    events = workstation(tmp_path, shares)
    now: dict[str, list[int]] = {gpu: [] for gpu in "0123"}
    for what, job, gpu in events:
        now[gpu].append(job) if what == "start" else now[gpu].remove(job)
        assert len(now[gpu]) <= min((shares[one] for one in now[gpu]), default=0)
    assert sorted(job for what, job, _ in events if what == "end") == list(range(30))


def two_jobs(devices: str, monkeypatch: pytest.MonkeyPatch) -> tuple[str | None, str | None]:
    """The GPUs of two jobs that may share one, both of which see these devices."""
    monkeypatch.setenv("CUDA_VISIBLE_DEVICES", devices)
    with gpu_of_job(1, 2) as first:
        monkeypatch.setenv("CUDA_VISIBLE_DEVICES", devices)
        with gpu_of_job(1, 2) as second:
            return first, second


def test_jobs_spread_over_devices_before_they_share_one(monkeypatch: pytest.MonkeyPatch) -> None:
    assert two_jobs("1,3", monkeypatch) == ("1", "3")
    assert two_jobs("2", monkeypatch) == ("2", "2")


def test_the_choice_is_undone_after_the_job(monkeypatch: pytest.MonkeyPatch) -> None:
    with gpu_of_job(1) as gpu:
        assert os.environ["CUDA_VISIBLE_DEVICES"] == gpu == "0"
    assert "CUDA_VISIBLE_DEVICES" not in os.environ
    monkeypatch.setenv("CUDA_VISIBLE_DEVICES", "3,1")
    with gpu_of_job(1) as gpu:
        assert os.environ["CUDA_VISIBLE_DEVICES"] == gpu == "3"
    assert os.environ["CUDA_VISIBLE_DEVICES"] == "3,1"


def test_a_waiting_job_says_so(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("ROBIS_GPUS", "7")
    waiting = (
        "import logging; logging.basicConfig(level=logging.INFO); from robis.workflow.gpu_lock import gpu_of_job\n"
    )
    waiting += "with gpu_of_job(1, poll=0.01): pass"
    with gpu_of_job(1):
        process = subprocess.Popen([sys.executable, "-c", waiting], stderr=subprocess.PIPE, text=True)
        line = process.stderr.readline()
        assert "Waiting for a GPU: all of 7 are taken" in line
        assert str(tmp_path / "locks") in line
        assert process.poll() is None
    assert "Using GPU 7" in process.communicate()[1]
    assert process.returncode == 0


@pytest.mark.parametrize("environment", [{"ROBIS_GPUS": ""}, {"CUDA_VISIBLE_DEVICES": ""}, {}])
def test_without_a_gpu_or_a_wish_for_one_nothing_happens(
    environment: dict[str, str], monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    for name, value in environment.items():
        monkeypatch.setenv(name, value)
    before = dict(os.environ)
    with gpu_of_job(1 if environment else 0) as gpu:
        assert gpu is None
        assert dict(os.environ) == before
    assert not (tmp_path / "locks").exists()


def test_the_scheduler_of_a_cluster_has_chosen_already(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setenv("SLURM_JOB_ID", "12")
    monkeypatch.setenv("CUDA_VISIBLE_DEVICES", "2")
    with gpu_of_job(1) as gpu:
        assert gpu is None
        assert os.environ["CUDA_VISIBLE_DEVICES"] == "2"
    assert not (tmp_path / "locks").exists()
    assert two_jobs("2,3", monkeypatch) == ("2", "3"), "one allocation in which Snakemake runs several jobs"
    assert (tmp_path / "locks" / "12").is_dir()


@pytest.mark.parametrize(
    ("machine", "chosen", "expected"),
    [
        ("0,1,2,3", None, ["0", "1", "2", "3"]),
        ("0,1,2,3", "2, 0", ["2", "0"]),
        ("0,1,2,3", "1,1", ["1"]),
        ("0,1,2,3", "1,4,0", ["1"]),
        ("0,1,2,3", "0,-1,2", ["0"]),
        ("0,1,2,3", "-1", []),
        ("0,1,2,3", "", []),
        ("GPU-5d1c,GPU-9e8f", "1", ["GPU-9e8f"]),
        ("GPU-5d1c,GPU-9e8f", "GPU-9e", ["GPU-9e8f"]),
        ("GPU-5d1c,GPU-9e8f", "GPU-77,0", []),
        ("", "0,GPU-9e", ["0", "GPU-9e"]),
        ("", "-1", []),
        ("", None, []),
    ],
)
def test_visible_gpus(machine: str, chosen: str | None, expected: list[str]) -> None:
    """One device has one lock, whatever it is called; CUDA is told the name that was given."""
    environment = {"ROBIS_GPUS": machine} | ({} if chosen is None else {"CUDA_VISIBLE_DEVICES": chosen})
    found = visible_gpus(environment)
    assert [gpu.key for gpu in found] == expected
    assert {gpu.name for gpu in found} <= {name.strip() for name in (machine if chosen is None else chosen).split(",")}


def test_the_listing_of_nvidia_smi(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    expected = [
        "MIG-aaaa1111-0000-0000-0000-000000000000",
        "MIG-bbbb2222-0000-0000-0000-000000000000",
        "GPU-9e8f7d60-4444-5555-6666-000000000000",
    ]
    assert parse_listing(LISTING) == expected
    assert parse_listing("No devices were found\n") == []
    program = tmp_path / "nvidia-smi"
    program.write_text(f"#!/bin/sh\ntest \"$1\" = -L && printf '%s' '{LISTING}'\n")
    program.chmod(0o755)
    monkeypatch.setenv("PATH", f"{tmp_path}:{os.environ['PATH']}")
    assert visible_gpus({}) == [Gpu(name, name) for name in expected]


def test_a_broken_nvidia_smi_is_a_warning(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    program = tmp_path / "nvidia-smi"
    program.write_text("#!/bin/sh\nexit 9\n")
    program.chmod(0o755)
    monkeypatch.setenv("PATH", f"{tmp_path}:{os.environ['PATH']}")
    with caplog.at_level(logging.WARNING):
        assert visible_gpus({}) == []
    assert "exit status 9" in caplog.text


@pytest.mark.parametrize("share", [0, 5, 13])
def test_a_share_that_cannot_be_kept_is_named(share: int) -> None:
    with (
        pytest.raises(ConfigError, match=rf"gpu_jobs: found {share}; expected one of 1, 2, 3, 4, 6, 12\."),
        gpu_of_job(1, share),
    ):
        pass


def test_a_lock_folder_that_cannot_be_made_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("ROBIS_GPU_LOCKS", "/dev/null/locks")
    with pytest.raises(ConfigError, match=r"/dev/null/locks.*Set ROBIS_GPU_LOCKS"), gpu_of_job(1):
        pass


def test_no_module_asks_for_gpus_when_it_is_imported() -> None:
    """A script imports its stage before the job has chosen a GPU; CUDA reads its environment once."""
    code = """
    import importlib, pkgutil, torch, robis
    def too_early(*arguments, **keywords):
        raise SystemExit("CUDA was asked for at import")
    torch.cuda.is_available = torch.cuda.device_count = torch.cuda._lazy_init = too_early
    for module in pkgutil.walk_packages(robis.__path__, "robis."):
        importlib.import_module(module.name)
    """
    subprocess.run([sys.executable, "-c", textwrap.dedent(code)], check=True)
