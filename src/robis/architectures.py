"""Encoders known by a short name: timm's name, input size and published blocks. Needs no torch."""

from __future__ import annotations

from dataclasses import dataclass
from functools import cache

from robis.errors import ConfigError, one_of


@dataclass(frozen=True)
class Architecture:
    """What a short name stands for."""

    timm_name: str
    input_size: int
    blocks: tuple[int, ...]


_MIDDLE = tuple(range(2, 10))
_MIDDLE_OF_24 = tuple(range(4, 19, 2))

# Short names as in INP-Former's code (arXiv 2503.02424); blocks as published there.
ARCHITECTURES: dict[str, Architecture] = {
    "dinov2_reg_vits14": Architecture("vit_small_patch14_reg4_dinov2.lvd142m", 518, _MIDDLE),
    "dinov2_reg_vitb14": Architecture("vit_base_patch14_reg4_dinov2.lvd142m", 518, _MIDDLE),
    "dinov2_reg_vitl14": Architecture("vit_large_patch14_reg4_dinov2.lvd142m", 518, _MIDDLE_OF_24),
    "dinov2_vits14": Architecture("vit_small_patch14_dinov2.lvd142m", 518, _MIDDLE),
    "dinov2_vitb14": Architecture("vit_base_patch14_dinov2.lvd142m", 518, _MIDDLE),
    "dinov2_vitl14": Architecture("vit_large_patch14_dinov2.lvd142m", 518, _MIDDLE_OF_24),
    "dino_vits16": Architecture("vit_small_patch16_224.dino", 512, _MIDDLE),
    "dino_vitb16": Architecture("vit_base_patch16_224.dino", 512, _MIDDLE),
    "dino_vitb8": Architecture("vit_base_patch8_224.dino", 512, _MIDDLE),
}


def default_blocks(name: str, depth: int) -> tuple[int, ...]:
    """The published blocks, or for another model eight (at most) evenly spread over its middle two thirds."""
    if name in ARCHITECTURES:
        return ARCHITECTURES[name].blocks
    first, last = depth // 6, max(depth // 6, depth * 5 // 6 - 1)
    count = min(8, last - first + 1)
    return tuple(round(first + n * (last - first) / max(1, count - 1)) for n in range(count))


@cache
def own_input_size(name: str) -> int:
    """Side in pixels of the tile that an encoder takes by default; for names outside `ARCHITECTURES` timm is asked."""
    if name in ARCHITECTURES:
        return ARCHITECTURES[name].input_size
    import timm  # slow to import, and seldom needed

    try:
        config = timm.get_pretrained_cfg(name)
    except RuntimeError:  # a tag that the model does not have
        config = None
    if config is None:
        raise ConfigError(f"encoder.name: {name!r} is no known encoder. {one_of(name, ARCHITECTURES)}")
    return int(config.input_size[-1])
