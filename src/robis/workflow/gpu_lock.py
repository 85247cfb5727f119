"""Which GPU a job computes on: jobs of one machine, of one Snakemake or several, never share one by accident.

Snakemake counts GPUs but does not hand them out, so a job takes its own: it locks parts of a device and makes that
device the only one it sees. The locks are the kernel's (flock): a job that crashes or is killed frees its GPU at once.
"""

from __future__ import annotations

import logging
import os
import re
import shutil
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator, Mapping
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from pathlib import Path

from filelock import FileLock, Timeout

from robis.errors import ConfigError
from robis.io.names import expanded

logger = logging.getLogger(__name__)

# A device is locked in parts: a job that shares it with k - 1 others takes PARTS / k of them.
PARTS = 12
SHARES = tuple(k for k in range(1, PARTS + 1) if PARTS % k == 0)


@dataclass(frozen=True)
class Gpu:
    """One device: what CUDA_VISIBLE_DEVICES calls it, and what its locks do, however it was called."""

    name: str
    key: str


@contextmanager
def gpu_of_job(wanted: int, jobs_per_gpu: int = 1, *, poll: float = 0.5) -> Iterator[str | None]:
    """Hold a free GPU while the block runs and make it the only one that CUDA sees; wait for one if all are taken.

    Nothing happens, and None is yielded, if no GPU is wanted, if there is none, or if a scheduler has given the job
    its one device already.

    Args:
        wanted: GPUs that the job asks for; one is taken for any number above 0.
        jobs_per_gpu: how many jobs like this one may use a GPU at the same time; one of `SHARES`.
        poll: seconds between two looks at the locks.

    Raises ConfigError for another `jobs_per_gpu`, or if the locks cannot be written.
    """
    if jobs_per_gpu not in SHARES:
        raise ConfigError(f"gpu_jobs: found {jobs_per_gpu}; expected one of {', '.join(map(str, SHARES))}.")
    gpus = visible_gpus() if wanted > 0 else []
    if not gpus or ("SLURM_JOB_ID" in os.environ and len(gpus) == 1):
        yield None
        return
    torch = sys.modules.get("torch")
    if torch is not None and torch.cuda.is_initialized():
        raise RuntimeError("CUDA was initialized before the job had chosen its GPU")
    folder = _lock_folder()
    with ExitStack() as held:
        gpu = _take(gpus, PARTS // jobs_per_gpu, folder, held)
        if gpu is None:
            names = ", ".join(gpu.name for gpu in gpus)
            logger.info("Waiting for a GPU: all of %s are taken (locks in %s).", names, folder)
        while gpu is None:
            time.sleep(poll)
            gpu = _take(gpus, PARTS // jobs_per_gpu, folder, held)
        logger.info("Using GPU %s.", gpu.name)
        before = os.environ.get("CUDA_VISIBLE_DEVICES")
        os.environ["CUDA_VISIBLE_DEVICES"] = gpu.name
        try:
            yield gpu.name
        finally:
            if before is None:
                del os.environ["CUDA_VISIBLE_DEVICES"]
            else:
                os.environ["CUDA_VISIBLE_DEVICES"] = before


def visible_gpus(environment: Mapping[str, str] = os.environ) -> list[Gpu]:
    """The GPUs this process may use: those of the machine, or what CUDA_VISIBLE_DEVICES names of them.

    Names are indices, UUIDs or the beginning of one; as with CUDA, the first unknown name ends the list. ROBIS_GPUS
    ("0,1", names of any kind) says what the machine has where nvidia-smi cannot.
    """
    chosen = environment.get("CUDA_VISIBLE_DEVICES")
    if chosen is not None and not chosen.strip():
        return []
    given = environment.get("ROBIS_GPUS")
    machine = _nvidia_smi() if given is None else _split(given)
    if chosen is None:
        return [Gpu(name, name) for name in machine]
    gpus: dict[str, Gpu] = {}
    for name in _split(chosen):
        key = _key(name, machine)
        if key is None:
            break
        gpus.setdefault(key, Gpu(name, key))
    if not gpus and machine and not chosen.strip().startswith("-"):
        logger.warning("CUDA_VISIBLE_DEVICES=%s names none of %s: the job computes without a GPU.", chosen, machine)
    return list(gpus.values())


def _key(name: str, machine: list[str]) -> str | None:
    """What the machine calls the device that CUDA_VISIBLE_DEVICES calls `name`; None if it has no such device."""
    if name.isdigit() and int(name) < len(machine):
        return machine[int(name)]
    known = [gpu for gpu in machine if gpu.startswith(name)]
    if known or machine:
        return known[0] if known else None
    return None if name.startswith("-") else name


def _split(names: str) -> list[str]:
    return [name.strip() for name in names.split(",") if name.strip()]


def _nvidia_smi() -> list[str]:
    """UUIDs of the machine's GPUs in the order of its PCI bus, or of the instances that one is divided into (MIG)."""
    program = shutil.which("nvidia-smi")
    if program is None:
        return []
    try:
        done = subprocess.run([program, "-L"], capture_output=True, text=True, timeout=60, check=True)
    except (OSError, subprocess.SubprocessError) as error:
        logger.warning("nvidia-smi lists no GPUs (%s): jobs do not look which one is free.", error)
        return []
    return parse_listing(done.stdout)


def parse_listing(text: str) -> list[str]:
    """UUIDs in what `nvidia-smi -L` prints: of GPUs, or of their MIG instances where they have some."""
    gpus: list[list[str]] = []
    for kind, rest in re.findall(r"\(UUID: (GPU|MIG)-([^)]+)\)", text):
        if kind == "GPU" or not gpus:
            gpus.append([])
        gpus[-1].append(f"{kind}-{rest}")
    return [name for gpu, *instances in gpus for name in instances or [gpu]]


def _lock_folder() -> Path:
    """A folder that all jobs of a user on this machine share, and no other machine: never one on network storage."""
    chosen = os.environ.get("ROBIS_GPU_LOCKS")
    # Inside one SLURM job its devices are its own, and may have the same names as those of another.
    job = os.environ.get("SLURM_JOB_ID", "")
    # Windows has no user ids; its temporary folder is the user's own.
    user = os.getuid() if hasattr(os, "getuid") else "all"
    folder = expanded(chosen or Path(tempfile.gettempdir()) / f"robis-gpus-{user}") / job
    try:
        folder.mkdir(mode=0o700, parents=True, exist_ok=True)
        if not os.access(folder, os.W_OK | os.X_OK):
            raise PermissionError(f"{folder} cannot be written")
    except OSError as error:
        raise ConfigError(
            f"The locks of GPUs cannot be kept: {error}. Set ROBIS_GPU_LOCKS to a folder on a local disk "
            f"that every job on this machine can write to."
        ) from error
    return folder


def _take(gpus: list[Gpu], parts: int, folder: Path, held: ExitStack) -> Gpu | None:
    """Lock parts of the device with the most of them free, of the first of several; None if no device has enough."""
    # One at a time, so that two jobs do not each lock half of what both need.
    with FileLock(folder / "choosing.lock", mode=0o666).acquire(poll_interval=0.01):
        free = {gpu: _free_parts(gpu, folder) for gpu in gpus}
        gpu = max(gpus, key=lambda gpu: len(free[gpu]))
        if len(free[gpu]) < parts:
            return None
        for file in free[gpu][:parts]:
            held.enter_context(FileLock(file, timeout=0, mode=0o666))
        return gpu


def _free_parts(gpu: Gpu, folder: Path) -> list[Path]:
    free = []
    for part in range(PARTS):
        file = folder / f"{re.sub(r'[^A-Za-z0-9-]', '_', gpu.key)}.{part}.lock"
        try:
            with FileLock(file, timeout=0, mode=0o666):
                free.append(file)
        except Timeout:
            continue
    return free
