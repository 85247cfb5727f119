"""What the scripts of stages with a model make of their job."""

from __future__ import annotations

from collections.abc import Collection
from pathlib import Path
from typing import Any

from robis.detectors.jobs import Compute, InferJob, MapScale, NormalImages, ScorerJob, Shard
from robis.detectors.registry import DETECTORS
from robis.io.copies import copy_of
from robis.tiles.files import TileMaps, TileStore
from robis.workflow.jobs import reuse_of

# Inputs of `infer` and `infer_shard` that every detector has; all others are the detector's own.
TILES_AND_SHARDS = ("tiles", "table", "shards", "shard_tables", "archives")


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
