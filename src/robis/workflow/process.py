"""What every process of Snakemake needs before it plans: its own settings, and paths that a shell would split."""

from __future__ import annotations

import gc
import shlex
import sys
from typing import Any

from snakemake.executors.local import Executor as LocalExecutor
from snakemake.script import ScriptBase
from snakemake_interface_executor_plugins.executors.remote import RemoteExecutor


def prepare_process() -> None:
    """Set up this process. `rules/common.smk` calls it, in the main process and in every job's."""
    # A plan of many categories makes objects that all stay: looking for garbage among them takes 7 % of its time.
    gc.set_threshold(200_000, 50, 100)
    if shlex.quote(sys.executable) != sys.executable:
        _quote_interpreter()


def _quote_interpreter() -> None:
    """Quote the path of Python in shell commands. Snakemake 9 does not, so no job starts from a folder with a blank."""
    for executor in (LocalExecutor, RemoteExecutor):
        executor.get_python_executable = _quoting(executor.get_python_executable)
    execute = ScriptBase._execute_cmd

    def quoted(self: ScriptBase, cmd: str, **values: Any) -> Any:
        if "py_exec" in values:
            values["py_exec"] = shlex.quote(values["py_exec"])
        return execute(self, cmd, **values)

    ScriptBase._execute_cmd = quoted


def _quoting(method: Any) -> Any:
    return lambda self: shlex.quote(method(self))
