"""What every process of Snakemake needs before it plans: settings, and quotes around paths that a shell would split."""

from __future__ import annotations

import gc
import shlex
import sys
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

from snakemake.executors.local import Executor as LocalExecutor
from snakemake.script import ScriptBase
from snakemake_interface_executor_plugins.executors.remote import RemoteExecutor

from robis.config.settings import SharedSettings
from robis.detectors.settings import load, parse
from robis.workflow.checks import plan_warnings
from robis.workflow.plan_file import read_plan, write_plan

if TYPE_CHECKING:
    from snakemake.workflow import Workflow

    from robis.workflow.project import Project


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


def prepare_plan(project: Project, workflow: Workflow) -> list[str]:
    """Check a plan; the sentences to warn of. A job that may not see the data set gets its plan from the main process.

    Raises ConfigError, DataError or WeightsError, see `check_plan`.
    """
    archive = project.settings.dataset.archive
    if archive and workflow.remote_exec:
        project.plan = read_plan(project)
    if project.plan.categories:
        return []
    # A data set that is not there is the first thing to say.
    _ = project.categories
    warnings = plan_warnings(project)
    if archive and workflow.is_main_process:
        _share_plan(project, workflow)
    return warnings


def _share_plan(project: Project, workflow: Workflow) -> None:
    """Keep the jobs that read the data set in the main process, and send others what is known of it."""
    local = ["index", "archive", "copy_file", *(["report"] if project.settings.report.compare else [])]
    workflow.localrules(*local)
    # A rule of a group is submitted with it.
    groups = workflow.group_settings
    kept = {rule: group for rule, group in groups.overwrite_groups.items() if rule not in local}
    groups.overwrite_groups = kept
    if workflow.storage_settings.default_storage_provider == "s3":
        _look_again_for_folders(workflow.storage_registry.default_storage_provider.get_storage_object_cls())
    plan, write_sources = str(write_plan(project)), workflow.write_source_archive

    def write_with_plan(path: Path) -> None:
        sources = workflow.dag.get_sources
        workflow.dag.get_sources = lambda: sources() | {plan}
        write_sources(path)

    # What Snakemake sends to machines without a shared file system.
    workflow.write_source_archive = write_with_plan


def _look_again_for_folders(stored: Any) -> None:
    """Find folders in S3 that a job on another machine has written: the plugin (0.3.6) remembers that they are missing.

    Args:
        stored: its class of files and folders.
    """
    exists = stored.exists

    def exists_by_now(self: Any) -> bool:
        self._is_dir = self._is_dir or None
        return exists(self)

    stored.exists = exists_by_now


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
