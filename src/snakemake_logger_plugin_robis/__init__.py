"""The logger plugin that the profiles switch on; Snakemake finds it by this module's name."""

from robis.workflow.terminal import LogHandler

__all__ = ["LogHandler"]
