"""Vision transformers by timm."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from contextlib import redirect_stdout
from io import StringIO
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor

from robis.encoders.encoder import Choice, Encoder, TokenLayout, check_blocks, load_chosen_weights
from robis.encoders.fitting import check_nothing_dropped, check_state
from robis.encoders.names import ARCHITECTURES, default_blocks
from robis.encoders.timm_models import create, timm_name
from robis.encoders.weights import first_line
from robis.encoders.without_compiler import compiler_left_out
from robis.errors import ConfigError, WeightsError

with compiler_left_out():
    from timm.layers import PatchEmbed
    from timm.layers import resample_abs_pos_embed as resize_with_antialiasing
    from timm.models import eva, vision_transformer

# What repositories store beside the encoder: classification and training heads.
_HEADS = ("head.", "fc_norm.", "dino_head.", "ibot_head.", "projectors.", "local_cls_norm.")
_NO_WEIGHTS = ("mask_token", ".bias_mask", "rope_embed.periods", "attn_mask")
# What is computed with when DINOv2's names become timm's, and what may be resized.
_COMPUTED = ("cls_token", "pos_embed", "patch_embed.proj.weight")
# DINOv3's rotary embeddings: wavelengths grow from 1 to this.
_ROPE_BASE = 100.0


class VitEncoder(Encoder):
    """A ViT: tokens are the raw outputs of blocks, class and register tokens dropped."""

    def __init__(self, vit: Any, blocks: Sequence[int], name: str) -> None:
        layout = TokenLayout(
            blocks=tuple(blocks),
            widths=(int(vit.embed_dim),) * len(blocks),
            heads=int(vit.blocks[0].attn.num_heads),
            grid=int(vit.patch_embed.grid_size[0]),
            input_size=int(vit.patch_embed.img_size[0]),
            prefix=int(vit.num_prefix_tokens),
        )
        super().__init__(layout, vit.pretrained_cfg["mean"], vit.pretrained_cfg["std"])
        self.vit = vit
        self._timm_name = timm_name(name)

    def load_weights(self, state: Mapping[str, Tensor], *, source: str, name: str) -> None:
        """Load weights in the key names of timm or of the DINO, DINOv2 or DINOv3 repository; heads are ignored.

        Position embeddings of another grid are resized as `resized_positions` says.
        """
        load_vit_state(self.vit, state, source=source, name=name, timm_model=self._timm_name)

    def _tokens(self, images: Tensor) -> list[Tensor]:
        return self.vit.forward_intermediates(
            images,
            indices=list(self.blocks),
            norm=False,
            output_fmt="NLC",
            intermediates_only=True,
            stop_early=True,
        )

    def _tokens_with_prefix(self, images: Tensor) -> list[Tensor]:
        outputs = self.vit.forward_intermediates(
            images,
            indices=list(self.blocks),
            return_prefix_tokens=True,
            norm=False,
            output_fmt="NLC",
            intermediates_only=True,
            stop_early=True,
        )
        return [torch.cat([prefix, tokens], 1) for tokens, prefix in outputs] if self.prefix else outputs

    def _tokens_and_embedding(self, images: Tensor) -> tuple[list[Tensor], Tensor]:
        """Tokens after the final norm, and the normed class tokens; the mean token of a model without class token."""
        last, tokens = self.vit.forward_intermediates(images, indices=list(self.blocks), norm=True, output_fmt="NLC")
        return tokens, last[:, 0] if self.vit.num_prefix_tokens else last.mean(dim=1)


def build_vit(choice: Choice) -> Encoder:
    """Make a ViT of timm; see `robis.encoders.build.build_encoder`."""
    name = choice.name
    vit = create_vit(name, input_size=choice.input_size, pretrained=choice.weights == "auto", seed=choice.drawn)
    depth = len(vit.blocks)
    if choice.blocks is not None:
        blocks = choice.blocks
    else:
        blocks = choice.by_depth(depth) if choice.by_depth else default_blocks(name, depth)
    encoder = VitEncoder(vit, check_blocks(blocks, depth, name), name)
    load_chosen_weights(choice, encoder.load_weights)
    return encoder


def create_vit(name: str, *, input_size: int | None, pretrained: bool, seed: int | None) -> Any:
    """Make timm's ViT for tiles of a size.

    Raises:
        ConfigError: a model of another kind, or a size that its patches do not divide.
        WeightsError: published weights that cannot be downloaded.
    """
    size = input_size or (ARCHITECTURES[name].input_size if name in ARCHITECTURES else None)
    options: dict[str, Any] = {"num_classes": 0} | ({} if size is None else {"img_size": size})
    vit = create(name, pretrained=pretrained, seed=seed, **options)
    parts = ("patch_embed", "forward_intermediates", "blocks", "embed_dim")
    if not all(hasattr(vit, part) for part in parts) or not hasattr(vit.blocks[0], "attn") or "samvit" in name:
        raise ConfigError(
            f"encoder.name: {name} is neither a vision transformer nor a CNN with stages; expected one of timm's."
        )
    patch = _patch(vit)
    if patch is None:
        raise ConfigError(
            f"encoder.name: {name} does not cut its tiles into patches, but embeds them by several convolutions, so "
            f"that robis cannot tell where a token lies. Expected a plain ViT, such as vit_tiny_patch16_224."
        )
    size = size or int(vit.patch_embed.img_size[0])
    if size % patch:
        raise ConfigError(f"encoder.input_size: found {size}; expected a multiple of {name}'s patch, {patch} pixels.")
    if pretrained:
        _resize_published(vit, name)
    return vit


def _patch(vit: Any) -> int | None:
    """Side in pixels of the patches that one convolution embeds; None where patches overlap or are made otherwise."""
    embed = vit.patch_embed
    convolution = getattr(embed, "proj", None)
    if not isinstance(embed, PatchEmbed) or not isinstance(convolution, torch.nn.Conv2d):
        return None
    side, plain = convolution.stride[0], convolution.padding in ((0, 0), 0)
    return side if plain and convolution.kernel_size == convolution.stride == (side, side) else None


def _resize_published(vit: Any, name: str) -> None:
    """Replace position embeddings that timm has resized to another grid as the published code resizes them."""
    positions = getattr(vit, "pos_embed", None)
    if positions is None or not _as_dino(timm_name(name)):
        return
    published = create(name, pretrained=True, seed=None, num_classes=0).pos_embed
    if published.shape != positions.shape:
        prefix = 0 if vit.no_embed_class else vit.num_prefix_tokens
        positions.data.copy_(resized_positions(published, vit.patch_embed.grid_size[0], prefix, timm_name(name)))


def resized_positions(positions: Tensor, grid: int, prefix: int, model: str) -> Tensor:
    """Position embeddings for another grid.

    DINO and DINOv2 as their repositories and INP-Former's code do it: bicubic, no antialiasing, by the scale factor
    (grid + 0.1) / old grid, so that the last token lies a little before the border. Others as timm does it: bicubic,
    antialiased.

    Args:
        positions: (1, prefix + old grid^2, C).
        grid: tokens along one side.
        prefix: class and register tokens, which stay as they are.
        model: timm's name.

    Returns:
        (1, prefix + grid^2, C).
    """
    if not _as_dino(model):
        return resize_with_antialiasing(positions, [grid, grid], num_prefix_tokens=prefix)
    old = math.isqrt(positions.shape[1] - prefix)
    maps = positions[:, prefix:].float().unflatten(1, (old, old)).permute(0, 3, 1, 2)
    factor = (grid + 0.1) / old
    maps = F.interpolate(maps, scale_factor=(factor, factor), mode="bicubic")
    return torch.cat([positions[:, :prefix], maps.permute(0, 2, 3, 1).flatten(1, 2).to(positions.dtype)], dim=1)


def _as_dino(model: str) -> bool:
    return "dino" in model


def load_vit_state(vit: Any, state: Mapping[str, Tensor], *, source: str, name: str, timm_model: str) -> None:
    """Load weights into timm's ViT; see `VitEncoder.load_weights`.

    Raises:
        WeightsError: naming the first key that is missing, superfluous, of another shape or type, or that the model
            has no place for.
    """
    state = {key: value.contiguous() for key, value in state.items() if not key.startswith(_HEADS)}
    _check_rope(state, source, name)
    try:
        # timm's function for DINOv3's names prints.
        with redirect_stdout(StringIO()):
            converted = _timm_names(_with_grid(state, vit, timm_model), vit)
    except (RuntimeError, KeyError, AttributeError, ValueError) as error:
        raise WeightsError(f"{source}: made for another model than {name} ({first_line(error)}).") from error
    converted = {key: value for key, value in converted.items() if not key.startswith(_HEADS)}
    ignored = [key for key in state if key in _COMPUTED or key.endswith(_NO_WEIGHTS)]
    _check_biases(state, converted, source, name)
    check_nothing_dropped(state, converted.values(), ignored=ignored, source=source, made_for=name)
    check_state(converted, vit.state_dict(), source=source, made_for=name)
    vit.load_state_dict(converted)


def _with_grid(state: Mapping[str, Tensor], vit: Any, timm_model: str) -> dict[str, Tensor]:
    """The weights, position embeddings of another grid resized; the class token's place among them stays."""
    resized = dict(state)
    if "register_tokens" in resized:
        # The key by which timm recognizes the DINOv2 repository's names.
        resized.setdefault("mask_token", torch.empty(0))
    positions, grid = resized.get("pos_embed"), vit.patch_embed.grid_size[0]
    if positions is not None and getattr(vit, "pos_embed", None) is not None:
        # What a square number of tokens leaves over, the class token, has a position too.
        prefix = positions.shape[1] - math.isqrt(positions.shape[1]) ** 2
        if positions.shape[1] - prefix != grid * grid and prefix <= vit.num_prefix_tokens:
            resized["pos_embed"] = resized_positions(positions, grid, prefix, timm_model)
    return resized


def _timm_names(state: dict[str, Tensor], vit: Any) -> dict[str, Tensor]:
    kind = eva if isinstance(vit, eva.Eva) else vision_transformer
    return kind.checkpoint_filter_fn(state, vit)


def _check_biases(state: Mapping[str, Tensor], converted: Mapping[str, Tensor], source: str, name: str) -> None:
    """DINOv3's attention biases: timm has models with and without them; without, they have to be zero."""
    for key, value in state.items():
        has_place = key in converted or key.replace("qkv.bias", "q_bias") in converted
        if key.endswith("attn.qkv.bias") and not has_place and value.any():
            raise WeightsError(
                f"{source}: {key!r} differs from zero, but {name} has no attention biases. Set encoder.name to the "
                f"model that has them: {timm_name(name).split('.')[0]}_qkvb."
            )


def _check_rope(state: Mapping[str, Tensor], source: str, name: str) -> None:
    """DINOv3 stores the wavelengths of its rotary embeddings, which timm computes: they have to be the same."""
    periods = state.get("rope_embed.periods")
    if periods is None:
        return
    expected = _ROPE_BASE ** (torch.arange(len(periods)) / len(periods))
    if not torch.allclose(periods.float(), expected, rtol=0.01):
        raise WeightsError(
            f"{source}: 'rope_embed.periods' are not those that {name} computes, 1 to {expected[-1]:.3g}."
        )
