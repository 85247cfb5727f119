"""INP-Former written plainly from its description (docs/methods.md): one operation a line, nothing fused.

Attention is three operations, softmax(q k^T) v, in the encoder, too; the optimizer goes from one parameter to the next.
Blocks after the last chosen one are not computed, as in the published code. Nothing of robis is imported; weights come
as a state dict under the names of robis's model, so that both sides compute with the same ones.
"""

from __future__ import annotations

import math
from collections.abc import Sequence

import torch
import torch.nn.functional as F
from torch import Tensor


class PlainInpFormer:
    """The model as functions of a dictionary of weights.

    Args:
        state: weights under `encoder.vit.` (timm's names), `aggregation.`, `bottleneck.`, `decoder.`,
            `prototype_token`.
        blocks: 0-based indexes of the encoder's blocks whose tokens are used.
        heads: attention heads of encoder and decoder.
        mean, std: of the encoder's input, three values each, for pixels of range 0..1.
    """

    def __init__(
        self, state: dict[str, Tensor], *, blocks: tuple[int, ...], heads: int, mean: Tensor, std: Tensor
    ) -> None:
        self.w = {name: value.detach().clone() for name, value in state.items()}
        self.blocks, self.heads, self.mean, self.std = blocks, heads, mean.view(1, 3, 1, 1), std.view(1, 3, 1, 1)
        self.eps = 1e-6  # of the encoder's LayerNorm
        self.parameters = {name: value for name, value in self.w.items() if not name.startswith("encoder.")}
        for value in self.parameters.values():
            value.requires_grad_()

    def linear(self, x: Tensor, name: str) -> Tensor:
        return F.linear(x, self.w[f"{name}.weight"], self.w[f"{name}.bias"])

    def norm(self, x: Tensor, name: str, eps: float) -> Tensor:
        return F.layer_norm(x, x.shape[-1:], self.w[f"{name}.weight"], self.w[f"{name}.bias"], eps)

    def mlp(self, x: Tensor, name: str) -> Tensor:
        return self.linear(F.gelu(self.linear(x, f"{name}.fc1")), f"{name}.fc2")

    def split(self, x: Tensor) -> Tensor:
        """(B, N, C) -> (B, heads, N, C/heads)."""
        return x.view(*x.shape[:2], self.heads, -1).transpose(1, 2)

    def join(self, x: Tensor) -> Tensor:
        """(B, heads, N, C/heads) -> (B, N, C)."""
        return x.transpose(1, 2).reshape(len(x), x.shape[2], -1)

    def embed(self, tiles: Tensor) -> Tensor:
        """Tokens of uint8 tiles (B, s, s, 3) before the first block."""
        w, prefix = self.w, "encoder.vit."
        x = (tiles.permute(0, 3, 1, 2).float() / 255 - self.mean) / self.std
        kernel = w[f"{prefix}patch_embed.proj.weight"]
        x = F.conv2d(x, kernel, w[f"{prefix}patch_embed.proj.bias"], stride=kernel.shape[-1])
        x = x.flatten(2).transpose(1, 2)
        extra = [w[f"{prefix}{name}"] for name in ("cls_token", "reg_token") if f"{prefix}{name}" in w]
        extra = [token.expand(len(x), -1, -1) for token in extra]
        position = w[f"{prefix}pos_embed"]
        if position.shape[1] == x.shape[1]:
            return torch.cat([*extra, x + position], 1)
        return torch.cat([*extra, x], 1) + position

    def encoder_block(self, x: Tensor, name: str) -> Tensor:
        h = self.norm(x, f"{name}.norm1", self.eps)
        q, k, v = self.linear(h, f"{name}.attn.qkv").chunk(3, dim=-1)
        q, k, v = self.split(q), self.split(k), self.split(v)
        scores = q @ k.transpose(-2, -1) / math.sqrt(q.shape[-1])
        h = self.linear(self.join(scores.softmax(-1) @ v), f"{name}.attn.proj")
        x = x + h * self.w.get(f"{name}.ls1.gamma", 1)
        h = self.mlp(self.norm(x, f"{name}.norm2", self.eps), f"{name}.mlp")
        return x + h * self.w.get(f"{name}.ls2.gamma", 1)

    @torch.no_grad()
    def encode(self, tiles: Tensor) -> list[Tensor]:
        """Tokens (B, N, C) of the chosen blocks, without those that stand for no patch."""
        x = self.embed(tiles)
        names = [name for name in ("encoder.vit.cls_token", "encoder.vit.reg_token") if name in self.w]
        extra = sum(self.w[name].shape[1] for name in names)
        tokens = []
        for block in range(self.blocks[-1] + 1):
            x = self.encoder_block(x, f"encoder.vit.blocks.{block}")
            if block in self.blocks:
                tokens.append(x[:, extra:])
        return tokens

    def attention(self, x: Tensor, y: Tensor, name: str, scale: Tensor | None) -> Tensor:
        """Attention of x over y: ReLU of scaled cosines where there is a scale, else softmax."""
        q = self.split(self.linear(x, f"{name}.q"))
        k, v = (self.split(part) for part in self.linear(y, f"{name}.kv").chunk(2, dim=-1))
        if scale is None:
            weights = (q @ k.transpose(-2, -1) / math.sqrt(q.shape[-1])).softmax(-1)
        else:
            q, k = F.normalize(q, dim=-1), F.normalize(k, dim=-1)
            weights = F.relu(q @ k.transpose(-2, -1) * scale)
        return self.linear(self.join(weights @ v), f"{name}.proj")

    def forward(self, tiles: Tensor) -> tuple[list[Tensor], list[Tensor], Tensor]:
        """Two encoder maps and two decoder maps (B, N, C), and the coherence loss."""
        encoded = self.encode(tiles)
        x = torch.stack(encoded).mean(0)
        name = "aggregation.0"
        inps = self.w["prototype_token"].expand(len(x), -1, -1)
        keys, queries = self.norm(x, f"{name}.norm1", 1e-8), self.norm(inps, f"{name}.norm1", 1e-8)
        inps = inps + self.attention(queries, keys, f"{name}.attn", None)
        inps = inps + self.mlp(self.norm(inps, f"{name}.norm2", 1e-8), f"{name}.mlp")
        cosines = F.normalize(x, dim=-1) @ F.normalize(inps, dim=-1).transpose(-2, -1)
        coherence = (1 - cosines).min(-1).values.mean()
        x = self.mlp(x, "bottleneck.0")
        decoded: list[Tensor] = []
        for block in range(len(self.blocks)):
            name = f"decoder.{block}"
            queries, keys = self.norm(x, f"{name}.norm1", 1e-8), self.norm(inps, f"{name}.norm1", 1e-8)
            x = self.attention(queries, keys, f"{name}.attn", self.w[f"{name}.attn.learn_scale"])
            x = x + self.mlp(self.norm(x, f"{name}.norm2", 1e-8), f"{name}.mlp")
            decoded.insert(0, x)
        half = len(encoded) // 2
        groups = [
            [torch.stack(tokens[:half]).mean(0), torch.stack(tokens[half:]).mean(0)] for tokens in (encoded, decoded)
        ]
        return groups[0], groups[1], coherence

    @torch.no_grad()
    def tile_maps(self, tiles: Tensor, size: int) -> Tensor:
        """Anomaly maps (B, size, size) of uint8 tiles (B, s, s, 3)."""
        encoded, decoded, _ = self.forward(tiles)
        maps = []
        for target, output in zip(encoded, decoded, strict=True):
            distance = 1 - F.cosine_similarity(target, output, dim=-1)
            grid = math.isqrt(distance.shape[1])
            distance = distance.view(len(tiles), 1, grid, grid)
            maps.append(F.interpolate(distance, size=tiles.shape[1], mode="bilinear", align_corners=True))
        combined = F.interpolate(torch.stack(maps).mean(0), size=size, mode="bilinear", align_corners=False)
        offsets = torch.arange(-2, 3, dtype=torch.float32, device=combined.device)
        kernel = torch.exp(-(offsets[:, None] ** 2 + offsets**2) / (2 * 4.0**2))
        return F.conv2d(combined, (kernel / kernel.sum()).view(1, 1, 5, 5), padding=2).squeeze(1)


def plain_loss(encoded: list[Tensor], decoded: list[Tensor], coherence: Tensor) -> Tensor:
    """Mean of 1 - cosine of whole maps plus 0.2 coherence; soft mining scales the decoder maps' gradients."""
    losses = []
    for target, output in zip(encoded, decoded, strict=True):
        with torch.no_grad():
            distance = 1 - F.cosine_similarity(target, output, dim=-1)
            factor = (distance / distance.mean()) ** 3
        output.register_hook(lambda gradient, factor=factor: gradient * factor.unsqueeze(-1))
        losses.append((1 - F.cosine_similarity(target.flatten(1), output.flatten(1), dim=1)).mean())
    return torch.stack(losses).mean() + 0.2 * coherence


class PlainStableAdamW:
    """AdamW with amsgrad, its step divided per tensor by max(1, RMS(gradient / denominator)); one tensor at a time."""

    def __init__(self, parameters: Sequence[Tensor], weight_decay: float = 1e-4) -> None:
        self.parameters, self.weight_decay, self.steps = parameters, weight_decay, 0
        self.mean, self.square, self.largest = ([torch.zeros_like(p) for p in parameters] for _ in range(3))

    @torch.no_grad()
    def step(self, lr: float) -> None:
        self.steps += 1
        for p, mean, square, largest in zip(self.parameters, self.mean, self.square, self.largest, strict=True):
            g = p.grad
            assert g is not None
            p.mul_(1 - lr * self.weight_decay)
            mean.mul_(0.9).add_(g, alpha=0.1)
            square.mul_(0.999).addcmul_(g, g, value=0.001)
            torch.maximum(largest, square, out=largest)
            denominator = largest.sqrt() / math.sqrt(1 - 0.999**self.steps) + 1e-10
            rms = ((g / denominator) ** 2).mean().sqrt()
            p.sub_(lr / max(1.0, rms.item()) / (1 - 0.9**self.steps) * mean / denominator)


def plain_step(model: PlainInpFormer, optimizer: PlainStableAdamW, tiles: Tensor, lr: float) -> float:
    """One step of training; returns the loss."""
    for p in optimizer.parameters:
        p.grad = None
    loss = plain_loss(*model.forward(tiles))
    loss.backward()
    torch.nn.utils.clip_grad_norm_(optimizer.parameters, 0.1)
    optimizer.step(lr)
    return loss.item()
