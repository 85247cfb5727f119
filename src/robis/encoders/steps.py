"""How many tokens an encoder makes of a tile, known without building it. Needs no torch."""

from __future__ import annotations

import re
from collections.abc import Sequence

from robis.encoders.names import ARCHITECTURES, clip_config, family_of

# The least step of a CNN's grid, in pixels of the tile, as `robis.encoders.cnn` has it.
CNN_STEP = 8


def tokens_per_side(name: str, input_size: int, blocks: Sequence[int] | None = None) -> int | None:
    """Tokens along one side of a tile; None where only the built model tells.

    Args:
        name: as `encoder.name`.
        input_size: side of the tile in pixels.
        blocks: stages of a CNN; None for those that robis takes.

    Raises:
        ConfigError: a name that no model has.
    """
    step = token_step(name, blocks)
    return max(1, round(input_size / step)) if step else None


def token_step(name: str, blocks: Sequence[int] | None = None) -> int | None:
    """Pixels of the tile from one token to the next; None where only the built model tells. See `tokens_per_side`."""
    family = family_of(name)
    if family == "clip":
        patch = clip_config(name)[0]["vision_cfg"].get("patch_size")
        return patch if isinstance(patch, int) else None
    known = ARCHITECTURES.get(name)
    if family == "vit":
        patch_name = re.search(r"patch(\d+)", known.model if known else name)
        return int(patch_name[1]) if patch_name else None
    stages = blocks or (known.blocks if known else ())
    # Stage n of the networks with a short name halves the image n + 1 times.
    return max(CNN_STEP, 2 ** (min(stages) + 1)) if known and stages else None
