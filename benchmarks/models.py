"""INP-Former twice with the same weights, robis's and the plain one, and how the two are compared.

Needs torch, timm, NumPy and OpenCV, no tables and no workflow.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property
from typing import Any

import torch
from torch import Tensor

from benchmarks.harness import require
from benchmarks.plain.inp_former import PlainInpFormer, PlainStableAdamW, plain_step
from robis.detectors.inp_former.model import InpFormer, InpFormerLoss, initialize
from robis.detectors.reconstruction.maps import tile_maps
from robis.detectors.reconstruction.optimizer import StableAdamW
from robis.detectors.reconstruction.step import Recipe, train_step
from robis.encoders.encoder import Choice
from robis.encoders.vit import build_vit

LEARNING_RATE = 1e-4
LOSS = InpFormerLoss(coherence_weight=0.2, mining_power=3.0)
# Of maps, whose range is 0..2, in float32.
MAPS_AGREE = 2e-5


@dataclass(frozen=True)
class Size:
    """An encoder and its input: a real one, or a tiny one that shows that everything runs.

    Attributes:
        encoder: its name.
        side: of a tile in pixels.
        map_side: of a tile's map.
        blocks: whose tokens are used; None takes the published ones.
    """

    encoder: str
    side: int
    map_side: int
    blocks: tuple[int, ...] | None = None


TINY = Size("vit_tiny_patch16_224", 64, 32, (2, 3, 4, 5))
SMALL = Size("dinov2_reg_vits14", 518, 256)
BASE = Size("dinov2_reg_vitb14", 518, 256)


class Pair:
    """Both models on a device, and an optimizer of each.

    Attributes:
        ours, plain: robis's model and the plain one.
    """

    def __init__(self, size: Size, device: torch.device, batch: int = 1) -> None:
        self.size, self.device, self.batch = size, device, batch
        # Not by `build_encoder`, which knows CLIPs and so needs open_clip.
        encoder = build_vit(Choice(size.encoder, "random", input_size=size.side, blocks=size.blocks))
        self.ours = InpFormer(encoder)
        initialize(self.ours, 0)
        make_everything_count(self.ours)
        self.ours.to(device).eval()
        self.plain = PlainInpFormer(
            self.ours.state_dict(), blocks=encoder.blocks, heads=encoder.heads, mean=encoder.mean, std=encoder.std
        )
        generator = torch.Generator().manual_seed(1)
        shape = (batch, size.side, size.side, 3)
        self.tiles = torch.randint(0, 256, shape, dtype=torch.uint8, generator=generator).to(device)

    @cached_property
    def optimizer(self) -> StableAdamW:
        """Of robis's model."""
        return StableAdamW([p for p in self.ours.parameters() if p.requires_grad], lr=LEARNING_RATE)

    @cached_property
    def plain_optimizer(self) -> PlainStableAdamW:
        """Of the plain model."""
        return PlainStableAdamW(list(self.plain.parameters.values()))

    @torch.inference_mode()
    def our_maps(self) -> Tensor:
        """Maps of the tiles by robis, on the CPU or in the precision that is set outside."""
        return tile_maps(self.ours, self.tiles, self.size.map_side)

    @torch.inference_mode()
    def plain_maps(self) -> Tensor:
        """Maps of the tiles by the plain formulation."""
        return self.plain.tile_maps(self.tiles, self.size.map_side)

    def our_step(self) -> tuple[float, dict[str, Tensor]]:
        """One step by robis in float32: the loss and the gradients that it took."""
        ours, tiles = self.ours, self.tiles
        loss, _ = train_step(lambda batch: LOSS(ours(batch)), self.optimizer, tiles, LEARNING_RATE, recipe("float32"))
        return loss, {name: p.grad for name, p in self.ours.named_parameters() if p.grad is not None}

    def plain_step(self) -> tuple[float, dict[str, Tensor]]:
        """One step by the plain formulation: the loss and the gradients that it took."""
        loss = plain_step(self.plain, self.plain_optimizer, self.tiles, LEARNING_RATE)
        return loss, {name: p.grad for name, p in self.plain.parameters.items() if p.grad is not None}

    def forget_gradients(self) -> None:
        """Free the gradients of both sides."""
        for p in (*self.ours.parameters(), *self.plain.parameters.values()):
            p.grad = None

    def flops(self, decoder: int = 10) -> tuple[int, int]:
        """Floating-point operations in matrix products per tile: of maps, of a step.

        Encoder: 24 C^2 per token and block in linear layers, 4 C per pair of tokens in attention, patches. Decoder:
        `decoder` C^2 per token and block, 20 in the plain formulation, 10 in robis, which projects the values and
        applies the MLP's first layer to the rows that tokens are sums of. Products with the few prototypes are left
        out. A step takes three times the maps' share of what is trained.
        """
        encoder = self.ours.encoder
        vit: Any = encoder.vit
        width, tokens, blocks = encoder.width, encoder.grid**2, len(encoder.blocks)
        every = tokens + int(vit.num_prefix_tokens)
        depth = encoder.blocks[-1] + 1
        frozen = depth * (24 * width**2 * every + 4 * width * every**2)
        frozen += 2 * 3 * (encoder.input_size // encoder.grid) ** 2 * width * tokens
        # The bottleneck, and keys and values of the aggregation.
        trained = (16 + 4 + decoder * blocks) * width**2 * tokens
        return frozen + trained, frozen + 3 * trained

    def plain_flops(self) -> tuple[int, int]:
        """The same of the plain formulation."""
        return self.flops(decoder=20)


@torch.no_grad()
def make_everything_count(model: InpFormer) -> None:
    """Random biases and scales: start values of 0 or 0.00001 would hide errors in what they multiply."""
    generator = torch.Generator().manual_seed(2)
    for name, p in model.named_parameters():
        noise = torch.randn(p.shape, generator=generator)
        if name.endswith("bias"):
            p.copy_(0.02 * noise)
        elif name.endswith(("gamma", "norm1.weight", "norm2.weight", "learn_scale")):
            p.copy_(1 + 0.1 * noise)


def recipe(precision: str) -> Recipe:
    """The published hyper-parameters of a step."""
    return Recipe(
        section="inp_former",
        steps=10_000,
        batch_size=16,
        learning_rate=1e-3,
        final_learning_rate=LEARNING_RATE,
        warmup_steps=100,
        weight_decay=1e-4,
        gradient_clip=0.1,
        eps=1e-10,
        augment=True,
        precision=precision,
        compile=False,
        checkpoint_every=1,
        seed=0,
    )


def same_maps(plain: Tensor, ours: Tensor) -> str:
    """Whether maps agree as float32 sums in another order do."""
    difference = (plain - ours).abs().max().item()
    require(plain.std().item() > 1e-3, "maps are flat and would agree with anything")
    require(difference < MAPS_AGREE, f"maps differ by {difference:.1e}")
    return f"maps differ by at most {difference:.0e} of 2"


def same_steps(plain: tuple[float, dict[str, Tensor]], ours: tuple[float, dict[str, Tensor]]) -> str:
    """Whether the losses agree, and every tensor's gradient; `same_updates` compares what is done with it."""
    loss = abs(plain[0] - ours[0]) / abs(plain[0])
    require(loss < 1e-5, f"losses are {plain[0]} and {ours[0]}")
    require(set(plain[1]) == set(ours[1]), "different parameters have gradients")
    worst = max(((ours[1][name] - g).norm() / g.norm()).item() for name, g in plain[1].items())
    require(worst < 1e-3, f"a gradient differs by {worst:.1e} of its size")
    return f"loss differs by {loss:.0e}, gradients by at most {worst:.0e}"


def same_updates(pair: Pair, steps: int = 3) -> str:
    """Whether both optimizers, given the same gradients, move the same weights alike. Changes neither model."""
    generator = torch.Generator().manual_seed(3)
    start = [p.detach() for p in pair.plain.parameters.values()]
    ours, plain = ([torch.nn.Parameter(p.clone()) for p in start] for _ in range(2))
    first, second = StableAdamW(ours, lr=LEARNING_RATE), PlainStableAdamW(plain)
    for step in range(steps):
        for x, y in zip(ours, plain, strict=True):
            # Gradients that grow are those whose step is made smaller.
            x.grad = torch.randn(x.shape, generator=generator).to(x.device) * 10**step
            y.grad = x.grad.clone()
        first.step()
        second.step(LEARNING_RATE)
    moved = zip(start, ours, plain, strict=True)
    worst = max(((a - b).norm() / (b - p).norm()).item() for p, a, b in moved)
    require(worst < 1e-3, f"updates of equal gradients differ by {worst:.1e} of their size")
    return f"updates of equal gradients differ by {worst:.0e}"
