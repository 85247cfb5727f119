"""What a detector is given to do: tiles, where to write, and how to compute. Quick to import."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from robis.io.reuse import Reuse
from robis.tiles.files import TileMaps, TileStore


@dataclass(frozen=True)
class Compute:
    """How a model computes.

    Attributes:
        batch_size: tiles read at a time, and on a GPU tiles per forward pass.
        precision: "float32", "bf16" or "fp16" on a GPU; a CPU computes in float32.
        device: "auto", "cpu", "cuda", ...
        threads: batches read ahead of the arithmetic, and tiles that a CPU computes at the same time.
    """

    batch_size: int = 16
    precision: str = "float32"
    device: str = "auto"
    threads: int = 1


@dataclass(frozen=True)
class MapScale:
    """Size of raw maps.

    Attributes:
        window: side of a tile in image pixels, "image", or "joined" for images as they are.
        scale: map pixels per image pixel.
    """

    window: int | str
    scale: float


@dataclass(frozen=True)
class Shard:
    """Part `number` (0, 1, ...) of `count` parts of a split."""

    number: int = 0
    count: int = 1


@dataclass(frozen=True)
class TrainJob:
    """The training of one model.

    Attributes:
        stores: tiles of the normal images of every category that the model covers.
        model, history: what is written: the model (safetensors) and one row per step (Parquet).
        encoder: arguments of `build_encoder`; empty where the stage declares no encoder.
        options: the detector's own options by name.
        compute: how to compute; `batch_size` and `precision` are those of the training.
        identity: digest of settings and code, for states that may be resumed.
        allowed: images with regions that count as normal, for detectors with a memory bank: the arguments of
            `robis.tiles.allowed.AllowedImage.of`.
    """

    stores: tuple[TileStore, ...]
    model: Path
    history: Path
    encoder: Mapping[str, Any]
    options: Mapping[str, Any]
    compute: Compute
    identity: str = ""
    allowed: tuple[Mapping[str, Any], ...] = ()

    @property
    def store(self) -> TileStore:
        """The only store of a model that covers one category."""
        (store,) = self.stores
        return store


@dataclass(frozen=True)
class ScorerJob:
    """A detector to be loaded; see `InferJob` for the attributes."""

    inputs: Mapping[str, Path]
    encoder: Mapping[str, Any]
    options: Mapping[str, Any]
    compute: Compute
    size: MapScale


@dataclass(frozen=True)
class InferJob:
    """The inference of one category's split, or of one shard of it.

    Attributes:
        store: tiles of the split.
        output: what is written.
        inputs: other files that the detector reads, by name: "model" and what its own rules write.
        encoder: arguments of `build_encoder`; empty where the stage declares no encoder.
        options: the detector's own options by name.
        compute: how to compute.
        size: side of a map.
        shard: which part of the split.
        reuse: where the maps are kept for the next run; None where they depend on the other tiles of the split.
    """

    store: TileStore
    output: TileMaps
    inputs: Mapping[str, Path]
    encoder: Mapping[str, Any]
    options: Mapping[str, Any]
    compute: Compute
    size: MapScale
    shard: Shard = field(default_factory=Shard)
    reuse: Reuse | None = None

    @property
    def scorer(self) -> ScorerJob:
        """The detector that does it."""
        return ScorerJob(self.inputs, self.encoder, self.options, self.compute, self.size)


@dataclass(frozen=True)
class NormalImages:
    """The normal images that evidence compares with.

    Attributes:
        samples: their sample table.
        store: their tiles.
    """

    samples: Path
    store: TileStore
