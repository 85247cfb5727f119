"""The vision transformer that is trained: timm's, with a start and a training pass of its own."""

from __future__ import annotations

import math
from typing import Any

import timm
import torch
from torch import Tensor, nn

PATCH, WIDTH, DEPTH, GRID = 14, 192, 6, 18
# The last block of each quarter: what superadd and MuSc read.
READ = (1, 2, 4, 5)
MEAN, STD = (0.5, 0.5, 0.5), (0.5, 0.5, 0.5)


def build_trunk(seed: int) -> Any:
    """The encoder before training, a timm VisionTransformer of 2.9 M parameters for 252 px.

    The patch embedding starts as a cosine transform and the position embeddings as sines: a start from which an hour
    of training gets further than from random numbers, and no more than that; both are trained.
    """
    torch.manual_seed(seed)
    vit: Any = timm.create_model(
        "vit_tiny_patch16_224",
        pretrained=False,
        patch_size=PATCH,
        img_size=PATCH * GRID,
        depth=DEPTH,
        num_classes=0,
    )
    with torch.no_grad():
        vit.patch_embed.proj.weight.copy_(_cosines())
        vit.patch_embed.proj.bias.zero_()
        vit.pos_embed.zero_()
        vit.pos_embed[:, 1:] = 0.5 * _sines()
    vit.patch_embed.strict_img_size = False
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
    images = images.permute(0, 3, 1, 2).float().div(127.5).sub(1)
    x = vit.patch_embed(images)
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


def _cosines() -> Tensor:
    """Two-dimensional cosines of a patch, low frequencies first: 5/6 on luminance, the rest on two colors."""
    n = torch.arange(PATCH) + 0.5
    basis = torch.cos(math.pi / PATCH * torch.arange(PATCH)[:, None] * n)
    basis = basis / basis.norm(dim=1, keepdim=True)
    order = sorted(((i, j) for i in range(PATCH) for j in range(PATCH)), key=lambda ij: (ij[0] ** 2 + ij[1] ** 2, ij))
    planes = torch.stack([torch.outer(basis[i], basis[j]) for i, j in order])
    # Natural pictures have little power at high frequencies: what carries it is amplified.
    gain = torch.tensor([0.25 * (1 + i * i + j * j) ** 0.5 for i, j in order]).clamp(max=2)
    planes = planes * gain[:, None, None]
    gray = torch.tensor([1.0, 1.0, 1.0]) / 3
    colors = (torch.tensor([1.0, -1.0, 0.0]) / 2**0.5, torch.tensor([0.5, 0.5, -1.0]) / 1.5**0.5)
    count = WIDTH * 5 // 6
    rest = (WIDTH - count) // 2
    kernels = [planes[:count, None] * gray.view(1, 3, 1, 1)]
    kernels += [planes[:rest, None] * color.view(1, 3, 1, 1) for color in colors]
    return torch.cat(kernels)


def _sines() -> Tensor:
    rates = 1 / 100 ** (torch.arange(WIDTH // 4) / (WIDTH // 4))
    angles = torch.arange(GRID)[:, None] * rates
    one = torch.cat([angles.sin(), angles.cos()], dim=1)
    both = torch.cat([one[:, None].expand(-1, GRID, -1), one[None].expand(GRID, -1, -1)], dim=2)
    return both.reshape(1, GRID * GRID, WIDTH)
