"""The optimizer and the learning rate of INP-Former's training."""

from __future__ import annotations

import math
from collections.abc import Iterable

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
            beta1, beta2 = group["betas"]
            for p in group["params"]:
                if p.grad is None:
                    continue
                state = self.state[p]
                if not state:
                    state["step"] = 0
                    for name in ("mean", "square", "largest_square"):
                        state[name] = torch.zeros_like(p)
                state["step"] += 1
                p.mul_(1 - group["lr"] * group["weight_decay"])
                state["mean"].lerp_(p.grad, 1 - beta1)
                state["square"].mul_(beta2).addcmul_(p.grad, p.grad, value=1 - beta2)
                torch.maximum(state["largest_square"], state["square"], out=state["largest_square"])
                correction = 1 - beta1 ** state["step"]
                root_correction = math.sqrt(1 - beta2 ** state["step"])
                denominator = (state["largest_square"].sqrt() / root_correction).add_(group["eps"])
                # Kept as a tensor: asking for its value would make a GPU wait.
                too_large = (p.grad / denominator).square_().mean().sqrt_().clamp_(min=1)
                p.sub_(state["mean"] / denominator * (group["lr"] / correction / too_large))


def learning_rate(step: int, total: int, *, warmup: int, highest: float, final: float) -> float:
    """Learning rate of a 0-based step: linear from 0 to `highest` over `warmup` steps, then cosine to `final`."""
    if step < warmup:
        return highest * step / (warmup - 1) if warmup > 1 else 0.0
    if step >= total:
        return final
    return final + 0.5 * (highest - final) * (1 + math.cos(math.pi * (step - warmup) / (total - warmup)))
