"""What every script of the workflow does around its one call: options, log file, threads, GPU, readable errors.

Imported by every job: nothing here imports what only some jobs need.
"""

from __future__ import annotations

import logging
import sys
import traceback
from collections.abc import Iterator
from contextlib import AbstractContextManager, contextmanager, nullcontext, suppress
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import Any

import cv2

from robis.errors import RobisError
from robis.io.copies import reading_copies
from robis.io.disk import is_disk_full, reporting_full_disk
from robis.io.reuse import Reuse
from robis.workflow import results
from robis.workflow.gpu_lock import gpu_of_job
from robis.workflow.params import ARCHIVED

# Libraries that decode images, resize them and compute: another version may give other bytes.
COMPUTING = ("numpy", "open_clip_torch", "opencv-python-headless", "pillow", "tifffile", "timm", "torch")


@contextmanager
def job(snakemake: Any) -> Iterator[dict[str, Any]]:
    """Run the block as a job: yield the stage's options, log to the rule's file and stderr, bound the threads.

    A job with the resource `gpu` waits for a GPU of its own, which up to `gpu_jobs` of them share.
    A user's mistake, or a full disk, ends the job with its message alone; anything else with a traceback.
    The exit status is 1 in both cases.
    """
    log_file = Path(snakemake.log[0])
    try:
        # What is written without a message of its own, such as TensorBoard's events, lies on the disk of the logs.
        with reporting_full_disk(log_file.parent):
            _log_to(log_file, label_of(snakemake))
            _bound_threads(snakemake.threads)
            # torch may be imported by now, but asks for GPUs at its first use of one, which is in the block.
            gpus = snakemake.resources.get("gpu", 0), snakemake.resources.get("gpu_jobs", 1)
            options = snakemake.params.settings.options()
            with _reading_archives(options, snakemake), gpu_of_job(*gpus):
                yield options
    except RobisError as error:
        logging.error("%s", error)
        sys.exit(1)
    except Exception:
        logging.error("%s", traceback.format_exc())
        sys.exit(1)


def _reading_archives(options: dict[str, Any], snakemake: Any) -> AbstractContextManager[None]:
    """Let a job read its archives; takes their sources out of its options.

    Args:
        options: of the job.
        snakemake: the job, whose input `archives` are in the order of the sources.
    """
    sources = options.pop(ARCHIVED, [])
    if not sources:
        return nullcontext()
    pairs = [(source, Path(path)) for source, path in zip(sources, snakemake.input.archives, strict=True)]
    archives = [path for source, path in pairs if not source]
    return reading_copies({source: path for source, path in pairs if source}, archives, options.get("root", ""))


def label_of(snakemake: Any) -> str:
    """The job's name in every line of its log, e.g. "infer musc/cans/test": jobs that run together share a terminal."""
    names = [str(value) for name, value in snakemake.wildcards.items() if name != "dataset" and value]
    return f"{snakemake.rule} {'/'.join(name.strip('/') for name in names)}".strip()


def reuse_of(snakemake: Any, output: str, kind: str) -> Reuse | None:
    """Where a job keeps the rows of an array that it writes, for its next run; all shards of a split in one place.

    Of the job's parameters all count but the images, which count row by row, and the number of shards.
    """
    split = snakemake.wildcards.split
    folder = Path(output).parent.parent.parent
    # Shards have a folder of their own below the category.
    folder = folder.parent if snakemake.rule == "infer_shard" else folder
    place = results.reuse(folder, kind, snakemake.wildcards.category, split)
    recipe = snakemake.params.settings.digest(but=("fingerprint", "shards"))
    return Reuse(place, (recipe, *map(_version, COMPUTING))) if place else None


def _version(library: str) -> str:
    try:
        return f"{library} {version(library)}"
    except PackageNotFoundError:
        return f"{library} of unknown version"


def _log_to(file: Path, label: str) -> None:
    handlers: list[logging.Handler] = [logging.StreamHandler(sys.stderr)]
    line = f"%(levelname)s {label.replace('%', '%%')}: %(message)s"
    options: dict[str, Any] = {"level": logging.INFO, "format": line, "force": True}
    # Before the file is there: a disk too full for it has to be reported somewhere.
    logging.basicConfig(handlers=handlers, **options)
    file.parent.mkdir(parents=True, exist_ok=True)
    logging.basicConfig(handlers=[_LogFile(file, mode="w", encoding="utf-8"), *handlers], **options)


class _LogFile(logging.FileHandler):
    """A log file that a full disk cuts short without a word: the message about the disk goes to stderr as well."""

    def handleError(self, record: logging.LogRecord) -> None:  # noqa: N802
        error = sys.exc_info()[1]
        if error is None or not is_disk_full(error):
            super().handleError(record)
            return
        # The next record opens the file anew: this one's rest would be tried again, and at the end of the process.
        with suppress(OSError):
            if self.stream is not None:
                self.stream.close()
        self.stream = None
        self.mode = "a"


def _bound_threads(threads: int) -> None:
    cv2.setNumThreads(threads)
    if "torch" in sys.modules:
        sys.modules["torch"].set_num_threads(threads)
