"""An executor of Snakemake whose jobs run in empty folders, as on machines that share no file system with it."""

from __future__ import annotations

import os
import shutil
import subprocess
import tempfile
from collections.abc import AsyncGenerator
from typing import Any

from snakemake_interface_executor_plugins.executors.base import SubmittedJobInfo
from snakemake_interface_executor_plugins.executors.remote import RemoteExecutor
from snakemake_interface_executor_plugins.settings import CommonSettings

common_settings = CommonSettings(
    non_local_exec=True,
    implies_no_shared_fs=True,
    job_deploy_sources=True,
    auto_deploy_default_storage_provider=False,
)


class Executor(RemoteExecutor):
    """Starts each job in an empty folder, with an environment that names no other but that of the library."""

    def run_job(self, job: Any) -> None:
        folder = tempfile.mkdtemp(prefix="machine-")
        process = subprocess.Popen(
            ["bash", "-c", self.format_job_exec(job)],
            cwd=folder,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
            env={**os.environ, "HOME": folder},
        )
        aux = {"process": process, "folder": folder}
        self.report_job_submission(SubmittedJobInfo(job, external_jobid=str(process.pid), aux=aux))

    async def check_active_jobs(self, active_jobs: list[SubmittedJobInfo]) -> AsyncGenerator[SubmittedJobInfo]:
        for info in active_jobs:
            process = info.aux["process"]
            if process.poll() is None:
                yield info
                continue
            output = process.stdout.read()
            shutil.rmtree(info.aux["folder"], ignore_errors=True)
            if process.returncode == 0:
                self.report_job_success(info)
            else:
                self.report_job_error(info, msg=output)

    def cancel_jobs(self, active_jobs: list[SubmittedJobInfo]) -> None:
        for info in active_jobs:
            info.aux["process"].terminate()
