"""The training loop: seeded, logged, and resumable at the step where it was stopped."""

from __future__ import annotations

import logging
import math
import shutil
import signal
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from types import FrameType
from typing import Any

import numpy as np
import pandas as pd
import torch
from torch import Tensor
from torch.utils.tensorboard import SummaryWriter

from robis.detectors.reconstruction.network import Reconstruction
from robis.detectors.reconstruction.optimizer import StableAdamW, learning_rate
from robis.detectors.reconstruction.step import Losses, Order, Recipe, TrainingTiles, train_step, training_batches
from robis.errors import DataError, TrainingError
from robis.io.atomic import atomic_file
from robis.io.progress import progress

logger = logging.getLogger(__name__)

Rows = list[dict[str, float]]
# From what a model's `forward` gives, the number of the step, and the tokens that are not ignored, to the losses.
Objective = Callable[[Any, int, Tensor | None], Losses]

# Save at least this often (seconds), so that a crash loses at most that much work, however long an epoch is.
SAVE_EVERY = 600
# Signals that end a job: SLURM sends SIGTERM or, if so configured, SIGUSR1, which Windows lacks; Ctrl-C sends SIGINT.
STOP_SIGNALS = tuple(getattr(signal, name) for name in ("SIGTERM", "SIGUSR1", "SIGINT") if hasattr(signal, name))


@dataclass(frozen=True)
class TrainingState:
    """Where a training can be resumed from.

    Attributes:
        file: resumable state, written every `checkpoint_every` steps, every `SAVE_EVERY` seconds and at a signal to
            stop.
        events: folder of the TensorBoard events.
        identity: digest of all that the training depends on; a state of another identity is not resumed.
    """

    file: Path
    events: Path
    identity: str


def train(
    model: Reconstruction,
    objective: Objective,
    tiles: TrainingTiles,
    recipe: Recipe,
    state: TrainingState,
    *,
    threads: int = 1,
    kept: np.ndarray | None = None,
) -> pd.DataFrame:
    """Train the model in place, resuming from `state` where it belongs to the same training.

    All randomness is derived from the seed and the numbers of epoch and tile, or of the step (dropout), so that a
    resumed run takes the same steps as an undisturbed run, from any step. A signal of `STOP_SIGNALS` lets the current
    step end and saves the state.

    Args:
        model: on the device to train on.
        objective: what is minimized.
        tiles: N tiles, uint8 (s, s, 3) RGB, may be memory-mapped.
        recipe: hyper-parameters.
        state: where to resume from and what to write while training.
        threads: batches prepared at the same time.
        kept: bool (N, g*g), the tokens of each tile that are not ignored; None: none is.

    Returns:
        One row per step: step, epoch, loss, coherence, lr, images_per_second.

    Raises:
        DataError: there are no tiles.
        TrainingError: the loss or its gradient is not finite, and the last state stays on disk; or a signal has
            stopped the training, and the state of its last step is on disk.
    """
    if not len(tiles):
        raise DataError("train: the tile store is empty; expected at least one tile of a normal image.")
    device = next(parameter.device for parameter in model.parameters() if parameter.requires_grad)
    batch_size = min(recipe.batch_size, len(tiles))
    steps_per_epoch = len(tiles) // batch_size
    total = recipe.steps
    parameters = [p for p in model.parameters() if p.requires_grad]
    optimizer = StableAdamW(parameters, lr=recipe.learning_rate, eps=recipe.eps, weight_decay=recipe.weight_decay)
    rows = _resume(model, optimizer, state)
    first_epoch, done = divmod(len(rows), steps_per_epoch)
    if not rows:
        shutil.rmtree(state.events, ignore_errors=True)
    forward = torch.compile(model) if recipe.compile and device.type == "cuda" else model
    model.train()
    with (
        SummaryWriter(str(state.events), purge_step=len(rows)) as writer,
        progress(total, "steps", done=len(rows)) as steps,
        _asked_to_stop() as signals,
        torch.random.fork_rng(devices=[device] if device.type == "cuda" else []),
    ):
        saved, started = time.monotonic(), time.perf_counter()
        epochs = range(first_epoch, -(-total // steps_per_epoch))
        order = Order(recipe.seed, epochs, batch_size, first=done * batch_size)
        batches = training_batches(tiles, device, order, augmented=recipe.augment, threads=threads)
        for (epoch, batch), (_, numbers) in zip(batches, order.batches(len(tiles)), strict=True):
            step = len(rows)
            lr = learning_rate(
                step,
                total,
                warmup=recipe.warmup_steps,
                highest=recipe.learning_rate,
                final=recipe.final_learning_rate,
            )
            torch.manual_seed(_seed_of(recipe.seed, step))
            of_batch = None if kept is None else torch.from_numpy(kept[numbers]).to(device)
            losses = partial(_losses, forward, objective, step, of_batch)
            loss, coherence = train_step(losses, optimizer, batch, lr, recipe)
            if not math.isfinite(loss):
                raise TrainingError(_not_finite(step, loss, recipe, state.file))
            now = time.perf_counter()
            speed, started = len(batch) / (now - started), now
            row = {"loss": loss, "coherence": coherence, "lr": lr, "images_per_second": speed}
            rows.append({"step": step, "epoch": epoch, **row})
            for name, value in row.items():
                if math.isfinite(value):
                    writer.add_scalar(name, value, step)
            steps.note = f"loss {loss:.4f}"
            steps.update()
            if len(rows) == total:
                break  # the model is written next
            due = len(rows) % recipe.checkpoint_every == 0
            if signals or due or time.monotonic() - saved > SAVE_EVERY:
                _save(model, optimizer, state, rows)
                saved, started = time.monotonic(), time.perf_counter()
            if signals:
                raise TrainingError(
                    f"stopped by {signals[0]} after {len(rows)} of {total} steps. "
                    f"The state is saved; the next run goes on from it."
                )
    return pd.DataFrame(rows).astype({"step": "int64", "epoch": "int64"})


def _losses(forward: Callable[..., Any], objective: Objective, step: int, kept: Tensor | None, batch: Tensor) -> Losses:
    return objective(forward(batch, kept), step, kept)


def _seed_of(seed: int, step: int) -> int:
    """A seed of 63 bits for the dropout of a step."""
    return int(np.random.SeedSequence([seed, step]).generate_state(1, np.uint64)[0] >> np.uint64(1))


@contextmanager
def _asked_to_stop() -> Iterator[list[str]]:
    """The names of signals to stop that have come in since the block began, instead of what they do by themselves."""
    names: list[str] = []
    before: dict[int, Any] = {}

    def remember(number: int, frame: FrameType | None) -> None:
        names.append(signal.Signals(number).name)
        if number == signal.SIGINT:
            # A second Ctrl-C does not wait for the step to end.
            signal.signal(number, before.get(number, signal.default_int_handler))

    # Python lets no other thread set handlers. What is ignored stays so: a process in the background has no Ctrl-C.
    if threading.current_thread() is threading.main_thread():
        heeded = [number for number in STOP_SIGNALS if signal.getsignal(number) is not signal.SIG_IGN]
        before = {number: signal.signal(number, remember) or signal.SIG_DFL for number in heeded}
    try:
        yield names
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)


def _save(model: Reconstruction, optimizer: StableAdamW, state: TrainingState, rows: Rows) -> None:
    values = {
        "identity": state.identity,
        "model": model.trainable(),
        "optimizer": optimizer.state_dict(),
        "rows": rows,
    }
    with atomic_file(state.file) as partial:
        torch.save(values, partial)


def _resume(model: Reconstruction, optimizer: StableAdamW, state: TrainingState) -> Rows:
    """Load a state of the same identity and return the rows so far; no rows where there is none."""
    if not state.file.is_file():
        return []
    try:
        values = torch.load(state.file, "cpu", weights_only=True)
        identity = values["identity"]
    except Exception as error:  # zip and unpickling errors share no base class
        logger.warning("%s cannot be read (%s): training starts from the beginning.", state.file, error)
        return []
    if identity != state.identity:
        logger.info("%s belongs to other settings, code or images: training starts from the beginning.", state.file)
        return []
    model.load_state_dict(values["model"], strict=False)
    optimizer.load_state_dict(values["optimizer"])
    rows: Rows = values["rows"]
    logger.info("Resuming at step %d from %s.", len(rows), state.file)
    return rows


def _not_finite(step: int, loss: float, recipe: Recipe, state_file: Path) -> str:
    kept = f"The last good state is {state_file}." if state_file.exists() else "No state had been saved yet."
    return (
        f"train: the loss or its gradient is {loss} at step {step} of {recipe.steps}. {kept} "
        f"Lower {recipe.section}.learning_rate, or set {recipe.section}.precision to float32."
    )
