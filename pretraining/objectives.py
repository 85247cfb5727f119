"""What the encoder is asked during training: one class per objective, all in `OBJECTIVES`, all on the same batches."""

from __future__ import annotations

import copy
import math
from collections.abc import Mapping
from functools import partial
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn.functional import (
    avg_pool2d,
    binary_cross_entropy_with_logits,
    cross_entropy,
    layer_norm,
    max_pool2d,
    normalize,
    pad,
    smooth_l1_loss,
)

from pretraining.statistics import COUNT, Standard
from pretraining.trunk import GRID, PATCH, READ, WIDTH, tokens_of


class Place:
    """Where on a larger picture a batch of crops is thought to lie: drawn per step, the same for a whole batch."""

    def __init__(self, rng: torch.Generator, side: int) -> None:
        self.grid = max(side, int(torch.randint(14, GRID + 1, (1,), generator=rng)))
        span = self.grid - side + 1
        row, column = torch.randint(0, span, (2,), generator=rng).tolist()
        self.corner = (row, column)


class Objective(nn.Module):
    """A loss on a batch of episodes; its heads are thrown away after training.

    Attributes:
        supports: how many of a texture's four pictures are surely whole.
    """

    supports = 2

    def __init__(self, vit: Any) -> None:
        super().__init__()
        self.vit = vit

    def loss(self, pictures: Tensor, masks: Tensor, rng: torch.Generator) -> Tensor:
        """Scalar loss of `pictures` (E, K + Q, s, s, 3) uint8 and `masks` (E, Q, s, s) bool."""
        raise NotImplementedError

    def after_step(self) -> None:
        """What follows an optimizer step."""


class MaskedStatistics(Objective):
    """Masked prediction: of half of the patches, hidden, tell the statistics from what is around them."""

    def __init__(self, vit: Any) -> None:
        super().__init__(vit)
        self.hidden = nn.Parameter(torch.zeros(1, 1, WIDTH))
        self.head = nn.Sequential(
            nn.LayerNorm(WIDTH), nn.Linear(WIDTH, 2 * WIDTH), nn.GELU(), nn.Linear(2 * WIDTH, COUNT)
        )
        self.statistics = Standard()

    def loss(self, pictures: Tensor, masks: Tensor, rng: torch.Generator) -> Tensor:
        flat = pictures.flatten(0, 1)
        targets = self.statistics(flat)
        mask = torch.rand(targets.shape[:2], generator=rng).to(flat.device) < 0.5
        place = Place(rng, math.isqrt(targets.shape[1]))
        tokens = tokens_of(self.vit, flat, grid=place.grid, corner=place.corner, hidden=self.hidden, mask=mask)[-1]
        return smooth_l1_loss(self.head(tokens)[mask], targets[mask])


class Contrast(Objective):
    """Dense contrast: a patch under another light is itself; patches elsewhere and in other pictures are not."""

    def __init__(self, vit: Any) -> None:
        super().__init__(vit)
        self.heads = nn.ModuleList(nn.Linear(WIDTH, 128) for _ in READ)

    def loss(self, pictures: Tensor, masks: Tensor, rng: torch.Generator) -> Tensor:
        flat = pictures[:, ::2].flatten(0, 1)
        place = Place(rng, flat.shape[1] // PATCH)
        first, second = (tokens_of(self.vit, relit(flat, rng), grid=place.grid, corner=place.corner) for _ in range(2))
        total = torch.zeros((), device=flat.device)
        for head, a, b in zip(self.heads, first, second, strict=True):
            a, b = (normalize(head(x).flatten(0, 1), dim=1) for x in (a, b))
            total = total + cross_entropy(a @ b.T / 0.1, torch.arange(len(a), device=a.device))
        return total / len(READ)


class Distillation(Objective):
    """Self-distillation on patches: name the hidden ones as a slower copy of the network, which sees them, does."""

    def __init__(self, vit: Any) -> None:
        super().__init__(vit)
        self.hidden = nn.Parameter(torch.zeros(1, 1, WIDTH))
        self.head = nn.Sequential(nn.Linear(WIDTH, WIDTH), nn.GELU(), nn.Linear(WIDTH, 512))
        self.teacher = copy.deepcopy(nn.ModuleDict({"vit": vit, "head": self.head})).requires_grad_(False)
        self.center = torch.zeros(512)

    def loss(self, pictures: Tensor, masks: Tensor, rng: torch.Generator) -> Tensor:
        flat = pictures.flatten(0, 1)
        side = flat.shape[1] // PATCH
        mask = torch.rand((len(flat), side * side), generator=rng).to(flat.device) < 0.4
        place = Place(rng, side)
        with torch.no_grad():
            seen = tokens_of(self.teacher["vit"], relit(flat, rng), grid=place.grid, corner=place.corner)[-1]
            named = self.teacher["head"](seen)
            center = self.center.to(named.device)
            wanted = ((named - center) / 0.04).softmax(-1)
            self.center = 0.9 * center + 0.1 * named.mean((0, 1))
        tokens = tokens_of(
            self.vit, relit(flat, rng), grid=place.grid, corner=place.corner, hidden=self.hidden, mask=mask
        )[-1]
        guesses = (self.head(tokens) / 0.1).log_softmax(-1)
        return -(wanted * guesses).sum(-1)[mask].mean()

    def after_step(self) -> None:
        own = nn.ModuleDict({"vit": self.vit, "head": self.head})
        for slow, fast in zip(self.teacher.parameters(), own.parameters(), strict=True):
            slow.data.lerp_(fast.data, 0.01)


class Pasted(Objective):
    """Telling a damaged patch from its surroundings, within one picture."""

    def __init__(self, vit: Any) -> None:
        super().__init__(vit)
        self.heads = nn.ModuleList(nn.Sequential(nn.LayerNorm(WIDTH), nn.Linear(WIDTH, 1)) for _ in READ)

    def loss(self, pictures: Tensor, masks: Tensor, rng: torch.Generator) -> Tensor:
        supports = pictures.shape[1] - masks.shape[1]
        flat = pictures[:, supports:].flatten(0, 1)
        place = Place(rng, flat.shape[1] // PATCH)
        tokens = tokens_of(self.vit, flat, grid=place.grid, corner=place.corner)
        target, weight = patch_labels(masks.flatten(0, 1))
        logits = torch.stack([head(x).squeeze(-1) for head, x in zip(self.heads, tokens, strict=True)])
        return balanced(logits, target.expand_as(logits), weight.expand_as(logits))


class Scales(nn.Module):
    """Two learned numbers per measure, the same for all textures, that turn distances into how likely damage is."""

    def __init__(self) -> None:
        super().__init__()
        measures = 2 * len(READ) + 1
        self.slope = nn.Parameter(torch.full((measures,), 1.5))
        self.offset = nn.Parameter(torch.full((measures,), -2.0))

    def forward(self, measures: list[Tensor], target: Tensor, weight: Tensor) -> Tensor:
        """How badly the measures, each (P,), tell the labels (P,) of patches."""
        logits = self.slope.exp()[:, None] * torch.stack(measures) + self.offset[:, None]
        return balanced(logits, target.expand_as(logits), weight.expand_as(logits))


class Retrieval(Objective):
    """Telling damaged patches by how far the nearest patch of whole pictures of the same texture is.

    At each block of `READ` the distance is taken as superadd takes it (Euclidean, raw tokens) and as INP-Former and
    MuSc do (cosine, after normalization), and at last over the blocks' mean. Each is scaled by two numbers that are
    learned and the same for all textures.
    """

    def __init__(self, vit: Any) -> None:
        super().__init__(vit)
        self.scales = Scales()

    def loss(self, pictures: Tensor, masks: Tensor, rng: torch.Generator) -> Tensor:
        place = Place(rng, pictures.shape[2] // PATCH)
        return self.told(tokens_of(self.vit, pictures.flatten(0, 1), grid=place.grid, corner=place.corner), masks)

    def told(self, tokens: list[Tensor], masks: Tensor) -> Tensor:
        """How badly distances tell damaged patches."""
        target, weight = patch_labels(masks.flatten(0, 1))
        return self.scales([d.flatten() for d in nearest(tokens, *masks.shape[:2])], target.flatten(), weight.flatten())


class Statistics(Objective):
    """The first numbers of a token are the statistics of its patch, the others small, at every block of `READ`.

    So the distance of two tokens is that of their statistics: what plain statistics can do is where others begin.
    """

    def __init__(self, vit: Any) -> None:
        super().__init__(vit)
        self.statistics = Standard()

    def loss(self, pictures: Tensor, masks: Tensor, rng: torch.Generator) -> Tensor:
        flat = pictures.flatten(0, 1)
        place = Place(rng, flat.shape[1] // PATCH)
        return self.gap(tokens_of(self.vit, flat, grid=place.grid, corner=place.corner), flat)

    def gap(self, tokens: list[Tensor], pictures: Tensor) -> Tensor:
        """How far tokens are from their patches' statistics."""
        targets = self.statistics(pictures)
        told = torch.stack([smooth_l1_loss(block[..., :COUNT], targets) for block in tokens]).mean()
        rest = torch.stack([block[..., COUNT:].square().mean() for block in tokens]).mean()
        return told + 0.05 * rest


class Mixed(Objective):
    """Retrieval, and the statistics, the less of them the longer it trains."""

    def __init__(self, vit: Any) -> None:
        super().__init__(vit)
        self.retrieval, self.statistics = Retrieval(vit), Statistics(vit)
        self.share = 1.0

    def loss(self, pictures: Tensor, masks: Tensor, rng: torch.Generator) -> Tensor:
        flat = pictures.flatten(0, 1)
        place = Place(rng, flat.shape[1] // PATCH)
        tokens = tokens_of(self.vit, flat, grid=place.grid, corner=place.corner)
        return self.retrieval.told(tokens, masks) + self.share * self.statistics.gap(tokens, flat)

    def after_step(self) -> None:
        self.share = max(0.1, self.share * 0.999)


class Material(Objective):
    """Every picture in turn is judged by the whole patches of the other pictures of its texture.

    Damaged patches have to be further from the nearest of them than whole ones are, by the same measures as in
    `Retrieval`. And whole ones have to be nearer to them than to patches of the batch's other textures: which material
    a patch belongs to asks for more than whether it is damaged. A little of the statistics keeps tokens from drifting.
    """

    supports = 1
    # Whole patches of a batch that are asked for their material.
    ASKED = 128

    def __init__(self, vit: Any) -> None:
        super().__init__(vit)
        self.scales = Scales()
        self.sharpness = nn.Parameter(torch.full((2 * len(READ),), 2.0))
        self.statistics = Statistics(vit)

    def loss(self, pictures: Tensor, masks: Tensor, rng: torch.Generator) -> Tensor:
        flat = pictures.flatten(0, 1)
        place = Place(rng, flat.shape[1] // PATCH)
        tokens = tokens_of(self.vit, flat, grid=place.grid, corner=place.corner)
        masks = pad(masks, (0, 0, 0, 0, pictures.shape[1] - masks.shape[1], 0))
        return self.told(tokens, masks, rng) + 0.02 * self.statistics.gap(tokens, flat)

    def told(self, tokens: list[Tensor], masks: Tensor, rng: torch.Generator) -> Tensor:
        """How badly distances tell damaged patches, and materials, of masks (E, K, s, s) of all pictures."""
        textures, each = masks.shape[:2]
        target, weight = (x.flatten() for x in patch_labels(masks.flatten(0, 1)))
        clean = (target == 0) & (weight > 0)
        picture = torch.arange(textures * each, device=clean.device).repeat_interleave(tokens[0].shape[1])
        places = clean.nonzero().squeeze(1)
        asked = places[torch.randperm(len(places), generator=rng)[: self.ASKED].to(places.device)]
        elsewhere = clean & (picture[asked, None] != picture)
        own = elsewhere & (picture[asked, None] // each == picture // each)
        # What has nothing whole elsewhere on its texture cannot be asked.
        asked, elsewhere, own = (x[own.any(1)] for x in (asked, elsewhere, own))
        apart = clean.view(textures, 1, -1) & (picture.view(textures, -1, 1) != picture.view(textures, 1, -1))
        weight = weight * apart.any(-1).flatten()
        measures: list[Tensor] = []
        wrong: list[Tensor] = []
        for block in tokens:
            x = block.flatten(0, 1)
            grouped = x.unflatten(0, (textures, -1))
            for measure in (partial(euclidean, tokens=x), one_minus_cosine):
                measures.append(measure(grouped, grouped).masked_fill(~apart, 99).amin(-1).flatten())
                near = -self.sharpness[len(wrong)].exp() * measure(x[asked], x)
                wrong.append(_log_sum(near, elsewhere) - _log_sum(near, own))
        measures.append(torch.stack(measures[::2]).mean(0))
        return self.scales(measures, target, weight) + torch.stack(wrong).mean()


def _log_sum(logits: Tensor, chosen: Tensor) -> Tensor:
    """Logarithm of the summed exponentials of the chosen."""
    return logits.masked_fill(~chosen, -1e4).logsumexp(-1)


OBJECTIVES: Mapping[str, type[Objective]] = {
    "masked": MaskedStatistics,
    "contrast": Contrast,
    "distillation": Distillation,
    "pasted": Pasted,
    "statistics": Statistics,
    "retrieval": Retrieval,
    "mixed": Mixed,
    "material": Material,
}


def nearest(tokens: list[Tensor], episodes: int, queries: int) -> list[Tensor]:
    """Distances of the queries' tokens to the nearest of their supports, each (episodes, queries * N).

    Euclidean ones per block, in units of the tokens' spread, 1 - cos per block, and the mean of the Euclidean ones.
    """
    euclid, cosine = [], []
    for block in tokens:
        grouped = block.unflatten(0, (episodes, -1))
        support, query = grouped[:, :-queries].flatten(1, 2), grouped[:, -queries:].flatten(1, 2)
        euclid.append(euclidean(query, support, block).amin(-1))
        cosine.append(one_minus_cosine(query, support).amin(-1))
    return [*euclid, *cosine, torch.stack(euclid).mean(0)]


def euclidean(queries: Tensor, keys: Tensor, tokens: Tensor) -> Tensor:
    """Distances (..., Q, K) in units of the spread of `tokens` (..., C)."""
    spread = tokens.detach().flatten(0, -2).var(0).sum().sqrt()
    squares = queries.square().sum(-1)[..., None] + keys.square().sum(-1)[..., None, :]
    return (squares - 2 * queries @ keys.mT).clamp(min=1e-6).sqrt() / spread


def one_minus_cosine(queries: Tensor, keys: Tensor) -> Tensor:
    """1 - cos (..., Q, K) after normalization of each token."""
    q, k = (normalize(layer_norm(x, x.shape[-1:]), dim=-1) for x in (queries, keys))
    return 1 - q @ k.mT


def patch_labels(masks: Tensor) -> tuple[Tensor, Tensor]:
    """How much of each patch is damaged, as a label 0..1, and its weight: hardly touched patches do not count.

    Both float32 (B, N), of bool masks (B, s, s).
    """
    share = avg_pool2d(masks[:, None].float(), PATCH).flatten(1)
    near = max_pool2d(share.unflatten(1, (math.isqrt(share.shape[1]),) * 2)[:, None], 3, 1, 1).flatten(1)
    target = (share / 0.08).clamp(max=1)
    unsure = ((share > 0) & (share < 0.03)) | ((share == 0) & (near > 0.3))
    return target, 1 - unsure.float()


def balanced(logits: Tensor, target: Tensor, weight: Tensor) -> Tensor:
    """Binary cross entropy in which damaged patches, however few, weigh a third as much as whole ones."""
    each = binary_cross_entropy_with_logits(logits, target, reduction="none")
    bad, good = weight * (target > 0.5), weight * (target <= 0.5)
    return 0.75 * (each * good).sum() / good.sum().clamp(min=1) + 0.25 * (each * bad).sum() / bad.sum().clamp(min=1)


def relit(images: Tensor, rng: torch.Generator) -> Tensor:
    """The same pictures under other light, with other noise, uint8 (B, s, s, 3)."""
    count = len(images)
    gain = (0.15 * torch.randn((count, 1, 1, 1), generator=rng)).exp().to(images.device)
    shift = (8 * torch.randn((count, 1, 1, 3), generator=rng)).to(images.device)
    noise = (4 * torch.randn(images.shape, generator=rng)).to(images.device)
    return (images * gain + shift + noise).clamp(0, 255).to(torch.uint8)
