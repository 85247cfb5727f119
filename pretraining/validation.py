"""How well nearest neighbors on an encoder's tokens find generated defects of textures it has not seen.

`python -m pretraining.validation [FILE ...]` prints it of plain statistics, the shipped encoder and other files.
"""

from __future__ import annotations

import argparse
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import torch
from safetensors.torch import load_file
from sklearn.metrics import roc_auc_score
from torch import Tensor

from pretraining.episodes import HELD_OUT_FAMILIES, HELD_OUT_KINDS, Episodes, PhotographEpisodes, Plan
from pretraining.objectives import nearest, patch_labels
from pretraining.statistics import Standard
from pretraining.trunk import GRID, PATCH, build_trunk, tokens_of
from robis.encoders.names import weights_file


def validation_episodes(held_out: bool, steps: int = 3) -> dict[str, Episodes]:
    """What an encoder is judged on: generated textures it has not seen, and photographed ones.

    Of encoders trained with `--held-out` no texture or defect of a kind that they have seen.
    """
    plan = Plan(2**20, steps, textures=6, supports=20, queries=6)
    if held_out:
        plan = replace(plan, families=HELD_OUT_FAMILIES, kinds=HELD_OUT_KINDS)
    return {"generated": Episodes(plan), "photographed": PhotographEpisodes(plan)} if steps else {}


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


def main() -> None:
    """Print a row per encoder."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("files", nargs="*", type=Path, help="weights as pretraining.train writes them")
    files = parser.parse_args().files
    statistics, trunk = Standard(), build_trunk(0)
    kinds = validation_episodes(held_out=False)
    rows = {
        "plain statistics of patches": [judge(lambda pictures: [statistics(pictures)], one) for one in kinds.values()],
        "random weights": [validate(trunk, one) for one in kinds.values()],
    }
    for file in (*files, Path(weights_file("robis_vit_tiny", "auto"))):
        trunk.load_state_dict(load_file(file))
        rows[file.name] = [validate(trunk, one) for one in kinds.values()]
    names = [f"{kind}, {name}" for kind, found in zip(kinds, rows["random weights"], strict=True) for name in found]
    print("| | " + " | ".join(names) + " |\n" + "| --- " * (len(names) + 1) + "|")
    for row, found in rows.items():
        print(f"| {row} | " + " | ".join(f"{value:.3f}" for one in found for value in one.values()) + " |", flush=True)


if __name__ == "__main__":
    main()
