"""What Snakemake prints on the terminal, without what it wraps around a message of robis; that message comes last.

A logger plugin of Snakemake, switched on by `logger: [robis]` in the profiles. What it does not know stays as it is.
"""

from __future__ import annotations

import re
import sys
from collections.abc import Iterator, Sequence
from contextlib import suppress
from logging import Formatter, LogRecord
from pathlib import Path

from snakemake.logging import ColorizingTextHandler
from snakemake_interface_logger_plugins.base import LogHandlerBase
from snakemake_interface_logger_plugins.common import LogEvent

from robis.config.yaml_files import read_config
from robis.errors import ConfigError

# Where rules/common.smk raises a message of robis.
_PLAN = re.compile(
    r'WorkflowError in file "[^"]*common\.smk", line \d+:\n(?P<message>.*?)(\n  File "[^"]*", line \d+, in .*)?', re.S
)
# A script of ours that has logged its error itself.
_SCRIPT = re.compile(
    r"RuleException:\nCalledProcessError .*workflow_scripts|.*\.snakemake/scripts/.* exit status 1\.", re.S
)
_NOISE = ("Shutting down, this might take some time.", "Exiting because a job execution failed.")
_END = "At least one job did not complete successfully."
_DOTTED = re.compile(r"\w+(\.\w+)+=.*", re.S)
# The last error of a log, to the end of the file.
_LOGGED = re.compile(r"^ERROR (?P<message>.*)", re.S | re.M)


class LogHandler(LogHandlerBase):
    """Prints as Snakemake does, but errors of robis as their messages alone, those of failed jobs at the end."""

    # What Snakemake asks of a handler.
    writes_to_stream = True
    writes_to_file = has_filter = has_formatter = needs_rulegraph = False

    def __post_init__(self) -> None:
        settings = self.common_settings
        self.terminal = ColorizingTextHandler(settings.nocolor, sys.stdout if settings.stdout else sys.stderr)
        self._failures: dict[int | None, str] = {}

    def setFormatter(self, fmt: Formatter | None) -> None:  # noqa: N802
        """Take Snakemake's own formatter."""
        super().setFormatter(fmt)
        self.terminal.setFormatter(fmt)

    def emit(self, record: LogRecord) -> None:
        """Print a record, change it first, or drop it."""
        try:
            text = record.getMessage()
            if self._remember(record) or text.startswith(_NOISE) or _SCRIPT.match(text):
                return
            if record.levelname == "ERROR":
                record.msg, record.args = rewritten(text, list(self._failures.values()), sys.argv[1:]), ()
            self.terminal.emit(record)
        except BrokenPipeError:
            pass  # Whoever read the output has gone, such as `head`.
        except Exception:
            self.handleError(record)

    def _remember(self, record: LogRecord) -> bool:
        """Keep what a failed job has logged, for the end; forget it when the job is repeated with success.

        Returns whether there is nothing else to print: of jobs elsewhere, such as on a cluster, Snakemake knows more.
        """
        values = vars(record)
        event = values.get("event")
        if event == LogEvent.JOB_FINISHED:
            self._failures.pop(values.get("job_id"), None)
        elif event == LogEvent.JOB_ERROR and (message := logged_error(values.get("log"))):
            self._failures[values.get("jobid")] = message
            return not values.get("aux")
        return False


def logged_error(logs: Sequence[str] | None) -> str:
    """The error that a failed job has logged itself; empty where it was killed before it could."""
    for path in logs or ():
        with suppress(OSError, UnicodeDecodeError):
            if match := _LOGGED.search(Path(path).read_text(encoding="utf-8")):
                return f"{match['message'].rstrip()}\nLog: {path}"
    return ""


def rewritten(text: str, failures: Sequence[str], arguments: Sequence[str]) -> str:
    """An error of Snakemake in the words of robis, where robis knows more about it.

    Args:
        text: what Snakemake prints.
        failures: what failed jobs have logged.
        arguments: Snakemake's own.
    """
    if match := _PLAN.fullmatch(text):
        return f"robis: {match['message']}"
    if text.endswith(_END) and failures:
        count = f"{len(failures)} jobs have failed" if len(failures) > 1 else "A job has failed"
        return "\n\n".join([f"robis: {count}. Finished results are kept.", *failures])
    if "Invalid config definition" in text:
        return next(map(_undotted, filter(_DOTTED.fullmatch, _values_of(("--config", "-C"), arguments))), text)
    if "configfile" in text or "Config file" in text:
        return next(_unreadable(_values_of(("--configfile", "--configfiles"), arguments)), text)
    return text


def _undotted(argument: str) -> str:
    """How to give a dotted key on the command line."""
    key, _, value = argument.partition("=")
    section, *parts = key.split(".")
    for part in reversed(parts):
        value = f"{{{part}: {value}}}"
    return f"robis: --config {argument}: Snakemake takes no dots in keys. Expected --config '{section}={value}'."


def _unreadable(paths: Sequence[str]) -> Iterator[str]:
    """What is wrong with config files that Snakemake could not read."""
    for path in paths:
        try:
            read_config(path)
        except ConfigError as error:
            yield f"robis: {error}"


def _values_of(names: Sequence[str], arguments: Sequence[str]) -> list[str]:
    """The values of an option with these names: the words up to the next option, or the one after `=`."""
    values: list[str] = []
    is_open = False
    for argument in arguments:
        name, _, value = argument.partition("=")
        if argument.startswith("-"):
            is_open = name in names and not value
            values += [value] if name in names and value else []
        elif is_open:
            values.append(argument)
    return values
