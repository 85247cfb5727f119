"""Train the shipped encoder: `python -m pretraining.train --out FOLDER`. See pretraining/README.md."""

from __future__ import annotations

import argparse
import copy
import json
import math
import time
from collections.abc import Iterator
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any

import torch
from safetensors import safe_open
from safetensors.torch import load_file, save_file
from torch import nn
from torch.utils.data import DataLoader

from pretraining.defects import KINDS
from pretraining.episodes import HELD_OUT_FAMILIES, HELD_OUT_KINDS, Episodes, Plan
from pretraining.objectives import OBJECTIVES
from pretraining.textures import FAMILIES
from pretraining.trunk import build_trunk
from pretraining.validation import validate, validation_episodes


@dataclass(frozen=True)
class Stage:
    """A part of the training.

    Attributes:
        objective: one of `OBJECTIVES`.
        steps: of the optimizer; an even number.
        rate: highest learning rate of the trunk.
        heads: learning rate of the objective's own scales, in multiples of that.
        large: share of the steps, the last, on pictures of 196 px; the others are on 112 px.
        unsteady: whether pictures of a texture may differ much in light, contrast and scale.
        kinds: of defects.
        seed: of the pictures and of all that is drawn at random.
    """

    objective: str
    steps: int
    rate: float = 1e-3
    heads: float = 1.0
    large: float = 0.15
    unsteady: bool = True
    kinds: tuple[str, ...] = tuple(KINDS)
    families: tuple[str, ...] = tuple(FAMILIES)
    seed: int = 0


# How the shipped encoder was made: steady surfaces first, then such that change from picture to picture.
RECIPE = (
    Stage("mixed", 6000, unsteady=False, kinds=tuple(kind for kind in KINDS if kind != "shade")),
    Stage("material", 1600, rate=3e-4, heads=30.0, large=0.3, seed=1),
)


def main() -> None:
    """Train stage by stage and write the encoder with what it says of itself."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--out", type=Path, required=True, help="a stage whose file is there is not trained again")
    parser.add_argument("--objective", choices=list(OBJECTIVES), help="train this one alone, to compare it")
    parser.add_argument("--steps", type=int, help="optimizer steps of each stage, instead of the recipe's")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--threads", type=int, default=0, help="of torch; 0 takes all cores")
    parser.add_argument("--workers", type=int, default=1, help="processes that draw pictures")
    parser.add_argument("--held-out", action="store_true", help="keep some families and defects for validation only")
    parser.add_argument("--validation", type=int, default=3, help="batches to validate on; 0: none")
    parser.add_argument("--device", default="cpu")
    options = parser.parse_args()
    if options.threads:
        torch.set_num_threads(options.threads)
    options.out.mkdir(parents=True, exist_ok=True)
    recipe = (Stage(options.objective, 600, large=0.0),) if options.objective else RECIPE
    vit = build_trunk(options.seed).to(options.device)
    told: list[dict[str, Any]] = []
    for number, stage in enumerate(recipe):
        stage = replace(stage, seed=stage.seed + options.seed, steps=(options.steps or stage.steps) // 2 * 2)
        if options.held_out:
            stage = replace(stage, families=_others(stage.families), kinds=_others(stage.kinds))
        name = "robis_vit_tiny" if number + 1 == len(recipe) else f"stage_{number + 1}"
        file, partial = (options.out / f"{name}.{suffix}" for suffix in ("safetensors", "partial"))
        if not file.exists():
            log = [*told, {"stage": asdict(stage) | {"threads": torch.get_num_threads()}}]
            for average, rows in train(vit, stage, options):
                _save(average, partial, log + rows)
            partial.rename(file)
        vit.load_state_dict(load_file(file))
        with safe_open(file, framework="pt") as stream:
            told = json.loads(stream.metadata()["log"])


def train(vit: Any, stage: Stage, options: argparse.Namespace) -> Iterator[tuple[Any, list[dict[str, Any]]]]:
    """Train the trunk; now and then, and at the end, the average of its weights, and what it is worth so far."""
    objective = OBJECTIVES[stage.objective](vit).to(options.device)
    trunk = list(vit.parameters())
    inside = {id(p) for p in trunk}
    heads = [p for p in objective.parameters() if p.requires_grad and id(p) not in inside]
    groups = [
        {"params": [p for p in trunk if p.ndim > 1], "weight_decay": 0.05},
        {"params": [p for p in trunk if p.ndim <= 1], "weight_decay": 0.0},
        {"params": [p for p in heads if p.ndim > 1], "weight_decay": 0.05},
        # The scales of distances follow what the trunk gives, not the other way round.
        {"params": [p for p in heads if p.ndim <= 1], "weight_decay": 0.0, "times": stage.heads},
    ]
    optimizer = torch.optim.AdamW(groups, lr=stage.rate, betas=(0.9, 0.98))
    average = copy.deepcopy(vit)
    rng = torch.Generator().manual_seed(stage.seed)
    rows: list[dict[str, Any]] = []
    began, recent = time.perf_counter(), 0.0
    for step, (pictures, masks) in enumerate(_batches(stage, options.workers)):
        for group in optimizer.param_groups:
            group["lr"] = _rate(step, stage) * group.get("times", 1.0)
        loss = objective.loss(pictures.to(options.device), masks.to(options.device), rng)
        if not math.isfinite(float(loss.detach())):
            raise SystemExit(f"step {step}: the loss is {float(loss)}; try a lower rate")
        optimizer.zero_grad(set_to_none=True)
        loss.backward()
        nn.utils.clip_grad_norm_([*trunk, *heads], 1.0)
        optimizer.step()
        objective.after_step()
        _follow(average, vit, min(0.998, (1 + step) / (10 + step)))
        recent = float(loss.detach()) if step == 0 else 0.98 * recent + 0.02 * float(loss.detach())
        if (step + 1) % 250 == 0 or step + 1 == stage.steps:
            row = {"step": step + 1, "minutes": round((time.perf_counter() - began) / 60, 1), "loss": round(recent, 4)}
            for kind, episodes in validation_episodes(options.held_out, options.validation).items():
                found = validate(average, episodes, options.device)
                row |= {f"{kind}, {name}": round(value, 4) for name, value in found.items()}
            rows.append(row)
            print(json.dumps(row), flush=True)
            yield average, rows


@torch.no_grad()
def _follow(average: nn.Module, vit: nn.Module, decay: float) -> None:
    """Move the average of past weights towards the present ones."""
    now = vit.state_dict()
    for name, value in average.state_dict().items():
        if value.is_floating_point():
            value.lerp_(now[name], 1 - decay)


def _batches(stage: Stage, workers: int) -> Iterator[tuple[torch.Tensor, torch.Tensor]]:
    large = int(stage.steps * stage.large) // 2 * 2
    supports = OBJECTIVES[stage.objective].supports
    drawn: dict[str, Any] = {"families": stage.families, "kinds": stage.kinds, "unsteady": stage.unsteady}
    small = Plan(2 * stage.seed, (stage.steps - large) // 2, supports=supports, queries=4 - supports, **drawn)
    wide = Plan(2 * stage.seed + 1, large // 2, textures=4, supports=1, queries=2, size=196, **drawn)
    for plan in (small, wide):
        ahead = 4 if workers else None
        for pictures, masks in DataLoader(Episodes(plan), batch_size=None, num_workers=workers, prefetch_factor=ahead):
            yield pictures, masks
            # Drawing costs as much as a third of a step: each batch serves twice, turned the second time.
            yield pictures.transpose(2, 3).flip(2), masks.transpose(2, 3).flip(2)


def _others(names: tuple[str, ...]) -> tuple[str, ...]:
    return tuple(name for name in names if name not in (*HELD_OUT_FAMILIES, *HELD_OUT_KINDS))


def _rate(step: int, stage: Stage) -> float:
    warm = min(200, stage.steps // 10 + 1)
    if step < warm:
        return stage.rate * (step + 1) / warm
    return stage.rate * (0.01 + 0.99 * 0.5 * (1 + math.cos(math.pi * (step - warm) / (stage.steps - warm))))


def _save(vit: nn.Module, file: Path, log: list[dict[str, Any]]) -> None:
    # Statistics of the batch norm stay as they are: a variance may be too small for float16.
    kept = {name for name, _ in vit.named_buffers()}
    state = {name: value.detach().cpu().contiguous() for name, value in vit.state_dict().items()}
    state = {name: value if name in kept else value.half() for name, value in state.items()}
    save_file(state, file, metadata={"made_by": "pretraining.train", "log": json.dumps(log)})


if __name__ == "__main__":
    main()
