"""Making an encoder by its name."""

from __future__ import annotations

from collections.abc import Callable, Sequence

from robis.config.registry import Registry
from robis.encoders.cnn import build_cnn
from robis.encoders.encoder import Choice, Encoder
from robis.encoders.names import family_of
from robis.encoders.vit import build_vit


def _build_clip_tokens(choice: Choice) -> Encoder:
    # Late: open_clip takes long to import, a tenth of the time to the first result of `robis inspect`.
    from robis.encoders.clip import build_clip_tokens

    return build_clip_tokens(choice)


# A job's code digest takes the entry of its own encoder (`robis.encoders.names.builder_of`).
FAMILIES: Registry[Callable[[Choice], Encoder]] = Registry(
    {"vit": build_vit, "cnn": build_cnn, "clip": _build_clip_tokens}
)


def build_encoder(
    name: str,
    *,
    weights: str = "auto",
    sha256: str | None = None,
    input_size: int | None = None,
    blocks: Sequence[int] | None = None,
    by_depth: Callable[[int], Sequence[int]] | None = None,
    seed: int = 0,
    equal_widths: bool = False,
    geometry: Sequence[Sequence[float]] | None = None,
    on_grid: bool = True,
) -> Encoder:
    """Make a frozen encoder.

    Args:
        name: a short name of `ARCHITECTURES`, timm's name of any ViT or of any CNN with stages, or a CLIP
            (`robis.encoders.clip.build_clip`).
        weights: "auto" (an installed package's, or timm or open_clip downloads them), "random" (from `seed`), or the
            path of a local .safetensors or torch file in the key names of timm or of the DINO, DINOv2 or DINOv3
            repository; CLIP also takes open_clip's tags.
        sha256: digest that the local file must have; None does not check.
        input_size: side of a tile in pixels; None takes the architecture's own. A ViT needs a multiple of its patch.
        blocks: 0-based indexes of transformer blocks or of a CNN's stages (timm's `out_indices`); None takes those of
            `ARCHITECTURES`, or eight evenly spread ones (CLIP: the last of each quarter).
        by_depth: gives the blocks that None stands for, of a transformer of so many: `quarter_blocks` in MuSc.
        seed: for random weights.
        equal_widths: whether the tokens of all layers have to have the same number of channels; a CNN's stages are then
            projected (`CnnEncoder`).
        geometry: `geometry` of an encoder with the same weights and options; None measures it.
        on_grid: whether tokens are needed. False: `layer_maps` alone, and nothing of a CNN is measured.

    Raises:
        ConfigError: an unknown name, a size or block that the model does not have.
        WeightsError: weights that are absent or do not fit.
    """
    choice = Choice(name, weights, sha256, input_size, blocks, by_depth, seed, equal_widths, geometry, on_grid)
    return FAMILIES[family_of(name)](choice)
