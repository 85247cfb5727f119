"""What every process of Snakemake needs before it plans: settings, and quotes around paths that a shell would split."""

from __future__ import annotations

import gc
import shlex
import sys
from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

from snakemake.executors.local import Executor as LocalExecutor
from snakemake.script import ScriptBase
from snakemake_interface_executor_plugins.executors.remote import RemoteExecutor

from robis.config.settings import SharedSettings
from robis.detectors.settings import load, parse

if TYPE_CHECKING:
    from snakemake.workflow import Workflow


def prepare_process() -> None:
    """Set up this process. `rules/common.smk` calls it, in the main process and in every job's."""
    # A plan of many categories makes objects that all stay: looking for garbage among them takes 7 % of its time.
    gc.set_threshold(200_000, 50, 100)
    if shlex.quote(sys.executable) != sys.executable:
        _quote_interpreter()


def given_settings(workflow: Workflow, config: Mapping[str, Any], default: str) -> SharedSettings:
    """The settings that Snakemake is given. Raises ConfigError.

    Args:
        workflow: Snakemake's own object, which knows its command line.
        config: as Snakemake has read it. It counts only where another workflow uses this one as a module: from files,
            Snakemake converts values silently, and takes the second of two equal keys.
        default: config file where none is given.
    """
    # The main workflow is one without a parent.
    if workflow.modifier.parent_modifier is not None:
        return parse(config)
    return load(*(workflow.overwrite_configfiles or [default]), changes=workflow.config_settings.config)


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
