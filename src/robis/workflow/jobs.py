"""What every script of the workflow does around its one call: options, log file, threads, GPU, readable errors."""

from __future__ import annotations

import logging
import sys
import traceback
from collections.abc import Collection, Iterator
from contextlib import contextmanager, suppress
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import Any

import cv2

from robis.detectors.jobs import Compute, InferJob, MapScale, NormalImages, ScorerJob, Shard
from robis.detectors.registry import DETECTORS
from robis.errors import RobisError
from robis.io.copies import copy_of
from robis.io.disk import is_disk_full, reporting_full_disk
from robis.io.reuse import Reuse
from robis.tiles.files import TileMaps, TileStore
from robis.workflow import results
from robis.workflow.archives import reading_archives
from robis.workflow.gpu_lock import gpu_of_job

# Inputs of `infer` and `infer_shard` that every detector has; all others are the detector's own.
TILES_AND_SHARDS = ("tiles", "table", "shards", "shard_tables", "archives")
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
            with reading_archives(options, snakemake), gpu_of_job(*gpus):
                yield options
    except RobisError as error:
        logging.error("%s", error)
        sys.exit(1)
    except Exception:
        logging.error("%s", traceback.format_exc())
        sys.exit(1)


def compute_of(options: dict[str, Any], threads: int) -> Compute:
    """How a job's model computes; takes batch size and precision out of its options."""
    values = {name: options.pop(name) for name in ("batch_size", "precision") if name in options}
    return Compute(**values, threads=threads)


def infer_job(snakemake: Any, options: dict[str, Any], shard: Shard | None = None) -> InferJob:
    """The inference that a job of `infer` or `infer_shard` does."""
    options.pop("shards", None)
    detector = DETECTORS[snakemake.params.settings["detector"]]
    return InferJob(
        store=TileStore(Path(snakemake.input.tiles[0]), Path(snakemake.input.table[0])),
        output=TileMaps(Path(snakemake.output.maps), Path(snakemake.output.table)),
        inputs=detector_inputs(snakemake, options, TILES_AND_SHARDS),
        encoder=options.pop("encoder", {}),
        compute=compute_of(options, snakemake.threads),
        size=MapScale(options.pop("window"), options.pop("scale")),
        shard=shard or Shard(),
        reuse=None if detector.compares_tiles else reuse_of(snakemake, snakemake.output.maps, "tile_maps"),
        options=options,
    )


def scorer_job(snakemake: Any, options: dict[str, Any]) -> ScorerJob:
    """The detector of a job that scores as `infer` does, from its option `scorer` and its model."""
    scorer = dict(options.pop("scorer"))
    models = [*snakemake.input.get("model", []), *([options["model"]] if "model" in options else [])]
    return ScorerJob(
        inputs={"model": copy_of(models[0])} if models else {},
        encoder=scorer["encoder"],
        options=scorer["options"],
        compute=compute_of(scorer, snakemake.threads),
        size=MapScale(**scorer["size"]),
    )


def normal_images(snakemake: Any) -> NormalImages | None:
    """The normal images that a job compares with; None without any."""
    names = ("normal_samples", "normal_tiles", "normal_table")
    paths = [Path(path) for name in names for path in snakemake.input.get(name, [])]
    return NormalImages(paths[0], TileStore(*paths[1:])) if paths else None


def detector_inputs(snakemake: Any, options: dict[str, Any], others: Collection[str]) -> dict[str, Path]:
    """The files that a detector reads, by name: the job's inputs without `others`, and a model that the config gives.

    Takes that model out of the options.
    """
    given = {"model": copy_of(options.pop("model"))} if "model" in options else {}
    own = {name: files for name, files in snakemake.input.items() if name not in others}
    return {**given, **{name: Path(files[0]) for name, files in own.items() if files}}


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
