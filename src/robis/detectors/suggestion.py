"""What `robis init` asks a detector: whether it suits, with which options, and how long it takes."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, ClassVar


@dataclass(frozen=True)
class Machine:
    """A kind of machine, the encoder that suits it, and what they take, in seconds.

    Attributes:
        name: for people.
        gpu: whether it has a GPU.
        encoder: as encoder.name.
        window: the largest window as a multiple of the encoder's input.
        encode: of one tile, in training and inference.
        step: of one tile in a training step of a network.
        pair: of 10^6 pairs of tokens in the thinning of a memory bank.
        search: of one tile's tokens in a memory bank, or in a trained network.
        compare: of one tile's tokens with those of another image.
        megapixel: of the later stages, per 10^6 image pixels.
        job: of the start of a job, and the number of jobs that run at the same time.
    """

    name: str
    gpu: bool
    encoder: str
    window: float
    encode: float
    step: float
    pair: float
    search: float
    compare: float
    megapixel: float
    job: tuple[float, int]


@dataclass(frozen=True)
class Work:
    """What a category gives a detector to do.

    Attributes:
        train_tiles: tiles of the images to learn from.
        test_images: images to inspect.
        tokens: tokens of a tile.
    """

    train_tiles: int
    test_images: int
    tokens: int


class Suggestion:
    """Whether a detector suits some images and a machine, and with which options. These defaults never suggest it.

    Attributes:
        reason: why it was chosen, as a comment beside `detectors`.
        options_reason: why its options have these values, as a comment beside its section.
        std_factor: `binarize.std_factor` for thresholds from validation images; None leaves the default.
    """

    reason: ClassVar[str] = ""
    options_reason: ClassVar[str] = ""
    std_factor: ClassVar[float | None] = None

    def rank(self, machine: Machine, *, learns: bool) -> int:
        """How well the detector suits: the highest rank is chosen, and a detector of rank 0 only where all have 0.

        Args:
            machine: what computes.
            learns: whether every category has images to learn from.
        """
        return 0

    def options(self, work: Sequence[Work]) -> dict[str, Any]:
        """Values of its section that suit some categories; those left out keep their defaults."""
        return {}

    def train_seconds(self, work: Work, options: Mapping[str, Any], machine: Machine) -> float:
        """Time of training on a category, with `options` as this object suggests them."""
        return work.train_tiles * machine.encode

    def tile_seconds(self, work: Work, machine: Machine) -> float:
        """Time of inference of one tile."""
        return machine.encode + machine.search
