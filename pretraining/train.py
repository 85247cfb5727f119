"""Train the shipped encoder: `python -m pretraining.train --out FOLDER`. See pretraining/README.md."""

from __future__ import annotations

import argparse
import copy
import json
import math
import time
from dataclasses import replace
from pathlib import Path
from typing import Any

import torch
from safetensors.torch import save_file
from torch import nn
from torch.utils.data import DataLoader

from pretraining.defects import KINDS
from pretraining.episodes import HELD_OUT_FAMILIES, HELD_OUT_KINDS, Episodes, Plan
from pretraining.objectives import OBJECTIVES
from pretraining.textures import FAMILIES
from pretraining.trunk import build_trunk
from pretraining.validation import validate


def main() -> None:
    """Train, validate now and then, and write the encoder with what it says of itself."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--out", type=Path, required=True)
    parser.add_argument("--objective", choices=list(OBJECTIVES), default="mixed")
    parser.add_argument("--steps", type=int, default=6000, help="optimizer steps")
    parser.add_argument("--large", type=float, default=0.15, help="share of the steps, the last, on pictures of 196 px")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--rate", type=float, default=1e-3, help="highest learning rate")
    parser.add_argument("--threads", type=int, default=0, help="of torch; 0 takes all cores")
    parser.add_argument("--workers", type=int, default=1, help="processes that draw pictures")
    parser.add_argument("--held-out", action="store_true", help="keep some families and defects for validation only")
    parser.add_argument("--validation", type=int, default=8, help="batches to validate on")
    parser.add_argument("--device", default="cpu")
    options = parser.parse_args()
    options.steps -= options.steps % 2
    if options.threads:
        torch.set_num_threads(options.threads)
    options.out.mkdir(parents=True, exist_ok=True)
    vit = build_trunk(options.seed).to(options.device)
    objective = OBJECTIVES[options.objective](vit).to(options.device)
    trained = [p for p in objective.parameters() if p.requires_grad]
    matrices, others = [p for p in trained if p.ndim > 1], [p for p in trained if p.ndim <= 1]
    groups = [{"params": matrices, "weight_decay": 0.05}, {"params": others, "weight_decay": 0.0}]
    optimizer = torch.optim.AdamW(groups, lr=options.rate, betas=(0.9, 0.98))
    average = copy.deepcopy(vit)
    rng = torch.Generator().manual_seed(options.seed)
    log: list[dict[str, Any]] = []
    began, recent = time.perf_counter(), 0.0
    for step, (pictures, masks) in enumerate(_batches(options)):
        for group in optimizer.param_groups:
            group["lr"] = _rate(step, options)
        loss = objective.loss(pictures.to(options.device), masks.to(options.device), rng)
        if not math.isfinite(float(loss.detach())):
            raise SystemExit(f"step {step}: the loss is {float(loss)}; try a lower --rate")
        optimizer.zero_grad(set_to_none=True)
        loss.backward()
        nn.utils.clip_grad_norm_(trained, 1.0)
        optimizer.step()
        objective.after_step()
        _follow(average, vit, min(0.998, (1 + step) / (10 + step)))
        recent = float(loss.detach()) if step == 0 else 0.98 * recent + 0.02 * float(loss.detach())
        if (step + 1) % 250 == 0 or step + 1 == options.steps:
            found = validate(average, _validation_plan(options), options.device)
            row = {"step": step + 1, "minutes": round((time.perf_counter() - began) / 60, 1), "loss": round(recent, 4)}
            log.append({**row, **{name: round(value, 4) for name, value in found.items()}})
            print(json.dumps(log[-1]), flush=True)
            _save(average, options, log)


@torch.no_grad()
def _follow(average: nn.Module, vit: nn.Module, decay: float) -> None:
    """Move the average of past weights towards the present ones."""
    now = vit.state_dict()
    for name, value in average.state_dict().items():
        if value.is_floating_point():
            value.lerp_(now[name], 1 - decay)


def _batches(options: argparse.Namespace) -> Any:
    families, kinds = tuple(FAMILIES), tuple(KINDS)
    if options.held_out:
        families = tuple(f for f in families if f not in HELD_OUT_FAMILIES)
        kinds = tuple(k for k in kinds if k not in HELD_OUT_KINDS)
    large = int(options.steps * options.large) // 2 * 2
    small = Plan(options.seed, (options.steps - large) // 2, families=families, kinds=kinds)
    wide = Plan(
        options.seed + 1, large // 2, textures=4, supports=1, queries=2, size=196, families=families, kinds=kinds
    )
    for plan in (small, wide):
        workers = max(0, options.workers)
        ahead = 4 if workers else None
        for pictures, masks in DataLoader(Episodes(plan), batch_size=None, num_workers=workers, prefetch_factor=ahead):
            yield pictures, masks
            # Drawing costs as much as a third of a step: each batch serves twice, turned the second time.
            yield pictures.transpose(2, 3).flip(2), masks.transpose(2, 3).flip(2)


def held_out_plan() -> Plan:
    """What encoders trained with `--held-out` are judged on: no texture or defect of a kind that they have seen."""
    return Plan(2**20, 8, supports=3, queries=4, families=HELD_OUT_FAMILIES, kinds=HELD_OUT_KINDS)


def _validation_plan(options: argparse.Namespace) -> Plan:
    plan = held_out_plan() if options.held_out else Plan(2**20, 8, supports=3, queries=4)
    return replace(plan, steps=options.validation)


def _rate(step: int, options: argparse.Namespace) -> float:
    warm = min(200, options.steps // 10 + 1)
    if step < warm:
        return float(options.rate * (step + 1) / warm)
    return float(options.rate * (0.01 + 0.99 * 0.5 * (1 + math.cos(math.pi * (step - warm) / (options.steps - warm)))))


def _save(vit: nn.Module, options: argparse.Namespace, log: list[dict[str, Any]]) -> None:
    # Statistics of the batch norm stay as they are: a variance may be too small for float16.
    kept = {name for name, _ in vit.named_buffers()}
    state = {name: value.detach().cpu().contiguous() for name, value in vit.state_dict().items()}
    state = {name: value if name in kept else value.half() for name, value in state.items()}
    told = {name: value for name, value in vars(options).items() if name != "out"}
    about = {"made_by": "pretraining.train", "options": json.dumps(told), "log": json.dumps(log)}
    save_file(state, options.out / "robis_vit_tiny.safetensors", metadata=about)


if __name__ == "__main__":
    main()
