"""A frozen vision transformer: its weights, its mean and standard deviation, and the blocks whose tokens are used."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from contextlib import redirect_stdout
from difflib import get_close_matches
from functools import partial
from importlib import import_module
from io import StringIO
from pathlib import Path
from typing import Any

import timm
import torch
from safetensors import safe_open
from safetensors.torch import load_file
from timm.models import eva, vision_transformer
from timm.models.vision_transformer_hybrid import ConvStem, HybridEmbed
from torch import Tensor, nn

from robis.architectures import ARCHITECTURES, default_blocks, is_clip, weights_file
from robis.errors import ConfigError, WeightsError
from robis.files import check_file
from robis.files import sha256 as digest_of


class Encoder(nn.Module):
    """A ViT in evaluation mode that turns 8-bit tiles into the raw tokens of chosen blocks.

    Attributes:
        width: channels C of a token.
        heads: attention heads.
        grid: tokens along one side, g.
        input_size: side of the tile in pixels.
        blocks: 0-based indexes of the blocks, ascending.
    """

    mean: Tensor
    std: Tensor

    def __init__(
        self,
        vit: Any,
        blocks: Sequence[int],
        mean: Sequence[float],
        std: Sequence[float],
        *,
        width: int,
        heads: int,
        grid: int,
        input_size: int,
    ) -> None:
        super().__init__()
        self.vit = vit.eval().requires_grad_(False)
        self.blocks = tuple(blocks)
        self.width = width
        self.heads = heads
        self.grid = grid
        self.input_size = input_size
        self.register_buffer("mean", torch.tensor(mean).view(1, 3, 1, 1), persistent=False)
        self.register_buffer("std", torch.tensor(std).view(1, 3, 1, 1), persistent=False)

    def train(self, mode: bool = True) -> Encoder:
        """Stay in evaluation mode: the encoder is frozen."""
        return super().train(False)

    @torch.no_grad()
    def forward(self, tiles: Tensor) -> list[Tensor]:
        """Tokens of the chosen blocks, without final norm, class and register tokens dropped.

        Args:
            tiles: uint8 or float (B, s, s, 3) RGB, range 0..255.

        Returns:
            One (B, g*g, C) tensor per block.
        """
        return self.vit.forward_intermediates(
            self._normalized(tiles),
            indices=list(self.blocks),
            norm=False,
            output_fmt="NLC",
            intermediates_only=True,
            stop_early=True,
        )

    @torch.no_grad()
    def with_embedding(self, tiles: Tensor) -> tuple[list[Tensor], Tensor]:
        """Tokens of the chosen blocks after the final norm, and the image embedding, as MuSc takes them of DINO.

        Args:
            tiles: uint8 or float (B, s, s, 3) RGB, range 0..255.

        Returns:
            One (B, g*g, C) tensor per block, and the normed class tokens (B, C); the mean token of a
            model that has no class token.
        """
        images = self._normalized(tiles)
        last, tokens = self.vit.forward_intermediates(images, indices=list(self.blocks), norm=True, output_fmt="NLC")
        return tokens, last[:, 0] if self.vit.num_prefix_tokens else last.mean(dim=1)

    def _normalized(self, tiles: Tensor) -> Tensor:
        return tiles.permute(0, 3, 1, 2).to(self.mean.dtype).div(255).sub(self.mean).div(self.std)


def build_encoder(
    name: str,
    *,
    weights: str = "auto",
    sha256: str | None = None,
    input_size: int | None = None,
    blocks: Sequence[int] | None = None,
    by_depth: Callable[[int], Sequence[int]] | None = None,
    seed: int = 0,
) -> Encoder:
    """Make a frozen encoder.

    Args:
        name: a short name of `ARCHITECTURES`, the name of any timm ViT, or a CLIP (`robis.clip.build_clip`).
        weights: "auto" (timm downloads them; `robis_vit_tiny`'s lie in this package), "random" (from `seed`), or the
            path of a local .safetensors or torch file in the key names of timm or of the DINOv2 or DINOv3 repository.
        sha256: digest that the local file must have; None does not check.
        input_size: side of a tile in pixels, a multiple of the patch; None takes the architecture's own.
        blocks: 0-based indexes; None takes INP-Former's, or eight evenly spread ones (CLIP: the last of each quarter).
        by_depth: gives the blocks that None stands for, of a model of so many: `quarter_blocks` in MuSc.
        seed: for random weights.

    Raises:
        ConfigError: an unknown name, a size or block that the model does not have.
        WeightsError: weights that are absent or do not fit.
    """
    if is_clip(name):
        # By name, so that a change of CLIP's code re-runs nothing that uses another encoder.
        build: Callable[..., Encoder] = import_module("robis.clip").build_clip_encoder
        options: dict[str, Any] = {"input_size": input_size, "blocks": blocks, "by_depth": by_depth, "seed": seed}
        return build(name, weights=weights, sha256=sha256, **options)
    weights = weights_file(name, weights)
    vit = _create(name, input_size, pretrained=weights == "auto", seed=seed)
    depth = len(vit.blocks)
    if blocks is None:
        blocks = by_depth(depth) if by_depth else default_blocks(name, depth)
    chosen = check_blocks(blocks, depth, name)
    if weights not in ("auto", "random"):
        state = read_state(Path(weights).expanduser(), sha256=sha256, key="encoder.weights")
        load_encoder_state(vit, state, source=f"encoder.weights: {weights}", name=name)
    config = vit.pretrained_cfg
    return Encoder(
        vit,
        chosen,
        config["mean"],
        config["std"],
        width=int(vit.embed_dim),
        heads=int(vit.blocks[0].attn.num_heads),
        grid=int(vit.patch_embed.grid_size[0]),
        input_size=int(vit.patch_embed.img_size[0]),
    )


def check_blocks(blocks: Sequence[int], depth: int, name: str) -> list[int]:
    """The blocks, if they ascend and the model has them; otherwise raises ConfigError."""
    chosen = list(blocks)
    if not chosen or sorted(set(chosen)) != chosen or chosen[-1] >= depth:
        raise ConfigError(
            f"encoder.blocks: found {chosen}; expected ascending numbers from 0 to {depth - 1} for {name}."
        )
    return chosen


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


def first_line(error: Exception) -> str:
    """What an error says, short enough for a message."""
    return (str(error).strip().splitlines() or [type(error).__name__])[0][:200]


def read_state(path: Path, *, sha256: str | None, key: str) -> dict[str, Tensor]:
    """Read a state dict from a .safetensors or torch file; nothing is unpickled but tensors.

    Args:
        path: the file.
        sha256: digest that it must have; None does not check.
        key: the config key that names the file, for messages.

    Raises:
        WeightsError: no such file, another digest, or not a state dict.
    """
    check_file(path, key)
    if sha256 is not None and (found := digest_of(path)) != sha256:
        raise WeightsError(f"{key}: {path} has sha256 {found}; expected {sha256}. Fetch the file again.")
    try:
        state = load_file(path) if path.suffix == ".safetensors" else torch.load(path, "cpu", weights_only=True)
    except Exception as error:  # safetensors, zip and unpickling errors share no base class
        raise WeightsError(f"{key}: {path} is not a readable weights file ({first_line(error)}).") from error
    for wrapper in ("state_dict", "model", "teacher"):
        if isinstance(state, Mapping) and isinstance(state.get(wrapper), Mapping):
            state = state[wrapper]
    if not isinstance(state, Mapping) or not all(isinstance(value, Tensor) for value in state.values()):
        raise WeightsError(f"{key}: {path} holds no state dict; expected parameter names and tensors.")
    return {name.removeprefix("module.").removeprefix("backbone."): value for name, value in state.items()}


def read_metadata(path: Path) -> dict[str, str]:
    """What a .safetensors file says of itself; nothing for other files."""
    if path.suffix != ".safetensors":
        return {}
    with safe_open(path, framework="pt") as stream:
        return dict(stream.metadata() or {})


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


def check_state(found: Mapping[str, Tensor], expected: Mapping[str, Tensor], *, source: str, made_for: str) -> None:
    """Compare keys and shapes. Raises WeightsError at the first difference, with both shapes."""
    for key, value in expected.items():
        if key not in found:
            raise WeightsError(f"{source}: has no {key!r}; expected {tuple(value.shape)} for {made_for}.")
        if found[key].shape != value.shape:
            raise WeightsError(
                f"{source}: {key!r} is {tuple(found[key].shape)}; expected {tuple(value.shape)} for {made_for}. "
                f"The file was made for another model."
            )
    superfluous = [key for key in found if key not in expected]
    if superfluous:
        raise WeightsError(f"{source}: has {superfluous[0]!r}, which {made_for} does not. Made for another model.")
