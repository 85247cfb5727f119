"""Batches and steps of training. Needs no tables and no workflow."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from typing import Protocol

import numpy as np
import torch
from torch import Tensor

from robis.detectors.batches import gathered
from robis.detectors.reconstruction.augmentation import augment
from robis.detectors.reconstruction.optimizer import StableAdamW
from robis.encoders.devices import autocast
from robis.io.arrays import release
from robis.io.threads import threaded


@dataclass(frozen=True)
class Recipe:
    """How a model is trained.

    Attributes:
        section: of the config, for messages.
        steps: how many are taken.
        batch_size: tiles per step; fewer where there are fewer tiles.
        learning_rate, final_learning_rate, warmup_steps: see `learning_rate` in `optimizer`.
        weight_decay, eps: of StableAdamW.
        gradient_clip: largest norm of the gradient of all parameters.
        augment: whether tiles are augmented.
        precision: "float32" or "bf16" on a GPU.
        compile: whether a GPU runs the compiled model.
        checkpoint_every: steps between saved states.
        seed: of the order of tiles, augmentation and dropout.
    """

    section: str
    steps: int
    batch_size: int
    learning_rate: float
    final_learning_rate: float
    warmup_steps: int
    weight_decay: float
    eps: float
    gradient_clip: float
    augment: bool
    precision: str
    compile: bool
    checkpoint_every: int
    seed: int


class TrainingTiles(Protocol):
    """Tiles to train on: uint8 (s, s, 3) RGB each."""

    def __len__(self) -> int: ...

    def __getitem__(self, number: int, /) -> np.ndarray: ...


class JoinedTiles:
    """The tiles of several stores, one store after the other."""

    def __init__(self, stores: Sequence[np.ndarray]) -> None:
        self.stores = list(stores)
        self.ends = np.cumsum([len(store) for store in stores])

    def __len__(self) -> int:
        return int(self.ends[-1])

    def __getitem__(self, number: int) -> np.ndarray:
        place = int(np.searchsorted(self.ends, number, side="right"))
        store = self.stores[place]
        tile = np.array(store[number - int(self.ends[place])])
        release(store)
        return tile


@dataclass(frozen=True)
class Order:
    """Which tiles make up which batch.

    Attributes:
        seed: with the numbers of epoch and tile the source of all randomness.
        epochs: numbers of the epochs.
        batch_size: tiles per batch; an epoch's last short batch is dropped.
        first: how many tiles of the first epoch's order are skipped.
    """

    seed: int
    epochs: range
    batch_size: int
    first: int = 0

    def batches(self, tiles: int) -> Iterator[tuple[int, np.ndarray]]:
        """Number of the epoch and tile numbers (batch_size,) of every batch."""
        for epoch in self.epochs:
            order = np.random.default_rng([self.seed, epoch]).permutation(tiles)
            skipped = self.first if epoch == self.epochs[0] else 0
            for start in range(skipped, tiles - self.batch_size + 1, self.batch_size):
                yield epoch, order[start : start + self.batch_size]


def training_batches(
    tiles: TrainingTiles, device: torch.device, order: Order, *, augmented: bool = True, threads: int = 1
) -> Iterator[tuple[int, Tensor]]:
    """Shuffled batches on the device, prepared ahead of the arithmetic, also those of the next epoch.

    Args:
        tiles: N tiles, uint8 (s, s, 3) RGB.
        device: where the batches go.
        order: which tiles make up which batch.
        augmented: whether tiles are augmented.
        threads: batches prepared at the same time.

    Yields:
        Number of the epoch, and uint8 (batch_size, s, s, 3).
    """

    def prepare(plan: tuple[int, np.ndarray]) -> tuple[int, Tensor]:
        epoch, numbers = plan

        def prepared(number: int) -> np.ndarray:
            tile = np.asarray(tiles[number])
            return augment(tile, np.random.default_rng([order.seed, epoch, number])) if augmented else tile

        batch = gathered([prepared(int(number))[np.newaxis] for number in numbers], device)
        release(tiles)
        return epoch, batch

    for epoch, batch in threaded(prepare, order.batches(len(tiles)), threads):
        yield epoch, batch.to(device, non_blocking=True)


# The loss of a batch and the coherence loss in it (NaN for a method without), scalars.
Losses = tuple[Tensor, Tensor]


def train_step(
    losses: Callable[[Tensor], Losses], optimizer: StableAdamW, batch: Tensor, lr: float, recipe: Recipe
) -> tuple[float, float]:
    """Loss, gradients, update; nothing is updated when the loss or its gradient is not finite.

    Args:
        losses: of a batch, through the model.
        optimizer: of the model's trainable parameters.
        batch: uint8 (B, s, s, 3) RGB on the model's device.
        lr: learning rate of this step.
        recipe: hyper-parameters.

    Returns:
        The loss, or the size of its gradient if that is what is not finite, and the coherence loss in it.
    """
    for group in optimizer.param_groups:
        group["lr"] = lr
    # First, so that the gradients of the last step take no memory beside this one's values.
    optimizer.zero_grad(set_to_none=True)
    with autocast(batch.device, recipe.precision):
        loss, coherence = losses(batch)
    loss.backward()
    norm = torch.nn.utils.clip_grad_norm_(optimizer.param_groups[0]["params"], recipe.gradient_clip)
    # All in one transfer, the only one of a step. A gradient that is not finite must not reach the weights, which may
    # be saved next.
    numbers = [loss.detach(), norm.to(loss.dtype), coherence.detach().to(loss.dtype)]
    loss_value, norm_value, coherence_value = torch.stack(numbers).tolist()
    if not math.isfinite(loss_value) or not math.isfinite(norm_value):
        return (loss_value if not math.isfinite(loss_value) else norm_value), coherence_value
    optimizer.step()
    return loss_value, coherence_value
