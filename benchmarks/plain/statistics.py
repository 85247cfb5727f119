"""Statistics of patches: gradients, spots and colors, the baseline that needs no network."""

from __future__ import annotations

import torch
from torch import Tensor
from torch.nn.functional import avg_pool2d, conv2d, max_pool2d, pad

# Side of a patch in pixels.
PATCH = 14


def patch_statistics(images: Tensor) -> Tensor:
    """Gradients and colors of each patch of 14 px, float32 (B, N, 46), of uint8 (B, s, s, 3) RGB.

    The mean energy of gradients in four directions at scales of 0, 1.5 and 3 px (12); their highest energy at the
    first two (8); the strongest bright and dark spots of two sizes (4); the brightest and darkest place (2), mean color
    (3) and contrast (1). Color, contrast and mean energies follow again relative to their mean over the image (16).
    Energies are logarithms.
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
    statistics = torch.cat([mean_energies, highest, spots, tone, relative], 1)
    return statistics.flatten(2).transpose(1, 2)


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
