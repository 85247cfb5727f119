"""The optimizer and the learning rate of training."""

from __future__ import annotations

import math
from collections.abc import Iterable
from typing import Any

import torch
from torch import Tensor


class StableAdamW(torch.optim.Optimizer):
    """AdamW with amsgrad whose step is divided, tensor by tensor, by max(1, RMS(gradient / denominator)).

    Decoupled weight decay comes first: p *= 1 - lr * weight_decay. The clipping of the update is that of
    Wortsman et al., "Stable and low-precision training for large-scale vision-language models" (2023),
    with the denominator of amsgrad, as in the public code of INP-Former.
    """

    def __init__(
        self,
        params: Iterable[Tensor],
        lr: float = 1e-3,
        betas: tuple[float, float] = (0.9, 0.999),
        eps: float = 1e-10,
        weight_decay: float = 1e-4,
    ) -> None:
        super().__init__(params, {"lr": lr, "betas": betas, "eps": eps, "weight_decay": weight_decay})

    @torch.no_grad()
    def step(self, closure: None = None) -> None:  # type: ignore[override]
        """Update every parameter that has a gradient."""
        for group in self.param_groups:
            params = [p for p in group["params"] if p.grad is not None]
            for p in params:
                if not self.state[p]:
                    zeros = {name: torch.zeros_like(p) for name in ("mean", "square", "largest_square")}
                    self.state[p].update({"step": 0} | zeros)
            for together in _launched_together(params):
                self._update(together, group)

    def _update(self, params: list[Tensor], group: dict[str, Any]) -> None:
        beta1, beta2 = group["betas"]
        states = [self.state[p] for p in params]
        gradients = [p.grad for p in params if p.grad is not None]
        mean, square, largest = ([state[name] for state in states] for name in ("mean", "square", "largest_square"))
        for state in states:
            state["step"] += 1
        correction = 1 - beta1 ** states[0]["step"]
        root_correction = math.sqrt(1 - beta2 ** states[0]["step"])
        torch._foreach_mul_(params, 1 - group["lr"] * group["weight_decay"])
        torch._foreach_lerp_(mean, gradients, 1 - beta1)
        torch._foreach_mul_(square, beta2)
        torch._foreach_addcmul_(square, gradients, gradients, value=1 - beta2)
        torch._foreach_maximum_(largest, square)
        denominator = torch._foreach_sqrt(largest)
        torch._foreach_div_(denominator, root_correction)
        torch._foreach_add_(denominator, group["eps"])
        # Kept as tensors: asking for their values would make a GPU wait.
        too_large = torch._foreach_norm(torch._foreach_div(gradients, denominator))
        torch._foreach_div_(too_large, [math.sqrt(p.numel()) for p in params])
        torch._foreach_clamp_min_(too_large, 1.0)
        torch._foreach_reciprocal_(too_large)
        torch._foreach_mul_(too_large, group["lr"] / correction)
        update = torch._foreach_div(mean, denominator)
        torch._foreach_mul_(update, too_large)
        torch._foreach_sub_(params, update)


def _launched_together(params: list[Tensor]) -> list[list[Tensor]]:
    """On a GPU all at once, a few launches instead of thousands; on a CPU one by one, which stay in its caches."""
    if not params or params[0].device.type == "cpu":
        return [[p] for p in params]
    return [params]


def learning_rate(step: int, total: int, *, warmup: int, highest: float, final: float) -> float:
    """Learning rate of a 0-based step: linear from 0 to `highest` over `warmup` steps, then cosine to `final`."""
    if step < warmup:
        return highest * step / (warmup - 1) if warmup > 1 else 0.0
    if step >= total:
        return final
    return final + 0.5 * (highest - final) * (1 + math.cos(math.pi * (step - warmup) / (total - warmup)))
