"""What every script of the workflow does around its one call: options, log file, threads, GPU, readable errors."""

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

from robis.detectors.jobs import Compute, InferJob, MapScale, Shard, TileMaps, TileStore
from robis.errors import RobisError
from robis.workflow.gpu_lock import gpu_of_job


@contextmanager
def job(snakemake: Any) -> Iterator[dict[str, Any]]:
    """Run the block as a job: yield the stage's options, log to the rule's file and stderr, bound the threads.

    A job with the resource `gpu` computes on a GPU of its own (`gpu_jobs` of them may share one), and waits for it.
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
        # torch may be imported by now, but asks for GPUs at its first use of one, which is in the block.
        with gpu_of_job(snakemake.resources.get("gpu", 0), snakemake.resources.get("gpu_jobs", 1)):
            yield snakemake.params.settings.options()
    except RobisError as error:
        logging.error("%s: %s", snakemake.rule, error)
        sys.exit(1)
    except Exception as error:
        full = isinstance(error, OSError) and error.errno == errno.ENOSPC
        what = f"the disk is full ({error}). Make room and run again; what is done stays." if full else None
        logging.error("%s: %s", snakemake.rule, what or traceback.format_exc())
        sys.exit(1)


def compute_of(options: dict[str, Any], threads: int) -> Compute:
    """How a job's model computes; takes batch size and precision out of its options."""
    values = {name: options.pop(name) for name in ("batch_size", "precision") if name in options}
    return Compute(**values, threads=threads)


def infer_job(snakemake: Any, options: dict[str, Any], shard: Shard | None = None) -> InferJob:
    """The inference that a job of `infer` or `infer_shard` does."""
    options.pop("shards", None)
    given = {"model": options.pop("model")} if "model" in options else {}
    optional = {name: snakemake.input.get(name) for name in ("model", "features", "text")}
    return InferJob(
        store=TileStore(Path(snakemake.input.tiles[0]), Path(snakemake.input.table[0])),
        output=TileMaps(Path(snakemake.output.maps), Path(snakemake.output.table)),
        inputs={**given, **{name: Path(files[0]) for name, files in optional.items() if files}},
        encoder=options.pop("encoder"),
        compute=compute_of(options, snakemake.threads),
        size=MapScale(options.pop("window"), options.pop("scale")),
        shard=shard or Shard(),
        options=options,
    )
