"""A real SLURM of one node on this machine: no systemd, no cgroups, no accounting; GPUs that do not exist."""

from __future__ import annotations

import contextlib
import os
import re
import shutil
import socket
import stat
import subprocess
import time
from collections.abc import Callable
from pathlib import Path

PROGRAMS = ("munged", "slurmctld", "slurmd", "sbatch", "srun", "scontrol", "squeue", "scancel")
SEARCHED = f"{os.environ.get('PATH', '')}:/usr/sbin:/sbin"

CONFIG = """\
ClusterName=robis
SlurmctldHost={node}(127.0.0.1)
SlurmctldPort={controller_port}
SlurmdPort={node_port}
SlurmUser=root
SlurmdUser=root
AuthType=auth/munge
AuthInfo=socket={folder}/munge.socket
SlurmctldPidFile={folder}/slurmctld.pid
SlurmdPidFile={folder}/slurmd.pid
SlurmctldLogFile={folder}/slurmctld.log
SlurmdLogFile={folder}/slurmd.log
StateSaveLocation={folder}/state
SlurmdSpoolDir={folder}/spool
# No systemd, no cgroups: memory is scheduled but not enforced.
ProctrackType=proctrack/linuxproc
TaskPlugin=task/none
MpiDefault=none
# No database: squeue and scontrol know finished jobs for MinJobAge seconds.
AccountingStorageType=accounting_storage/none
JobAcctGatherType=jobacct_gather/none
JobCompType=jobcomp/none
MinJobAge=36000
# CPUs, memory and GPUs are consumed; the node may claim more than the machine has.
SelectType=select/cons_tres
SelectTypeParameters=CR_CPU_Memory
SlurmdParameters=config_overrides
GresTypes=gpu
EnforcePartLimits=ALL
SchedulerParameters=batch_sched_delay=0,sched_interval=1,bf_interval=1
KillWait=30
ReturnToService=2
NodeName={node} NodeAddr=127.0.0.1 CPUs=64 RealMemory=512000 Gres=gpu:{gpus} State=UNKNOWN
PartitionName=cpu Nodes={node} Default=YES MaxTime=INFINITE State=UP
PartitionName=gpu Nodes={node} MaxTime=INFINITE State=UP
"""
# Snakemake's options for it: no accounting, a local disk.
NO_ACCOUNTING = ["--slurm-status-command=squeue", "--slurm-init-seconds-before-status-checks=1", "--latency-wait=10"]
# Snakemake as a program: the plugin looks at jobs 10 s later each time that none has ended, but these take seconds.
LOOK_EVERY_SECOND = """
from snakemake.cli import main
from snakemake_executor_plugin_slurm import Executor

Executor.next_seconds_between_status_checks = property(lambda self: 1, lambda self, seconds: None)
main()
"""


def missing() -> str | None:
    """Why SLURM cannot be started here; None if it can."""
    absent = [program for program in PROGRAMS if shutil.which(program, path=SEARCHED) is None]
    if absent:
        return f"SLURM is not installed (no {', '.join(absent)}); `make cluster` does it, as root on Debian or Ubuntu"
    if os.geteuid() != 0:
        return "a SLURM of one's own needs root"
    return None


class Cluster:
    """A SLURM in a folder of its own, on ports of its own, so that it disturbs no other on the machine."""

    def __init__(self, folder: Path, gpus: int = 2) -> None:
        self.folder = folder
        self.gpus = gpus
        self._daemons: list[subprocess.Popen[bytes]] = []

    @property
    def environment(self) -> dict[str, str]:
        """What clients need to find this cluster."""
        return {"SLURM_CONF": str(self.folder / "slurm.conf"), "PATH": f"{self.folder}/bin:{SEARCHED}"}

    def start(self) -> None:
        """Start the daemons and wait until the node takes jobs. They end with the process that starts them."""
        self._configure()
        key, socket_file = self.folder / "munge.key", self.folder / "munge.socket"
        key.write_bytes(os.urandom(1024))
        key.chmod(0o400)
        self._launch(
            *("munged", "--foreground", "--force", f"--key-file={key}", f"--socket={socket_file}"),
            *(f"--{name}-file={self.folder}/munged.{name}" for name in ("pid", "seed", "log")),
        )
        self._wait(socket_file.exists, "munged")
        self._launch("slurmctld", "-D", "-c", "-f", str(self.folder / "slurm.conf"))
        self._launch("slurmd", "-D", "-f", str(self.folder / "slurm.conf"))
        self._wait(lambda: "idle" in self.ask("sinfo", "-h", "-o", "%T", ok=False), "slurmd")

    def stop(self) -> None:
        """Cancel all jobs, wait for their ends, and end the daemons."""
        with contextlib.suppress(AssertionError, subprocess.TimeoutExpired):
            jobs = self.ask("squeue", "-h", "-o", "%A").split()
            if jobs:
                self.ask("scancel", *jobs)
            deadline = time.monotonic() + 40
            while self.ask("squeue", "-h", "-o", "%A").split() and time.monotonic() < deadline:
                time.sleep(0.2)
        for daemon in reversed(self._daemons):
            daemon.terminate()
            try:
                daemon.wait(timeout=15)
            except subprocess.TimeoutExpired:
                daemon.kill()
                daemon.wait()
        self._daemons.clear()

    def ask(self, *command: str, ok: bool = True) -> str:
        """What a client of this cluster prints."""
        done = subprocess.run(
            command, capture_output=True, text=True, timeout=30, check=False, env=os.environ | self.environment
        )
        assert done.returncode == 0 or not ok, f"{command}: {done.stderr}"
        return done.stdout

    def jobs(self) -> list[dict[str, str]]:
        """The scheduler's record of every job: the fields of `scontrol --details show job`."""
        listing = self.ask("scontrol", "--details", "--oneliner", "show", "job", ok=False)
        return [dict(re.findall(r"(\S+?)=(\S*)", line)) for line in listing.splitlines() if line.startswith("JobId=")]

    def _configure(self) -> None:
        node = socket.gethostname().partition(".")[0]
        for name in ("bin", "state", "spool"):
            (self.folder / name).mkdir()
        controller_port, node_port = _free_ports(2)
        names = {"folder": self.folder, "node": node, "gpus": self.gpus}
        ports = {"controller_port": controller_port, "node_port": node_port}
        (self.folder / "slurm.conf").write_text(CONFIG.format(**names, **ports))
        (self.folder / "gres.conf").write_text(f"NodeName={node} Name=gpu File={','.join(self._devices())}\n")
        # The step plugin of Snakemake drops SLURM_CONF before it calls srun: this one has it built in.
        real = shutil.which("srun", path=SEARCHED)
        srun = self.folder / "bin" / "srun"
        srun.write_text(f'#!/bin/sh\nSLURM_CONF={self.folder}/slurm.conf exec {real} "$@"\n')
        srun.chmod(0o755)

    def _devices(self) -> list[str]:
        """One character device per GPU: SLURM wants a file for each and numbers CUDA_VISIBLE_DEVICES by them."""
        devices = [self.folder / f"gpu{number}" for number in range(self.gpus)]
        try:
            for device in devices:
                os.mknod(device, 0o666 | stat.S_IFCHR, os.stat("/dev/null").st_rdev)
        except OSError:
            # Not allowed in some containers: any devices that are there do.
            devices = [Path("/dev") / name for name in ("null", "zero", "full", "random")][: self.gpus]
        return list(map(str, devices))

    def _launch(self, *command: str) -> None:
        # No process group of ours, so that Ctrl-C reaches the tests first; no daemon outlives them, even if they die.
        with open(self.folder / f"{command[0]}.out", "wb") as output:
            self._daemons.append(
                subprocess.Popen(
                    ["setpriv", "--pdeathsig", "TERM", *command],
                    stdin=subprocess.DEVNULL,
                    stdout=output,
                    stderr=subprocess.STDOUT,
                    start_new_session=True,
                    env=os.environ | self.environment,
                )
            )

    def _wait(self, condition: Callable[[], bool], what: str) -> None:
        while not condition():
            dead = [daemon.args for daemon in self._daemons if daemon.poll() is not None]
            if dead:
                logs = sorted([*self.folder.glob("*.log"), *self.folder.glob("*.out")])
                said = "\n".join(f"{log.name}: {log.read_text(errors='replace')[-1500:]}" for log in logs)
                raise AssertionError(f"{what} did not start (ended: {dead}).\n{said}")
            time.sleep(0.1)


def _free_ports(count: int) -> list[int]:
    with contextlib.ExitStack() as stack:
        sockets = [stack.enter_context(socket.socket()) for _ in range(count)]
        for one in sockets:
            one.bind(("127.0.0.1", 0))
        return [one.getsockname()[1] for one in sockets]
