"""Making an encoder by its name."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from importlib import import_module
from pathlib import Path
from typing import Any

from robis.encoders.encoder import Encoder, check_blocks
from robis.encoders.names import default_blocks, is_clip, weights_file
from robis.encoders.vit import _create, load_encoder_state
from robis.encoders.weights import read_state


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
        name: a short name of `ARCHITECTURES`, the name of any timm ViT, or a CLIP (`robis.encoders.clip.build_clip`).
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
        build: Callable[..., Encoder] = import_module("robis.encoders.clip").build_clip_encoder
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
