"""A job's frame: options without identity, a log file, readable errors and exit status 1."""

from __future__ import annotations

import ast
import errno
import logging
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from types import SimpleNamespace

import pytest

from robis.errors import DataError, DiskFullError
from robis.workflow.jobs import job
from robis.workflow.params import Params
from tests.conftest import REPOSITORY

SCRIPTS = REPOSITORY / "workflow_scripts"


@pytest.fixture
def snakemake(tmp_path: Path) -> SimpleNamespace:
    settings = Params.of(
        {"scale": 0.5, "root": "data"}, unwatched=["root"], identity={"code": "abc", "fingerprint": "def"}
    )
    return SimpleNamespace(
        log=[str(tmp_path / "logs" / "a.log")],
        threads=1,
        rule="merge",
        wildcards={"dataset": "parts", "detector": "musc", "category": "100%", "split": "test"},
        params=SimpleNamespace(settings=settings),
        resources={"mem_mb": 2000},
    )


@pytest.fixture(autouse=True)
def other_tests_log_as_before() -> Iterator[None]:
    """A job's handlers write to its own stderr, which is closed after the test."""
    root = logging.getLogger()
    handlers, level = root.handlers[:], root.level
    yield
    root.handlers[:] = handlers
    root.setLevel(level)


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
        (DataError("a.png: broken"), "merge musc/100%/test: a.png: broken", False),
        (OSError(errno.ENOSPC, "No space left on device"), "logs: the disk is full. Free in ", False),
        (OSError(errno.EDQUOT, "Disk quota exceeded", "a.tiff"), "test: a.tiff: the disk is full. Free in ", False),
        (DiskFullError("a.npy: the disk is full."), "merge musc/100%/test: a.npy: the disk is full.", False),
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


def test_a_disk_too_full_for_the_log_is_reported_all_the_same(
    small_disk: Path, snakemake: SimpleNamespace, capsys: pytest.CaptureFixture[str]
) -> None:
    """The log is there before the disk is full; then the message about it fits no more."""
    snakemake.log = [str(small_disk / "a.log")]

    def work() -> None:
        with job(snakemake):
            logging.getLogger("robis").info("at work")
            fill(small_disk)
            logging.getLogger("robis").info("x" * 100_000)
            (small_disk / "b").write_bytes(bytes(100))

    with pytest.raises(SystemExit):
        work()
    assert log_of(snakemake).startswith("INFO merge musc/100%/test: at work")
    errors = capsys.readouterr().err
    assert "disk: the disk is full. Free in" in errors and "Traceback" not in errors


def test_a_disk_without_room_for_a_log_is_named(
    small_disk: Path, snakemake: SimpleNamespace, capsys: pytest.CaptureFixture[str]
) -> None:
    snakemake.log = [str(small_disk / "logs" / "a.log")]
    for number in range(199):
        (small_disk / str(number)).touch()
    with pytest.raises(SystemExit), job(snakemake):
        pytest.fail("no job without a log")
    errors = capsys.readouterr().err
    assert "logs: the disk is full. The disk of" in errors and "Traceback" not in errors


def fill(disk: Path) -> None:
    with pytest.raises(OSError, match="No space"), (disk / "filled").open("wb") as stream:
        stream.write(bytes(1 << 21))


# Scripts that many jobs run, each of which takes less than a second, and what they need of the slower libraries.
LIGHT = {
    "archive": set(),
    "binarize": set(),
    "crop": set(),
    "evaluate": {"pandas"},
    "index": set(),
    "judge": {"pandas"},
    "merge": set(),
    "refine": set(),
    "score_images": set(),
    "submit": set(),
}
SLOW = {"matplotlib", "numba", "pandas", "pydantic", "scipy", "sklearn", "snakemake", "timm", "torch", "yaml"}


@pytest.mark.parametrize("script", LIGHT)
def test_jobs_without_a_model_import_little(script: str) -> None:
    """What settings are made of, and detectors, are the plan's: they would double the time of the imports."""
    tree = ast.parse((SCRIPTS / f"{script}.py").read_text(encoding="utf-8"))
    imports = [ast.unparse(line) for line in tree.body if isinstance(line, ast.Import | ast.ImportFrom)]
    code = "\n".join([*imports, "import sys", "print(*sys.modules)"])
    modules = subprocess.run([sys.executable, "-c", code], check=True, capture_output=True, text=True).stdout.split()
    assert "robis.workflow.jobs" in modules and "numpy" in modules
    assert set(modules) & SLOW == LIGHT[script]
    assert not [name for name in modules if name.startswith(("robis.config", "robis.detectors"))]
