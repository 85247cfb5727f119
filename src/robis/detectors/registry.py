"""Anomaly detectors, from tiles to tile maps: one visible registry.

A detector is a set of stages, each run by a module of its own, so that a change of how maps are written trains no
model again. Modules are imported when they run.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from robis.config.stage import A_NUMBER, Stage


@dataclass(frozen=True)
class Detector:
    """What is a detector's own.

    Attributes:
        stages: `infer`, and what comes before it: `train` where it learns from normal images, and others.
        published: dotted key -> what `auto` stands for.
        rates_images: whether `infer` writes `score` and `embedding` of every tile into the tile table.
    """

    stages: Mapping[str, Stage]
    published: Mapping[str, Any]
    rates_images: bool = False


_IMAGES = ("name", "weights", "input_size")
_TOKENS = (*_IMAGES, "blocks")
_BATCHES = ("infer.batch_size", "infer.precision")
_MAP_SIZE = ("tiling.window", "merge.scale")
_TILED = {"scale": ("window", (A_NUMBER,))}

DETECTORS: dict[str, Detector] = {
    "inp_former": Detector(
        stages={
            "train": Stage(
                "robis.detectors.inp_former.train",
                options=("inp_former",),
                unwatched=("checkpoint_every", "weights"),
                after=("crop",),
                encodes=_TOKENS,
            ),
            "infer": Stage(
                "robis.detectors.inp_former.infer",
                options=("inp_former.prototypes", "inp_former.seed", *_MAP_SIZE, "infer"),
                also=("inp_former.weights",),
                only_with=_TILED,
                after=("crop", "train"),
                encodes=_TOKENS,
            ),
        },
        published={
            "encoder.name": "dinov2_reg_vitb14",
            "tiling.window": 1024,
            "score_images.top_fraction": 0.01,
            "rescore.method": "none",
        },
    ),
    "musc": Detector(
        stages={
            "infer": Stage(
                "robis.detectors.musc.infer",
                options=("musc", *_MAP_SIZE, "infer"),
                unwatched=("memory_gb",),
                only_with=_TILED,
                after=("crop",),
                encodes=_TOKENS,
            ),
        },
        published={
            "encoder.name": "clip_vitl14_336",
            "tiling.window": "image",
            "score_images.top_fraction": "own",
            "rescore.method": "rscin",
        },
        rates_images=True,
    ),
    "winclip": Detector(
        stages={
            "embed_prompts": Stage(
                "robis.detectors.winclip.text",
                options=(
                    *("winclip.class_name", "winclip.normal_states", "winclip.anomalous_states"),
                    "winclip.templates",
                ),
                encodes=("name", "weights"),
            ),
            "embed_tiles": Stage(
                "robis.detectors.winclip.tiles",
                options=("winclip.scales", *_BATCHES),
                after=("crop",),
                encodes=_IMAGES,
            ),
            "train": Stage(
                "robis.detectors.winclip.train",
                options=("winclip.scales", "winclip.references", *_BATCHES),
                also=("winclip.shots", "winclip.seeds"),
                after=("crop",),
                encodes=_IMAGES,
            ),
            "infer": Stage(
                "robis.detectors.winclip.infer",
                options=("winclip.scales", "winclip.temperature", *_MAP_SIZE),
                only_with=_TILED,
                after=("crop", "embed_prompts", "embed_tiles", "train"),
                encodes=_IMAGES,
            ),
        },
        published={
            "encoder.name": "clip_vitb16plus",
            "tiling.window": "image",
            "score_images.top_fraction": "own",
            "rescore.method": "none",
        },
        rates_images=True,
    ),
    "superadd": Detector(
        stages={
            "train": Stage(
                "robis.detectors.superadd.train",
                options=("superadd", *_BATCHES),
                unwatched=("memory_gb",),
                after=("crop",),
                encodes=_TOKENS,
            ),
            "infer": Stage(
                "robis.detectors.superadd.infer",
                options=("superadd.seed", *_MAP_SIZE, "infer"),
                only_with=_TILED,
                after=("crop", "train"),
                encodes=_TOKENS,
            ),
        },
        published={
            "encoder.name": "dinov3_vithplus16",
            "tiling.window": 1024,
            "score_images.top_fraction": 0.001,
            "rescore.method": "none",
        },
    ),
}
