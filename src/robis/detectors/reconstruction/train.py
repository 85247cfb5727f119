"""What the train stages of reconstruction have in common: tiles in, model and history out."""

from __future__ import annotations

from dataclasses import fields
from typing import Any

import numpy as np

from robis.detectors.jobs import TrainJob
from robis.detectors.model_files import write_history, write_model
from robis.detectors.normal_tokens import require_kept_tokens
from robis.detectors.reconstruction.loop import Objective, TrainingState, train
from robis.detectors.reconstruction.network import Reconstruction
from robis.detectors.reconstruction.step import JoinedTiles, Recipe, TrainingTiles
from robis.encoders.devices import pick_device
from robis.tiles.ignored import has_ignored, ignored_cells
from robis.tiles.store import open_tiles


def training_tiles(job: TrainJob) -> TrainingTiles:
    """The tiles of all stores of a job."""
    stores = [open_tiles(store.tiles, store.table)[0] for store in job.stores]
    return stores[0] if len(stores) == 1 else JoinedTiles(stores)


def training_tokens(job: TrainJob, grid: int) -> np.ndarray | None:
    """Which tokens of these tiles are not ignored, bool (N, grid * grid); None where none is.

    Raises DataError where all are.
    """
    tables = [open_tiles(store.tiles, store.table)[1] for store in job.stores]
    if not any(map(has_ignored, tables)):
        return None
    kept = np.concatenate([~ignored_cells(rows, (grid, grid)).reshape(len(rows), -1) for rows in tables])
    require_kept_tokens(int(kept.sum()), job)
    return kept


def recipe_of(job: TrainJob, section: str, **values: Any) -> Recipe:
    """The hyper-parameters of a job: its options by name, and `values`, which come first."""
    known = {**job.options, "batch_size": job.compute.batch_size, "precision": job.compute.precision}
    known |= {"section": section, **values}
    return Recipe(**{entry.name: known[entry.name] for entry in fields(Recipe)})


def train_model(
    job: TrainJob, model: Reconstruction, objective: Objective, tiles: TrainingTiles, recipe: Recipe
) -> None:
    """Train a model, then write its trained parameters (without the frozen encoder's) and the history.

    A resumable state and TensorBoard events lie beside the model.

    Args:
        job: where to write, and how to compute.
        model: with its start weights.
        objective: what is minimized.
        tiles: those of the job.
        recipe: hyper-parameters; its section names the detector.
    """
    folder = job.model.parent
    folder.mkdir(parents=True, exist_ok=True)
    state = TrainingState(folder / "state.pt", folder / "tensorboard", _identity(job))
    model = model.to(pick_device(job.compute.device))
    kept = training_tokens(job, model.encoder.grid)
    rows = train(model, objective, tiles, recipe, state, threads=job.compute.threads, kept=kept)
    write_model(job.model, model.trainable(), recipe.section, encoder=str(job.encoder["name"]))
    write_history(job.history, rows)
    state.file.unlink(missing_ok=True)


def _identity(job: TrainJob) -> str:
    """An identity that also changes when the tiles are cut again."""
    files = [store.tiles.stat() for store in job.stores]
    return " ".join([job.identity, *(f"{file.st_size} {file.st_mtime_ns}" for file in files)])
