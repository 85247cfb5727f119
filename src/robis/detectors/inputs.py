"""What the stages of all detectors read of the config."""

from __future__ import annotations

from robis.config.settings import SharedSettings
from robis.config.stage import NUMBER, Option, When, options
from robis.encoders.names import is_clip
from robis.errors import ConfigError

# Options of the encoder: for images, and for tokens of chosen layers.
IMAGES = ("name", "weights", "input_size")
TOKENS = (*IMAGES, "blocks")
BATCHES = options("infer.batch_size", "infer.precision")
MAP_SIZE = (Option("tiling.window"), Option("merge.scale", when=When("tiling.window", (NUMBER, "joined"))))
# How many shards there are changes no result.
SHARDS = (Option("infer.shards"),)


def require_timm(settings: SharedSettings, detector: str) -> None:
    """Raise ConfigError where the encoder is a CLIP of open_clip."""
    if is_clip(settings.encoder.name):
        raise ConfigError(
            f"encoder.name: found {settings.encoder.name!r}; {detector} needs a vision transformer of timm, such as "
            f"dinov2_reg_vitb14."
        )


def require_two_blocks(settings: SharedSettings, detector: str) -> None:
    """Raise ConfigError where the config names a single block of the encoder."""
    blocks = settings.encoder.blocks
    if blocks is not None and len(blocks) < 2:
        raise ConfigError(f"encoder.blocks: found {list(blocks)}; {detector} needs at least 2 blocks.")
