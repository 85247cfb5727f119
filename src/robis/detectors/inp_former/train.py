"""The train stage of INP-Former: one category's model from the tiles of its normal images."""

from __future__ import annotations

from dataclasses import fields
from pathlib import Path

from robis.detectors.inp_former.loop import TrainingState, train
from robis.detectors.inp_former.model import InpFormer, initialize
from robis.detectors.inp_former.step import Recipe
from robis.detectors.jobs import TrainJob
from robis.detectors.model_files import write_history, write_model
from robis.encoders.build import build_encoder
from robis.encoders.devices import pick_device
from robis.tiles.store import open_tiles


def train_category(job: TrainJob) -> None:
    """Train one category's model on the tiles of its normal images.

    Writes the trained parameters (without the frozen encoder's) as safetensors, and the history. A resumable state
    and TensorBoard events lie beside the model.

    Args:
        job: its options are `prototypes`, `seed` and the fields of `Recipe`.
    """
    store, _ = open_tiles(job.store.tiles, job.store.table)
    seed = job.options["seed"]
    model = InpFormer(build_encoder(**job.encoder, equal_widths=True, seed=seed), job.options["prototypes"])
    initialize(model, seed)
    folder = job.model.parent
    folder.mkdir(parents=True, exist_ok=True)
    state = TrainingState(folder / "state.pt", folder / "tensorboard", _identity(job))
    rows = train(model.to(pick_device(job.compute.device)), store, _recipe(job), state, threads=job.compute.threads)
    write_model(job.model, model.trainable(), "inp_former", encoder=str(job.encoder["name"]))
    write_history(job.history, rows)
    state.file.unlink(missing_ok=True)


def _recipe(job: TrainJob) -> Recipe:
    values = {**job.options, "batch_size": job.compute.batch_size, "precision": job.compute.precision}
    return Recipe(**{entry.name: values[entry.name] for entry in fields(Recipe)})


def _identity(job: TrainJob) -> str:
    """An identity that also changes when the tiles are cut again."""
    tiles = Path(job.store.tiles).stat()
    return f"{job.identity} {tiles.st_size} {tiles.st_mtime_ns}"
