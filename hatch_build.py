"""Put the workflow into the wheel, so that `robis run` works without a checkout (robis.workflow.home)."""

from __future__ import annotations

from typing import Any

from hatchling.builders.hooks.plugin.interface import BuildHookInterface

FILES = ("Snakefile", "rules", "workflow_scripts", "profiles", "config")


class WorkflowFiles(BuildHookInterface):
    """Called by hatchling for each wheel."""

    def initialize(self, version: str, build_data: dict[str, Any]) -> None:
        """Add the files; not to an editable install, which uses those of the checkout."""
        if version == "standard":
            build_data["force_include"].update({name: f"robis/workflow_files/{name}" for name in FILES})
