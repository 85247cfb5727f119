"""Batches of generated pictures: of each texture some whole ones, and others to judge by them."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor
from torch.utils.data import Dataset

from pretraining.defects import KINDS, damage
from pretraining.textures import FAMILIES, Texture

# What the comparison of objectives is judged on: no encoder of that table has seen these.
HELD_OUT_FAMILIES = ("cells", "fibers")
HELD_OUT_KINDS = ("bent", "pit")


@dataclass(frozen=True)
class Plan:
    """How large a batch is, and what it is drawn from."""

    seed: int
    steps: int
    textures: int = 8
    supports: int = 2
    queries: int = 2
    size: int = 112
    families: tuple[str, ...] = tuple(FAMILIES)
    kinds: tuple[str, ...] = tuple(KINDS)


class Episodes(Dataset[tuple[Tensor, Tensor]]):
    """Batch n is drawn from (seed, n) alone, whatever process draws it.

    An item is the pictures, uint8 (textures, supports + queries, size, size, 3), and the masks of the queries, bool
    (textures, queries, size, size). A fifth of the queries are whole.
    """

    def __init__(self, plan: Plan) -> None:
        self.plan = plan

    def __len__(self) -> int:
        return self.plan.steps

    def __getitem__(self, step: int) -> tuple[Tensor, Tensor]:
        plan = self.plan
        rng = np.random.default_rng([plan.seed, step, 7])
        pictures = np.empty((plan.textures, plan.supports + plan.queries, plan.size, plan.size, 3), np.uint8)
        masks = np.zeros((plan.textures, plan.queries, plan.size, plan.size), bool)
        donor = Texture(int(rng.integers(2**31)), plan.families).picture(rng, plan.size)
        for n in range(plan.textures):
            texture = Texture(int(rng.integers(2**31)), plan.families)
            for k in range(plan.supports + plan.queries):
                image = texture.picture(rng, plan.size)
                query = k - plan.supports
                if query >= 0 and rng.random() < 0.8:
                    for _ in range(int(rng.choice([1, 1, 2]))):
                        image, mask = damage(rng, image, donor, plan.kinds)
                        masks[n, query] |= mask
                pictures[n, k] = texture.photograph(rng, image)
            donor = image
        return torch.from_numpy(pictures), torch.from_numpy(masks)
