"""Encoders known by a short name: whose model it is, its input size and published blocks. Needs no torch."""

from __future__ import annotations

import json
import re
from collections.abc import Mapping
from dataclasses import dataclass, field
from difflib import get_close_matches
from functools import cache
from importlib.util import find_spec
from pathlib import Path
from typing import Any

from robis.config.registry import Registry
from robis.errors import ConfigError


@dataclass(frozen=True)
class Architecture:
    """What the short name of a timm ViT stands for.

    Attributes:
        timm_name: the model, with the tag of its published weights.
        input_size: side of the tile in pixels.
        blocks: those that INP-Former takes.
        options: what timm is given beside the name.
        stem: channels, kernel sizes and strides of the convolutions that embed patches; None: one per patch.
        shipped: name of the weights file in this package that "auto" means; None: timm's.
    """

    timm_name: str
    input_size: int
    blocks: tuple[int, ...]
    options: Mapping[str, Any] = field(default_factory=dict)
    stem: tuple[tuple[int, ...], ...] | None = None
    shipped: str | None = None


@dataclass(frozen=True)
class ClipArchitecture:
    """What the short name of a CLIP stands for; `tag` names the published weights that "auto" means."""

    open_clip_name: str
    tag: str
    input_size: int


_MIDDLE = tuple(range(2, 10))
_MIDDLE_OF_24 = tuple(range(4, 19, 2))
# No paper says which of 32 blocks INP-Former takes: evenly spread over the middle two thirds.
_MIDDLE_OF_32 = (5, 8, 11, 14, 16, 19, 22, 25)

# Short names as in INP-Former's code (arXiv 2503.02424); blocks as published there.
ARCHITECTURES: Registry[Architecture] = Registry(
    {
        "dinov2_reg_vits14": Architecture("vit_small_patch14_reg4_dinov2.lvd142m", 518, _MIDDLE),
        "dinov2_reg_vitb14": Architecture("vit_base_patch14_reg4_dinov2.lvd142m", 518, _MIDDLE),
        "dinov2_reg_vitl14": Architecture("vit_large_patch14_reg4_dinov2.lvd142m", 518, _MIDDLE_OF_24),
        "dinov2_vits14": Architecture("vit_small_patch14_dinov2.lvd142m", 518, _MIDDLE),
        "dinov2_vitb14": Architecture("vit_base_patch14_dinov2.lvd142m", 518, _MIDDLE),
        "dinov2_vitl14": Architecture("vit_large_patch14_dinov2.lvd142m", 518, _MIDDLE_OF_24),
        "dino_vits16": Architecture("vit_small_patch16_224.dino", 512, _MIDDLE),
        "dino_vitb16": Architecture("vit_base_patch16_224.dino", 512, _MIDDLE),
        "dino_vitb8": Architecture("vit_base_patch8_224.dino", 512, _MIDDLE),
        # 640: SuperADD's tiles. Rotary position embeddings take any size.
        "dinov3_vits16": Architecture("vit_small_patch16_dinov3.lvd1689m", 640, _MIDDLE),
        "dinov3_vitb16": Architecture("vit_base_patch16_dinov3.lvd1689m", 640, _MIDDLE),
        "dinov3_vitl16": Architecture("vit_large_patch16_dinov3.lvd1689m", 640, _MIDDLE_OF_24),
        "dinov3_vithplus16": Architecture("vit_huge_plus_patch16_dinov3.lvd1689m", 640, _MIDDLE_OF_32),
        # Trained on generated images (pretraining/README.md), at these blocks.
        "robis_vit_tiny": Architecture(
            "vit_tiny_patch16_224",
            252,
            (1, 2, 4, 5),
            options={"depth": 6},
            stem=((64, 192), (7, 7), (2, 7)),
            shipped="robis_vit_tiny.safetensors",
        ),
    }
)

CLIP_ARCHITECTURES: Registry[ClipArchitecture] = Registry(
    {
        "clip_vitb32": ClipArchitecture("ViT-B-32", "openai", 256),
        "clip_vitb16": ClipArchitecture("ViT-B-16", "openai", 256),
        "clip_vitb16plus": ClipArchitecture("ViT-B-16-plus-240", "laion400m_e32", 240),
        "clip_vitl14": ClipArchitecture("ViT-L-14", "openai", 336),
        "clip_vitl14_336": ClipArchitecture("ViT-L-14-336", "openai", 518),
    }
)


def architecture_of(name: str) -> str | None:
    """The registry's entry of a short name as text; None for other names."""
    entry = ARCHITECTURES.get(name) or CLIP_ARCHITECTURES.get(name)
    return repr(entry) if entry else None


def builder_of(name: str) -> str:
    """The "module:function" that builds an encoder of this name."""
    return "robis.encoders.clip:build_clip_encoder" if is_clip(name) else "robis.encoders.build:build_encoder"


def default_blocks(name: str, depth: int) -> tuple[int, ...]:
    """The published blocks, or for another model eight (at most) evenly spread over its middle two thirds."""
    if name in ARCHITECTURES:
        return ARCHITECTURES[name].blocks
    first, last = depth // 6, max(depth // 6, depth * 5 // 6 - 1)
    count = min(8, last - first + 1)
    return tuple(round(first + n * (last - first) / max(1, count - 1)) for n in range(count))


def quarter_blocks(depth: int) -> tuple[int, ...]:
    """The last block of each quarter: 5, 11, 17, 23 of 24, as MuSc takes them (arXiv 2401.16753)."""
    ends = {-(-quarter * depth // 4) - 1 for quarter in (1, 2, 3, 4)}
    return tuple(sorted(ends))


def superadd_blocks(depth: int) -> tuple[int, ...]:
    """SuperADD's: 3, 5, 8, 10 of 12, else the last of each quarter, which is what it takes of 24 and 32."""
    return (3, 5, 8, 10) if depth == 12 else quarter_blocks(depth)


def is_clip(name: str) -> bool:
    """Whether a name means an open_clip model: a short name, open_clip's own, or a model config (.json).

    The names of open_clip's ViTs contain a capital letter; timm's never do.
    """
    return name in CLIP_ARCHITECTURES or name.endswith(".json") or name != name.lower()


def is_pretrained_tag(name: str, weights: str) -> bool:
    """Whether `weights` names published weights of a CLIP, such as openai, and not a file.

    A file has a suffix (.safetensors, .pt, .pth, .bin) or a path separator, which no tag has.
    """
    return is_clip(name) and weights not in ("auto", "random") and bool(re.fullmatch(r"[A-Za-z0-9_-]+", weights))


def weights_file(name: str, weights: str) -> str:
    """`weights`, or the file in this package that "auto" means for this encoder."""
    shipped = ARCHITECTURES[name].shipped if name in ARCHITECTURES else None
    return str(Path(__file__).parents[1] / "weights" / shipped) if shipped and weights == "auto" else weights


def own_input_size(name: str) -> int:
    """Side in pixels of the tile that an encoder takes by default; for timm's other models timm is asked.

    Raises ConfigError for a name that no model has.
    """
    if name in ARCHITECTURES:
        return ARCHITECTURES[name].input_size
    if name in CLIP_ARCHITECTURES:
        return CLIP_ARCHITECTURES[name].input_size
    if not is_clip(name):
        return _timm_input_size(name)
    size = clip_config(name)[0]["vision_cfg"].get("image_size", 224)
    if not isinstance(size, int):
        raise ConfigError(f"encoder.name: {name} takes images of {size} pixels; expected one that takes square ones.")
    return size


@cache
def _timm_input_size(name: str) -> int:
    import timm  # slow to import, and seldom needed

    try:
        config = timm.get_pretrained_cfg(name)
    except RuntimeError:  # a tag that the model does not have
        config = None
    if config is None:
        raise unknown_encoder(name)
    return int(config.input_size[-1])


def clip_config(name: str) -> tuple[dict[str, Any], dict[str, Any]]:
    """An open_clip model's config and, where its file has it, that of its preprocessing (mean, std).

    Args:
        name: a short name, open_clip's own, or the path of a .json file: a model config as open_clip
            has them, or the `open_clip_config.json` that lies beside published weights.

    Raises:
        ConfigError: no such model or file, or a file of another kind.
    """
    if name.endswith(".json"):
        file = Path(name).expanduser()
    else:
        known = CLIP_ARCHITECTURES.get(name)
        file = _configs_folder() / f"{known.open_clip_name if known else name}.json"
        if not file.is_file():
            raise unknown_encoder(name)
    try:
        found = json.loads(file.read_text(encoding="utf-8"))
    except (OSError, ValueError) as error:
        raise ConfigError(f"encoder.name: {name} cannot be read as JSON ({error}).") from error
    found = found if isinstance(found, dict) else {}
    config = found["model_cfg"] if isinstance(found.get("model_cfg"), dict) else found
    missing = [key for key in ("vision_cfg", "text_cfg") if not isinstance(config.get(key), dict)]
    if missing:
        raise ConfigError(f"encoder.name: {name} has no {missing[0]!r}; expected a model config of open_clip.")
    return config, found.get("preprocess_cfg", {})


def unknown_encoder(name: str) -> ConfigError:
    """The error for a name that no model has, with the nearest that one has."""
    short = [*ARCHITECTURES, *CLIP_ARCHITECTURES]
    near = get_close_matches(name, [*short, *(file.stem for file in _configs_folder().glob("*.json"))], n=1, cutoff=0.5)
    hint = f" Did you mean {near[0]!r}?" if near else ""
    return ConfigError(
        f"encoder.name: {name!r} is no known encoder.{hint} Valid: {', '.join(short)}, the name of any ViT of timm "
        f"or open_clip, or the path of an open_clip model config (.json)."
    )


def _configs_folder() -> Path:
    # Found, not imported: open_clip takes seconds to import, and torch with it.
    spec = find_spec("open_clip")
    return Path(spec.origin if spec and spec.origin else "open_clip").parent / "model_configs"
