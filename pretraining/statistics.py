"""Plain statistics of patches: what can be told of a patch without learning."""

from __future__ import annotations

import torch
from torch import Tensor, nn
from torch.nn.functional import avg_pool2d, conv2d, max_pool2d, pad

from pretraining.trunk import PATCH

# Numbers per patch.
COUNT = 46


def patch_statistics(images: Tensor) -> Tensor:
    """Gradients and colors of each patch of 14 px, float32 (B, N, 46), of uint8 (B, s, s, 3) RGB.

    At scales of 0, 1.5 and 3 px the mean energy of gradients in four directions (12), at the first two also the
    highest (8); the strongest bright and dark spot of two sizes (4); brightest and darkest place (2), color (3) and
    local contrast (1); the last six and the twelve mean energies a second time (16 without the spots), in relation to
    the whole image. Energies are logarithms.
    """
    x = images.permute(0, 3, 1, 2).float() / 127.5 - 1
    gray = x.mean(1, keepdim=True)
    fine, middle, broad = gray, gaussian(gray, 1.5), gaussian(gray, 3.0)
    energies = [factor * _gradients(g) for g, factor in ((fine, 1), (middle, 8), (broad, 30))]
    mean_energies = torch.cat([_log(avg_pool2d(e, PATCH)) for e in energies], 1)
    highest = torch.cat([_log(max_pool2d(e, PATCH, PATCH)) for e in energies[:2]], 1)
    spots = torch.cat([gaussian(gray, 1.0) - broad, middle - gaussian(gray, 5.0)], 1)
    spots = 4 * max_pool2d(torch.cat([spots, -spots], 1), PATCH, PATCH)
    ends = 2 * max_pool2d(torch.cat([middle, -middle], 1), PATCH, PATCH)
    colors = avg_pool2d(x, PATCH)
    contrast = _log(avg_pool2d(gray.square(), PATCH) - avg_pool2d(gray, PATCH).square())
    tone = torch.cat([ends, colors, contrast], 1)
    relative = torch.cat([tone[:, 2:], mean_energies], 1)
    relative = relative - relative.mean((2, 3), keepdim=True)
    found = torch.cat([mean_energies, highest, spots, tone, relative], 1)
    return found.flatten(2).transpose(1, 2)


class Standard(nn.Module):
    """`patch_statistics` with mean 0 and spread 1 over generated pictures; tones and colors weigh half."""

    mean: Tensor
    scale: Tensor

    def __init__(self) -> None:
        super().__init__()
        # Drawn late: episodes read nothing of this module, but their textures take time.
        from pretraining.episodes import Episodes, Plan

        pictures = torch.cat([Episodes(Plan(2**19, 4))[n][0].flatten(0, 1) for n in range(4)])
        found = patch_statistics(pictures).flatten(0, 1)
        weights = torch.ones(COUNT)
        weights[24:34] = 0.5
        self.register_buffer("mean", found.mean(0))
        self.register_buffer("scale", weights / found.std(0))

    def forward(self, images: Tensor) -> Tensor:
        """Statistics, float32 (B, N, 46), of uint8 (B, s, s, 3)."""
        return (patch_statistics(images) - self.mean) * self.scale


def gaussian(images: Tensor, sigma: float) -> Tensor:
    """Gaussian filter of (B, C, H, W), mirrored at the border."""
    reach = int(3 * sigma + 0.5)
    place = torch.arange(-reach, reach + 1, device=images.device, dtype=images.dtype)
    weights = torch.exp(-place.square() / (2 * sigma**2))
    weights = (weights / weights.sum()).expand(images.shape[1], 1, 1, -1)
    images = conv2d(pad(images, (reach, reach, 0, 0), mode="reflect"), weights, groups=images.shape[1])
    return conv2d(pad(images, (0, 0, reach, reach), mode="reflect"), weights.mT, groups=images.shape[1])


def _gradients(gray: Tensor) -> Tensor:
    dx = pad(gray[..., :, 1:] - gray[..., :, :-1], (0, 1, 0, 0))
    dy = pad(gray[..., 1:, :] - gray[..., :-1, :], (0, 0, 0, 1))
    return torch.cat([dx.square(), dy.square(), (dx + dy).square() / 2, (dx - dy).square() / 2], 1)


def _log(energies: Tensor) -> Tensor:
    return 0.5 * (energies.clamp(min=0) + 1e-3).log()
