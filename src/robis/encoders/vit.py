"""Vision transformers by timm."""

from __future__ import annotations

from collections.abc import Mapping
from contextlib import redirect_stdout
from difflib import get_close_matches
from functools import partial
from io import StringIO
from typing import Any

import timm
import torch
from timm.models import eva, vision_transformer
from timm.models.vision_transformer_hybrid import ConvStem, HybridEmbed
from torch import Tensor, nn

from robis.encoders.names import ARCHITECTURES
from robis.encoders.weights import check_state, first_line
from robis.errors import ConfigError, WeightsError


def _create(name: str, input_size: int | None, *, pretrained: bool, seed: int) -> Any:
    known = ARCHITECTURES.get(name)
    timm_name = known.timm_name if known else name
    if not timm.is_model(timm_name.split(".")[0]):
        near = get_close_matches(name, [*ARCHITECTURES, *timm.list_models("*vit*")], n=1, cutoff=0.5)
        hint = f" Did you mean {near[0]!r}?" if near else ""
        raise ConfigError(
            f"encoder.name: {name!r} is no known encoder.{hint} "
            f"Valid: {', '.join(ARCHITECTURES)}, or the name of any ViT of timm."
        )
    size = input_size or (known.input_size if known else None)
    extra: dict[str, Any] = {} if size is None else {"img_size": size}
    extra |= known.options if known else {}
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        try:
            if known and known.stem:
                extra |= _with_stem(*known.stem)
            vit: Any = timm.create_model(timm_name, pretrained=pretrained, num_classes=0, **extra)
        except (OSError, RuntimeError, AssertionError, ValueError, TypeError) as error:
            if not pretrained or isinstance(error, TypeError):
                raise ConfigError(f"encoder: {name} at {size} pixels cannot be built ({error}).") from error
            raise WeightsError(
                f"encoder.weights: the weights of {timm_name} could not be downloaded ({first_line(error)}). "
                f"On a machine with a network: python -c \"import timm; timm.create_model('{timm_name}', "
                f'pretrained=True)", or save its state dict as a .safetensors file, copy it here and set '
                f"encoder.weights to its path."
            ) from error
    parts = ("patch_embed", "forward_intermediates", "blocks", "embed_dim")
    if not all(hasattr(vit, part) for part in parts) or not hasattr(vit.blocks[0], "attn") or "samvit" in timm_name:
        raise ConfigError(f"encoder.name: {name} is not a vision transformer; expected one of timm's ViTs.")
    patch = vit.patch_embed.feat_ratio()
    if size is not None and size % patch:
        raise ConfigError(f"encoder.input_size: found {size}; expected a multiple of {name}'s patch, {patch} pixels.")
    return vit


def _with_stem(channels: tuple[int, ...], kernels: tuple[int, ...], strides: tuple[int, ...]) -> dict[str, Any]:
    """Options of timm's ViTs for patches that are embedded by convolutions, batch norm and GELU between them."""
    margins = tuple(
        (kernel - 1) // 2 if stride < kernel else 0 for kernel, stride in zip(kernels, strides, strict=True)
    )
    stem = ConvStem(
        depth=len(channels), channels=channels, kernel_size=kernels, stride=strides, padding=margins, act_layer=nn.GELU
    )
    return {"embed_layer": partial(HybridEmbed, backbone=stem, proj=False), "patch_size": 1}


def load_encoder_state(vit: Any, state: Mapping[str, Tensor], *, source: str, name: str) -> None:
    """Load weights in the key names of timm or of the DINOv2 or DINOv3 repository; a classification head is ignored.

    Position embeddings of another grid are resized bicubically (timm).

    Raises:
        WeightsError: naming the first key that is missing, superfluous or of another shape.
    """
    state = dict(state)
    if "register_tokens" in state:
        # The key by which timm recognizes the DINOv2 repository's names.
        state.setdefault("mask_token", torch.empty(0))
    expected = vit.state_dict()
    try:
        # timm's function for DINOv3's names prints.
        with redirect_stdout(StringIO()):
            kind = eva if isinstance(vit, eva.Eva) else vision_transformer
            converted = kind.checkpoint_filter_fn(state, vit)
    except (RuntimeError, KeyError, AttributeError) as error:
        raise WeightsError(f"{source}: made for another model than {name} ({first_line(error)}).") from error
    converted = {key: value for key, value in converted.items() if not key.startswith(("head.", "fc_norm."))}
    check_state(converted, expected, source=source, made_for=name)
    vit.load_state_dict(converted)
