"""What every script of the workflow does around its one call: options, log file, threads, readable errors."""

from __future__ import annotations

import errno
import logging
import sys
import traceback
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import cv2

from robis.errors import RobisError


@contextmanager
def job(snakemake: Any) -> Iterator[dict[str, Any]]:
    """Run the block as a job: yield the stage's options, log to the rule's file and stderr, bound the threads.

    A mistake of the user ends the job with its message alone; anything else with a traceback.
    The exit status is 1 in both cases.
    """
    log_file = Path(snakemake.log[0])
    log_file.parent.mkdir(parents=True, exist_ok=True)
    handlers: list[logging.Handler] = [
        logging.FileHandler(log_file, mode="w", encoding="utf-8"),
        logging.StreamHandler(sys.stderr),
    ]
    logging.basicConfig(level=logging.INFO, format="%(levelname)s %(message)s", handlers=handlers, force=True)
    cv2.setNumThreads(snakemake.threads)
    if "torch" in sys.modules:
        sys.modules["torch"].set_num_threads(snakemake.threads)
    try:
        yield snakemake.params.settings.options()
    except RobisError as error:
        logging.error("%s: %s", snakemake.rule, error)
        sys.exit(1)
    except Exception as error:
        full = isinstance(error, OSError) and error.errno == errno.ENOSPC
        what = f"the disk is full ({error}). Make room and run again; what is done stays." if full else None
        logging.error("%s: %s", snakemake.rule, what or traceback.format_exc())
        sys.exit(1)
