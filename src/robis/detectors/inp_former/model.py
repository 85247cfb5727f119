"""INP-Former (arXiv 2503.02424), as RoBiS uses it on tiles: the model and its loss.

The names of the parameters are those of the public code, so that published checkpoints load as they are.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from robis.detectors.reconstruction.loss import kept_mean, mined_loss
from robis.detectors.reconstruction.network import (
    Block,
    Mlp,
    Reconstruction,
    float32,
    full_precision,
    initialize_linear,
    two_groups,
)
from robis.encoders.encoder import Encoder
from robis.encoders.fitting import check_state


class _CrossAttention(nn.Module):
    """Projections that the two attentions below share."""

    def __init__(self, width: int, heads: int) -> None:
        super().__init__()
        self.heads = heads
        self.q = nn.Linear(width, width)
        self.kv = nn.Linear(width, 2 * width)
        self.proj = nn.Linear(width, width)

    def project(self, x: Tensor, y: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        """Queries of x, keys and values of y, each (B, heads, tokens, C/heads)."""
        q = self.q(x).unflatten(-1, (self.heads, -1)).transpose(1, 2)
        k, v = self.kv(y).unflatten(-1, (2, self.heads, -1)).permute(2, 0, 3, 1, 4)
        return q, k, v


class SoftmaxAttention(_CrossAttention):
    """softmax(q k^T / sqrt(C/h)) v."""

    def forward(self, x: Tensor, y: Tensor) -> Tensor:
        attended = F.scaled_dot_product_attention(*self.project(x, y))
        return self.proj(attended.transpose(1, 2).flatten(2))


class ReluAttention(_CrossAttention):
    """Cosine similarity times a learned scale per head, ReLU, no normalization: what no INP explains stays out.

    There are many queries x (N tokens) and few keys y (P INPs): what is found for a token is a sum of heads * P rows.
    So queries are neither normalized nor copied head by head, and rows are projected instead of tokens.
    """

    same_head: Tensor

    def __init__(self, width: int, heads: int) -> None:
        super().__init__(width, heads)
        self.learn_scale = nn.Parameter(torch.ones(heads, 1, 1))
        # 1 where two heads are the same: keeps each head's queries from the other heads' keys.
        self.register_buffer("same_head", torch.eye(heads).view(heads, 1, heads, 1), persistent=False)

    def forward(self, x: Tensor, y: Tensor) -> Tensor:
        weights, rows = self.factors(x, y)
        return weights @ rows

    def factors(self, x: Tensor, y: Tensor) -> tuple[Tensor, Tensor]:
        """Weights (B, N, R) and rows (B, R, C) whose product is the attention's result.

        The rows are the projected values, the projection's bias, whose weight is 1, and zeros: at least one, and up to
        a multiple of eight, which GPUs multiply fastest.
        """
        q = self.q(x)
        k, v = self.kv(y).unflatten(-1, (2, self.heads, -1)).permute(2, 0, 3, 4, 1)
        lengths = q.unflatten(-1, (self.heads, -1)).norm(dim=-1, dtype=torch.promote_types(q.dtype, torch.float32))
        keys = F.normalize(full_precision(k), dim=2).unsqueeze(3) * self.same_head
        cosines = (q @ keys.flatten(3).flatten(1, 2)).unflatten(-1, (self.heads, -1))
        weights = F.relu(cosines * (self.learn_scale[:, 0] / lengths.clamp_min(1e-12).unsqueeze(-1))).flatten(2)
        rows = (v.transpose(-2, -1) @ self.proj.weight.T.unflatten(0, (self.heads, -1))).flatten(1, 2)
        zeros = 1 + -(rows.shape[1] + 2) % 8
        bias = F.pad(self.proj.bias.to(rows.dtype).unsqueeze(0), (0, 0, 0, zeros)).expand(len(rows), -1, -1)
        unit = F.pad(weights.new_ones(1), (0, zeros)).expand(*weights.shape[:2], -1)
        return torch.cat([weights, unit], -1), torch.cat([rows, bias], 1)


class AggregationBlock(Block):
    """Prototypes gather what is normal in one image: cross-attention and MLP, both with residual."""

    def forward(self, prototypes: Tensor, x: Tensor) -> Tensor:
        inps = prototypes + self.attn(self.norm1(prototypes), self.norm1(x))
        return inps + self.mlp(self.norm2(inps))


class DecoderBlock(Block):
    """Tokens rebuilt from the INPs. No residual around the attention: a defect must not slip past the INPs.

    attn, then x + mlp(norm2(x)). As every token of x is a weighted sum of the same few rows, so is its distance from
    its mean, and fc1 is applied to the rows instead of the tokens; norm2's division goes into the weights.
    """

    attn: ReluAttention

    def forward(self, x: Tensor, inps: Tensor) -> Tensor:
        weights, rows = self.attn.factors(self.norm1(x), self.norm1(inps))
        x = weights @ rows
        spread = torch.rsqrt(full_precision(x).var(-1, correction=0, keepdim=True) + self.norm2.eps)
        rows = full_precision(rows)
        rows = (rows - rows.mean(-1, keepdim=True)) * self.norm2.weight
        # What is the same for all tokens becomes the last row, which is free.
        last = F.pad(weights.new_ones(1), (weights.shape[-1] - 1, 0))
        constant = F.linear(self.norm2.bias, self.mlp.fc1.weight, self.mlp.fc1.bias)
        hidden = torch.addcmul(last, weights, spread) @ (rows @ self.mlp.fc1.weight.T + last.unsqueeze(-1) * constant)
        return x + self.mlp.fc2(F.gelu(hidden))


class InpFormer(Reconstruction):
    """One category's model around a frozen encoder.

    Trainable: `prototype_token` (P, C), `aggregation`, `bottleneck` and `decoder` (as many blocks as
    the encoder gives). Raises ConfigError for a single block, since blocks are compared in two groups.
    """

    def __init__(self, encoder: Encoder, prototypes: int = 6) -> None:
        super().__init__(encoder, "INP-Former")
        blocks, width, heads = len(encoder.blocks), encoder.width, encoder.heads
        self.prototype_token = nn.Parameter(torch.zeros(prototypes, width))
        self.aggregation = nn.ModuleList([AggregationBlock(width, SoftmaxAttention(width, heads))])
        self.bottleneck = nn.ModuleList([Mlp(width)])
        self.decoder = nn.ModuleList([DecoderBlock(width, ReluAttention(width, heads)) for _ in range(blocks)])

    def forward(self, tiles: Tensor, kept: Tensor | None = None) -> tuple[list[Tensor], list[Tensor], Tensor]:
        """Compare what the encoder sees with what the decoder rebuilds.

        Args:
            tiles: uint8 or float (B, s, s, 3) RGB, range 0..255.
            kept: bool (B, g*g), the tokens that count in the coherence loss; None: all. The INPs come from all.

        Returns:
            Two encoder maps and two decoder maps (B, g*g, C) each, and the INP coherence loss, a scalar.
        """
        encoded, x, inps = self.gather(tiles)
        return encoded, self.rebuild(x, inps), coherence_loss(x, inps, kept)

    def compare(self, tiles: Tensor) -> tuple[list[Tensor], list[Tensor]]:
        encoded, x, inps = self.gather(tiles)
        return encoded, self.rebuild(x, inps)

    def gather(self, tiles: Tensor) -> tuple[list[Tensor], Tensor, Tensor]:
        """Both encoder maps, their mean (B, g*g, C), and the INPs (B, P, C)."""
        encoded = self.in_parts(lambda part: two_groups(self.encoder(part)), tiles)
        x = (encoded[0] + encoded[1]) / 2
        inps = self.prototype_token.expand(len(x), -1, -1)
        for block in self.aggregation:
            inps = block(inps, x)
        return encoded, x, inps

    def rebuild(self, x: Tensor, inps: Tensor) -> list[Tensor]:
        """Both decoder maps (B, g*g, C) from the encoder maps' mean and the INPs."""
        for mlp in self.bottleneck:
            x = mlp(x)
        rebuilt = []
        for block in self.decoder:
            x = block(x, inps)
            rebuilt.append(x)
        rebuilt.reverse()
        return two_groups(rebuilt)


def coherence_loss(x: Tensor, inps: Tensor, kept: Tensor | None = None) -> Tensor:
    """Mean over tokens of the cosine distance to the nearest INP (paper section 3.2, L_c).

    Args:
        x: (B, N, C) tokens.
        inps: (B, P, C) intrinsic normal prototypes.
        kept: bool (B, N), the tokens that count; None: all.
    """
    with float32(x):
        x, inps = F.normalize(full_precision(x), dim=-1, eps=1e-8), F.normalize(full_precision(inps), dim=-1, eps=1e-8)
        distances = 1 - (x @ inps.transpose(-2, -1)).amax(-1)
        return distances.mean() if kept is None else kept_mean(distances, kept)


def soft_mining_loss(
    encoded: list[Tensor], decoded: list[Tensor], power: float = 3.0, kept: Tensor | None = None
) -> Tensor:
    """1 - cosine of the whole flattened maps, mean over images and groups (paper section 3.4).

    The gradient with respect to the decoder's map is multiplied, location by location, by
    (d / mean d)^power, d the cosine distance there and its mean over the batch: what is rebuilt badly counts more.

    Args:
        encoded, decoded: (B, N, C) maps of each group.
        power: 0 weighs all locations the same.
        kept: see `mined_loss`.
    """
    return mined_loss(encoded, decoded, (lambda d: (d / d.mean()) ** power) if power > 0 else None, kept)


@dataclass(frozen=True)
class InpFormerLoss:
    """Soft mining loss plus `coherence_weight` times the INP coherence loss."""

    coherence_weight: float
    mining_power: float

    def __call__(
        self, outputs: tuple[list[Tensor], list[Tensor], Tensor], step: int = 0, kept: Tensor | None = None
    ) -> tuple[Tensor, Tensor]:
        """The loss and the coherence loss in it, scalars, given what the model's `forward` gives."""
        encoded, decoded, coherence = outputs
        loss = soft_mining_loss(encoded, decoded, self.mining_power, kept)
        return loss + self.coherence_weight * coherence, coherence


@torch.no_grad()
def initialize(model: InpFormer, seed: int) -> None:
    """Start weights: prototypes normal(0, 1), linear layers trunc_normal(std 0.01, cut at +-0.03), biases 0."""
    generator = torch.Generator().manual_seed(seed)
    model.prototype_token.normal_(generator=generator)
    initialize_linear((model.aggregation, model.bottleneck, model.decoder), generator)


def load_checkpoint(model: InpFormer, state: Mapping[str, Tensor], *, source: str, encoder: str) -> None:
    """Load a category's weights: robis's own (without the encoder) or a published checkpoint (with it).

    Raises WeightsError naming the first key that is missing, superfluous or of another shape.
    """
    encoder_state = {
        name.removeprefix("encoder."): value for name, value in state.items() if name.startswith("encoder.")
    }
    state = {name: value for name, value in state.items() if not name.startswith("encoder.")}
    if "prototype_token.0" in state:
        # Some public checkpoints register the list of prototypes, or the list and its only member.
        prototypes = state.pop("prototype_token.0")
        state.setdefault("prototype_token", prototypes)
    check_state(state, model.trainable(), source=source, made_for=f"INP-Former on {encoder}")
    if encoder_state:
        model.encoder.load_weights(encoder_state, source=source, name=encoder)
    model.load_state_dict(state, strict=False)
