"""A job's frame: options without identity, a log file, readable errors and exit status 1."""

from __future__ import annotations

import errno
import logging
from pathlib import Path
from types import SimpleNamespace

import pytest

from robis.errors import DataError
from robis.workflow.jobs import job
from robis.workflow.params import Params


@pytest.fixture
def snakemake(tmp_path: Path) -> SimpleNamespace:
    settings = Params.of({"scale": 0.5, "code": "abc", "fingerprint": "def", "root": "data"}, ["root"])
    return SimpleNamespace(
        log=[str(tmp_path / "logs" / "a.log")],
        threads=1,
        rule="merge",
        params=SimpleNamespace(settings=settings),
        resources={"mem_mb": 2000},
    )


def log_of(snakemake: SimpleNamespace) -> str:
    logging.shutdown()
    return Path(snakemake.log[0]).read_text()


def test_options_are_what_the_code_takes(snakemake: SimpleNamespace) -> None:
    with job(snakemake) as options:
        logging.getLogger("robis").info("at work")
    assert options == {"scale": 0.5, "root": "data"}
    assert "at work" in log_of(snakemake)


@pytest.mark.parametrize(
    ("error", "message", "traceback"),
    [
        (DataError("a.png: broken"), "merge: a.png: broken", False),
        (OSError(errno.ENOSPC, "No space left on device"), "merge: the disk is full", False),
        (OSError(errno.EIO, "Input/output error"), "Input/output error", True),
        (ZeroDivisionError("a defect of ours"), "a defect of ours", True),
    ],
)
def test_errors_end_the_job_with_a_message_in_the_log(
    snakemake: SimpleNamespace, error: Exception, message: str, traceback: bool
) -> None:
    with pytest.raises(SystemExit) as stopped, job(snakemake):
        raise error
    assert stopped.value.code == 1
    assert message in log_of(snakemake)
    assert ("Traceback" in log_of(snakemake)) == traceback
