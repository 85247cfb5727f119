"""How well nearest neighbors on an encoder's tokens find generated defects of generated textures it has not seen."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import torch
from sklearn.metrics import roc_auc_score
from torch import Tensor

from pretraining.episodes import Episodes
from pretraining.objectives import nearest, patch_labels
from pretraining.trunk import GRID, PATCH, tokens_of


def validate(vit: Any, episodes: Episodes, device: str = "cpu") -> dict[str, float]:
    """`judge` of a trunk, its pictures in the middle of the grid."""
    corner = ((GRID - episodes.plan.size // PATCH) // 2,) * 2
    vit.eval()
    found = judge(lambda pictures: tokens_of(vit, pictures.to(device), grid=GRID, corner=corner), episodes)
    vit.train()
    return found


@torch.no_grad()
def judge(tokens_of_pictures: Callable[[Tensor], list[Tensor]], episodes: Episodes) -> dict[str, float]:
    """AUROC of patches and images within textures, and of all patches, by the blocks' mean Euclidean distance."""
    plan = episodes.plan
    within, images, scores, labels = [], [], [], []
    for pictures, masks in (episodes[n] for n in range(plan.steps)):
        tokens = tokens_of_pictures(pictures.flatten(0, 1))
        distance = nearest(tokens, plan.textures, plan.queries)[-1].cpu().unflatten(1, (plan.queries, -1))
        target, weight = (x.unflatten(0, (plan.textures, plan.queries)) for x in patch_labels(masks.flatten(0, 1)))
        for d, t, w in zip(distance, target, weight, strict=True):
            bad, sure = t > 0.5, w > 0
            if bad.any():
                within.append(roc_auc_score(bad[sure], d[sure]))
                whole, hurt = d[~bad.any(1)].amax(1), d[bad.any(1)].amax(1)
                if len(whole):
                    images.append(float((hurt[:, None] > whole).float().mean()))
            scores.append(d[sure])
            labels.append(bad[sure])
    return {
        "patches within a texture": float(np.mean(within)),
        "images of a texture": float(np.mean(images)),
        "patches of all textures": float(roc_auc_score(torch.cat(labels), torch.cat(scores))),
    }
