"""What the terminal shows of Snakemake's messages: those of robis alone, and of failed jobs at the end."""

from __future__ import annotations

import io
import logging
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
from snakemake.logging import DefaultFormatter
from snakemake_interface_logger_plugins.common import LogEvent

from robis.workflow.terminal import LogHandler, rewritten

END = "WorkflowError:\nAt least one job did not complete successfully."
MESSAGE = "a.yaml cannot be used:\n  merge.scale: found 0; expected a number above 0 and at most 1."


@pytest.fixture
def handler() -> LogHandler:
    handler = LogHandler(SimpleNamespace(nocolor=True, stdout=False), None)  # type: ignore[arg-type]
    handler.setFormatter(DefaultFormatter(set(), False))
    handler.terminal.setStream(io.StringIO())
    return handler


def printed(handler: LogHandler, *records: logging.LogRecord) -> str:
    for record in records:
        handler.emit(record)
    stream = handler.terminal.stream
    assert isinstance(stream, io.StringIO)
    return stream.getvalue()


def record(text: str, level: int = logging.ERROR, **values: Any) -> logging.LogRecord:
    made = logging.LogRecord("snakemake.logging", level, "", 0, text, (), None)
    vars(made).update(values)
    return made


def failure(jobid: int, log: Path, **aux: str) -> logging.LogRecord:
    values = {"rule_name": "train", "rule_msg": None, "msg": None, "input": [], "output": ["a"], "conda_env": None}
    return record("", event=LogEvent.JOB_ERROR, jobid=jobid, log=[str(log)], shellcmd=None, aux=aux, **values)


def log_of(folder: Path, name: str, text: str) -> Path:
    (folder / name).write_text(text, encoding="utf-8")
    return folder / name


def test_an_error_while_planning_is_its_message_alone() -> None:
    wrapped = f'WorkflowError in file "/a/rules/common.smk", line 41:\n{MESSAGE}'
    assert rewritten(wrapped, [], []) == f"robis: {MESSAGE}"
    assert rewritten(f'{wrapped}\n  File "/a/rules/common.smk", line 41, in <module>', [], []) == f"robis: {MESSAGE}"
    other = 'WorkflowError in file "/a/rules/train.smk", line 4:\nno such thing'
    assert rewritten(other, [], []) == other


def test_errors_of_jobs_come_last(handler: LogHandler, tmp_path: Path) -> None:
    logs = [
        log_of(tmp_path, "a.log", "INFO train nut: at work\nERROR train nut: the loss is nan.\nLower the rate.\n"),
        log_of(tmp_path, "b.log", "ERROR train bolt: the disk is full.\n"),
    ]
    command = 'RuleException:\nCalledProcessError in file "/rules/train.smk", line 22:\nCommand \'set -euo pipefail; '
    output = printed(
        handler,
        record(f"{command}python /x/.snakemake/scripts/tmp1.train.py' returned non-zero exit status 1."),
        failure(1, logs[0]),
        failure(2, logs[1]),
        record("Shutting down, this might take some time.", logging.INFO),
        record("Exiting because a job execution failed. Look above for error messages"),
        record("Elapsed time: 1:00", logging.INFO),
        record(END),
    )
    assert output == (
        "Elapsed time: 1:00\n"
        "robis: 2 jobs have failed. Finished results are kept.\n\n"
        f"train nut: the loss is nan.\nLower the rate.\nLog: {logs[0]}\n\n"
        f"train bolt: the disk is full.\nLog: {logs[1]}\n"
    )


def test_a_job_that_was_killed_or_ran_on_a_cluster_keeps_what_snakemake_says(
    handler: LogHandler, tmp_path: Path
) -> None:
    killed = "CalledProcessError:\nCommand '.snakemake/scripts/tmp1.train.py' died with <Signals.SIGKILL: 9>."
    silent = log_of(tmp_path, "a.log", "INFO train nut: at work\n")
    output = printed(handler, record(killed), failure(1, silent), failure(2, tmp_path / "absent.log"), record(END))
    assert "SIGKILL" in output and output.count("Error in rule train:") == 2 and output.endswith(f"{END}\n")
    remote = log_of(tmp_path, "b.log", "ERROR train nut: no GPU.\n")
    output = printed(handler, failure(3, remote, external_jobid="77"), record(END))
    assert "external_jobid: 77" in output
    assert output.endswith(
        f"robis: A job has failed. Finished results are kept.\n\ntrain nut: no GPU.\nLog: {remote}\n"
    )


def test_a_job_that_succeeds_when_repeated_is_not_reported(handler: LogHandler, tmp_path: Path) -> None:
    log = log_of(tmp_path, "a.log", "ERROR train nut: no GPU.\n")
    finished = record("Finished jobid: 1 (Rule: train)", logging.INFO, event=LogEvent.JOB_FINISHED, job_id=1)
    assert printed(handler, failure(1, log), finished, record(END)).endswith(END + "\n")


@pytest.mark.parametrize(
    ("argument", "expected"),
    [
        ("binarize.std_factor=2.5", "--config 'binarize={std_factor: 2.5}'"),
        ("overrides.0.set=x", "--config 'overrides={0: {set: x}}'"),
        ("refine.checkpoint=a=b.pth", "--config 'refine={checkpoint: a=b.pth}'"),
    ],
)
def test_a_dotted_key_is_answered_with_the_form_that_works(argument: str, expected: str) -> None:
    text = "Traceback\nValueError: Invalid config definition: Config entry must start with a valid identifier."
    arguments = ["--configfile", "a.b.yaml", "--config", "detectors=[musc]", argument]
    message = f"robis: --config {argument}: Snakemake takes no dots in keys. Expected {expected}."
    assert rewritten(text, [], arguments) == message
    assert rewritten(text, [], ["--config", "9=1"]) == text


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (b"# f\xfcr\n", "line 1: found the byte 0xfc, which is not UTF-8 ('ü' in Latin-1). Save the file with"),
        ("merge: {scale: 1}".encode("utf-16"), "found a file in UTF-16 or UTF-32; expected UTF-8."),
        ("merge: {scale: 1}".encode("utf-32-le"), "found a file in UTF-16 or UTF-32; expected UTF-8."),
        (b"merge:\n\tscale: 1\n", "line 2: found a tab; YAML is indented with spaces only."),
        (b"- merge\n", "found a list; expected keys such as dataset: and tiling:."),
    ],
)
def test_config_files_that_snakemake_cannot_read(tmp_path: Path, content: bytes, message: str) -> None:
    good, bad = tmp_path / "good.yaml", tmp_path / "bad.yaml"
    good.write_text("merge: {scale: 0.5}\n")
    bad.write_bytes(content)
    text = 'Traceback\n  File "snakemake/common/configfile.py", line 25\nUnicodeDecodeError: cannot decode'
    for arguments in (
        ["--configfile", str(good), str(bad), "-n"],
        [f"--configfile={bad}"],
        ["--configfiles", str(bad)],
    ):
        assert rewritten(text, [], arguments).startswith(f"robis: {bad}"), arguments
        assert message in rewritten(text, [], arguments)
    for arguments in (["--configfile", str(good), "--", str(bad)], [f"--configfile={good}", str(bad)]):
        assert rewritten(text, [], arguments) == text
