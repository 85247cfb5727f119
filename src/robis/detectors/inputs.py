"""What the stages of all detectors read of the config."""

from __future__ import annotations

from robis.config.stage import NUMBER, Option, When, options

# Options of the encoder: for images, and for tokens of chosen layers.
IMAGES = ("name", "weights", "input_size")
TOKENS = (*IMAGES, "blocks")
BATCHES = options("infer.batch_size", "infer.precision")
MAP_SIZE = (Option("tiling.window"), Option("merge.scale", when=When("tiling.window", (NUMBER,))))
# How many shards there are changes no result.
SHARDS = (Option("infer.shards"),)
