"""Batches and steps of INP-Former's training. Needs no tables and no workflow."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from torch import Tensor

from robis.detectors.batches import gathered
from robis.detectors.inp_former.augmentation import augment
from robis.detectors.inp_former.model import soft_mining_loss
from robis.detectors.inp_former.optimizer import StableAdamW
from robis.encoders.devices import autocast
from robis.io.threads import threaded


@dataclass(frozen=True)
class Recipe:
    """How a category's model is trained; the published values are the defaults of the config."""

    epochs: int
    batch_size: int
    learning_rate: float
    final_learning_rate: float
    warmup_steps: int
    weight_decay: float
    gradient_clip: float
    coherence_weight: float
    mining_power: float
    augment: bool
    precision: str
    compile: bool
    checkpoint_every: int
    seed: int


def training_batches(
    tiles: np.ndarray,
    device: torch.device,
    *,
    seed: int,
    epochs: range,
    batch_size: int,
    first: int = 0,
    augmented: bool = True,
    threads: int = 1,
) -> Iterator[tuple[int, Tensor]]:
    """Shuffled batches on the device, prepared ahead of the arithmetic, also those of the next epoch.

    An epoch's last short batch is dropped.

    Args:
        tiles: uint8 (N, s, s, 3) RGB.
        device: where the batches go.
        seed: with the numbers of epoch and tile the source of all randomness.
        epochs: their numbers.
        batch_size: tiles per batch.
        first: how many tiles of the first epoch's order are skipped.
        augmented: whether tiles are augmented.
        threads: batches prepared at the same time.

    Yields:
        Number of the epoch, and uint8 (batch_size, s, s, 3).
    """

    def planned() -> Iterator[tuple[int, np.ndarray]]:
        for epoch in epochs:
            order = np.random.default_rng([seed, epoch]).permutation(len(tiles))
            skipped = first if epoch == epochs[0] else 0
            for start in range(skipped, len(order) - batch_size + 1, batch_size):
                yield epoch, order[start : start + batch_size]

    def prepare(plan: tuple[int, np.ndarray]) -> tuple[int, Tensor]:
        epoch, chosen = plan

        def one(tile: int) -> np.ndarray:
            found = tiles[tile]
            return augment(np.asarray(found), np.random.default_rng([seed, epoch, tile])) if augmented else found

        return epoch, gathered([one(int(tile))[np.newaxis] for tile in chosen], device)

    for epoch, batch in threaded(prepare, planned(), max(2, threads)):
        yield epoch, batch.to(device, non_blocking=True)


def train_step(
    forward: Callable[[Tensor], Any], optimizer: StableAdamW, batch: Tensor, lr: float, recipe: Recipe
) -> tuple[float, float]:
    """Loss, gradients, update; nothing is updated when the loss or its gradient is not finite.

    Args:
        forward: the model, or the model compiled.
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
        encoded, decoded, coherence = forward(batch)
        loss = soft_mining_loss(encoded, decoded, recipe.mining_power) + recipe.coherence_weight * coherence
    loss.backward()
    norm = torch.nn.utils.clip_grad_norm_(optimizer.param_groups[0]["params"], recipe.gradient_clip)
    # All in one transfer, the only one of a step. A gradient that is not finite must not reach the weights, which may
    # be saved next.
    told = [loss.detach(), norm.to(loss.dtype), coherence.detach().to(loss.dtype)]
    value, size, apart = torch.stack(told).tolist()
    if not math.isfinite(value) or not math.isfinite(size):
        return (value if not math.isfinite(value) else size), apart
    optimizer.step()
    return value, apart
