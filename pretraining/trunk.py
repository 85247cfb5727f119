"""The vision transformer that is trained: timm's, with a start and a training pass of its own."""

from __future__ import annotations

import math
from typing import Any

import torch
from torch import Tensor, nn

from robis.encoders.build import build_encoder

PATCH, WIDTH, GRID = 14, 192, 18
# The last block of each quarter: what superadd and MuSc read.
READ = (1, 2, 4, 5)


def build_trunk(seed: int) -> Any:
    """The encoder before training, a timm VisionTransformer of 3.3 M parameters for 252 px.

    Its first filters are edges, spots and colors, its position embedding faint sines, its layers near the identity.
    """
    vit: Any = build_encoder("robis_vit_tiny", weights="random", seed=seed).vit.train().requires_grad_(True)
    vit.patch_embed.strict_img_size = False
    with torch.no_grad():
        vit.pos_embed.zero_()[:, 1:] = 0.02 * _sines()
        filters = _filters(vit.patch_embed.backbone[0].conv.kernel_size[0])
        vit.patch_embed.backbone[0].conv.weight[: len(filters)] = filters
        for block in vit.blocks:
            # On a CPU the backward pass of fused attention is the slower one for so few tokens.
            block.attn.fused_attn = False
            block.attn.proj.weight.mul_(0.1)
            block.mlp.fc2.weight.mul_(0.1)
    return vit


def tokens_of(
    vit: Any,
    images: Tensor,
    *,
    grid: int,
    corner: tuple[int, int],
    hidden: Tensor | None = None,
    mask: Tensor | None = None,
) -> list[Tensor]:
    """Raw tokens of the blocks `READ` of a crop that lies somewhere on a larger grid.

    Args:
        vit: the trunk.
        images: uint8 (B, s, s, 3) RGB.
        grid: tokens along one side of the whole picture that the crop is thought to lie in, at least s / 14.
        corner: row and column, in tokens, of the crop in it.
        hidden: token (1, 1, C) that takes the place of hidden patches.
        mask: bool (B, N), true for hidden patches.

    Returns:
        One (B, N, C) tensor per block of `READ`.
    """
    with torch.autocast(images.device.type, torch.bfloat16, enabled=vit.training and _has_bfloat16(images.device)):
        read = _read(vit, images, grid, corner, hidden, mask)
    return [tokens.float() for tokens in read]


def _has_bfloat16(device: torch.device) -> bool:
    """Whether bfloat16 is worth it; on a processor with AVX2 alone a step took seven times as long as in float32."""
    return device.type != "cpu" or torch.backends.cpu.get_cpu_capability() not in ("AVX2", "DEFAULT")


def _read(
    vit: Any, images: Tensor, grid: int, corner: tuple[int, int], hidden: Tensor | None, mask: Tensor | None
) -> list[Tensor]:
    x = vit.patch_embed(images.permute(0, 3, 1, 2).float().div(127.5).sub(1)).float()
    if hidden is not None and mask is not None:
        x = torch.where(mask[..., None], hidden, x)
    side = math.isqrt(x.shape[1])
    places = vit.pos_embed[:, 1:].transpose(1, 2).unflatten(2, (GRID, GRID))
    if grid != GRID:
        places = nn.functional.interpolate(places, (grid, grid), mode="bicubic", antialias=True)
    places = places[:, :, corner[0] : corner[0] + side, corner[1] : corner[1] + side].flatten(2).transpose(1, 2)
    first = (vit.cls_token + vit.pos_embed[:, :1]).expand(len(x), -1, -1)
    x = vit.norm_pre(torch.cat([first, x + places], dim=1))
    read = []
    for n, block in enumerate(vit.blocks):
        x = block(x)
        if n in READ:
            read.append(x[:, 1:])
    return read


def _sines() -> Tensor:
    rates = 1 / 100 ** (torch.arange(WIDTH // 4) / (WIDTH // 4))
    angles = torch.arange(GRID)[:, None] * rates
    one = torch.cat([angles.sin(), angles.cos()], dim=1)
    both = torch.cat([one[:, None].expand(-1, GRID, -1), one[None].expand(GRID, -1, -1)], dim=2)
    return both.reshape(1, GRID * GRID, WIDTH)


def _filters(size: int) -> Tensor:
    """Gaussians, their derivatives in four directions and their Laplacians, each with its negative, in gray and color.

    float32 (n, 3, size, size), of length 1.
    """
    place = torch.arange(size) - (size - 1) / 2
    gray, *colors = torch.tensor([[1.0, 1.0, 1.0], [1.0, -1.0, 0.0], [0.5, 0.5, -1.0]])
    found = []
    for sigma in (0.5, 1.0, 2.0):
        bell = torch.exp(-place.square() / (2 * sigma**2))
        spot = torch.outer(bell, bell)
        across, down = -place[None, :] * spot, -place[:, None] * spot
        bend = ((place[None, :] ** 2 + place[:, None] ** 2) / (2 * sigma**2) - 1) * spot
        planes = [across, down, across + down, across - down, bend - bend.mean()]
        found += [torch.einsum("c,hw->chw", gray, plane) for plane in (spot, *planes)]
        found += [
            torch.einsum("c,hw->chw", color, plane)
            for color in colors
            for plane in (spot, across, down)[: 1 + 2 * (sigma == 1)]
        ]
    return torch.stack([sign * one / one.norm() for one in found for sign in (1, -1)])
