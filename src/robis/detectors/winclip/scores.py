"""WinCLIP's scores (arXiv 2303.14814, section 4): embeddings of windows to anomaly maps, by language and by example.

Computes on features alone, so that every number of shots and every draw uses the same ones.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import torch
import torch.nn.functional as F
from torch import Tensor

from robis.detectors.ignored import lowest_where
from robis.detectors.winclip.windows import field_of

# Reference vectors compared at a time: bounds the memory of the products, whatever the number of shots.
_REFERENCES = 8192


def anomalous_probability(embeddings: Tensor, text: Mapping[str, Tensor], temperature: float) -> Tensor:
    """Softmax over "normal" and "anomalous" of the cosines with the text, the latter's share (equation 1).

    Args:
        embeddings: (..., D).
        text: "normal" and "anomalous", (D,) each.
        temperature: divides the cosines.

    Returns:
        (...), 0..1.
    """
    sides = F.normalize(torch.stack([text["normal"], text["anomalous"]]).float(), dim=-1)
    cosines = F.normalize(embeddings.float(), dim=-1) @ sides.T
    return (cosines / temperature).softmax(dim=-1)[..., 1]


def over_windows(scores: Tensor, grid: int, scale: int) -> Tensor:
    """Harmonic mean, at every token, of the scores of the windows that hold it.

    A score of 0 makes the mean 0.

    Args:
        scores: (B, W), not negative, one per window in the order of `window_tokens`.
        grid, scale: tokens along one side of the image and of a window.

    Returns:
        (B, grid, grid).
    """

    def summed(values: Tensor) -> Tensor:
        spread = values[:, None].expand(-1, scale * scale, -1)
        return F.fold(spread.contiguous(), (grid, grid), scale).squeeze(1)

    return summed(torch.ones_like(scores[:1])) / summed(1 / scores)


def zero_shot(
    features: Mapping[str, Tensor], text: Mapping[str, Tensor], *, grid: int, scales: Sequence[int], temperature: float
) -> tuple[Tensor, Tensor]:
    """Scores by language: of the whole image, and of its tokens over all scales (equation 3).

    Args:
        features: "image" (B, D) and per scale "windows_K" (B, W, D).
        text: "normal" and "anomalous", (D,) each.
        grid: tokens along one side.
        scales: sides of the windows in tokens.
        temperature: of the softmax.

    Returns:
        Image scores (B,) and maps (B, grid, grid), both 0..1: the harmonic mean of the scales, with the image's
        score as the scale of everything.
    """
    whole = anomalous_probability(features["image"], text, temperature)
    maps = [whole[:, None, None].expand(-1, grid, grid)]
    for scale in scales:
        scores = anomalous_probability(features[field_of(scale)], text, temperature)
        maps.append(over_windows(scores, grid, scale))
    return whole, len(maps) / torch.stack(maps).reciprocal().sum(dim=0)


def association(embeddings: Tensor, references: Tensor) -> Tensor:
    """Half the cosine distance to the nearest reference (equation 4).

    Args:
        embeddings: (B, N, D).
        references: (R, D).

    Returns:
        (B, N), 0..1.
    """
    embeddings = F.normalize(embeddings.float(), dim=-1)
    nearest = embeddings.new_full(embeddings.shape[:2], -1.0)
    for part in F.normalize(references.float(), dim=-1).split(_REFERENCES):
        nearest = torch.maximum(nearest, (embeddings @ part.T).amax(dim=-1))
    # Rounding can make the cosine of equal vectors more than 1, and a harmonic mean takes no negative number.
    return ((1 - nearest) / 2).clamp(min=0)


def few_shot(
    features: Mapping[str, Tensor], references: Mapping[str, Tensor], *, grid: int, scales: Sequence[int]
) -> Tensor:
    """Maps by example: mean over patches and windows of the distance to the normal references (equation 5).

    Args:
        features: "patches" (B, grid*grid, C) and per scale "windows_K" (B, W, D).
        references: the same keys, (R, C) and (R', D).
        grid: tokens along one side.
        scales: sides of the windows in tokens.

    Returns:
        (B, grid, grid), 0..1.
    """
    maps = [association(features["patches"], references["patches"]).unflatten(1, (grid, grid))]
    for scale in scales:
        scores = association(features[field_of(scale)], references[field_of(scale)])
        maps.append(over_windows(scores, grid, scale))
    return torch.stack(maps).mean(dim=0)


def score(
    features: Mapping[str, Tensor],
    text: Mapping[str, Tensor],
    references: Mapping[str, Tensor] | None = None,
    *,
    grid: int,
    scales: Sequence[int],
    temperature: float,
    ignored: Tensor | None = None,
) -> tuple[Tensor, Tensor]:
    """Image scores (B,) and token maps (B, grid, grid), 0..1: zero-shot, or the mean with few-shot (section 4.3).

    Arguments as in `zero_shot` and `few_shot`; without references it is zero-shot. Ignored tokens, bool (B, grid,
    grid), are never those whose distance counts for an image, and the score of a tile without any other is 0.
    """
    whole, maps = zero_shot(features, text, grid=grid, scales=scales, temperature=temperature)
    if ignored is not None:
        # The text score of a tile that is painted over says nothing.
        whole = whole.masked_fill(ignored.flatten(1).all(1), 0)
    if references is None:
        return whole, maps
    by_example = few_shot(features, references, grid=grid, scales=scales)
    return (whole + lowest_where(ignored, by_example).amax(dim=(1, 2))) / 2, (maps + by_example) / 2


def tile_maps(maps: Tensor, *, input_size: int, size: int) -> Tensor:
    """Token maps (B, g, g) as maps of the tile, (B, size, size): bilinear to the tile, then to `size` if it differs."""
    resized = F.interpolate(maps[:, None], size=input_size, mode="bilinear", align_corners=False)
    if size != input_size:
        resized = F.interpolate(resized, size=size, mode="bilinear", align_corners=False)
    return resized.squeeze(1)
