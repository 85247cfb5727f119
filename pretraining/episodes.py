"""Batches of generated pictures: of each texture some whole ones, and others to judge by them."""

from __future__ import annotations

from dataclasses import dataclass

import cv2
import numpy as np
import skimage.data
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
    unsteady: bool = True


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
            texture = self.texture(rng)
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

    def texture(self, rng: np.random.Generator) -> Texture:
        """The next texture of a batch."""
        return Texture(int(rng.integers(2**31)), self.plan.families, unsteady=self.plan.unsteady)


class PhotographEpisodes(Episodes):
    """Episodes of photographed brick, grass and gravel, which come with scikit-image, to validate on."""

    def texture(self, rng: np.random.Generator) -> Photograph:
        """One of the three, looked at from some distance."""
        return Photograph(int(rng.integers(2**31)))


class Photograph(Texture):
    """A photographed surface: pictures of it are parts of one photograph, which do overlap, under different light."""

    def __init__(self, seed: int) -> None:
        super().__init__(seed, parts=0.0, unsteady=True)
        style = np.random.default_rng([seed, 2])
        photograph = getattr(skimage.data, str(style.choice(["brick", "grass", "gravel"])))()
        shrink = style.uniform(0.6, 1.0)
        shrunk = cv2.resize(photograph, None, fx=shrink, fy=shrink, interpolation=cv2.INTER_AREA)
        self._photograph = np.repeat(shrunk[..., None], 3, axis=2).astype(np.float32)

    def _surface(self, rng: np.random.Generator, size: int) -> np.ndarray:
        row, column = (int(rng.integers(0, side - size + 1)) for side in self._photograph.shape[:2])
        return self._photograph[row : row + size, column : column + size]
