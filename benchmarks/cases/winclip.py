"""WinCLIP's windows in batches, beside one window at a time and anomalib's model; weights are random."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from functools import partial
from typing import Any

import open_clip
import torch
from torch import Tensor

from benchmarks.harness import Fact, Options, Row, Work, compare, require, timed
from benchmarks.plain import winclip as plain
from robis.detectors.winclip.scores import score, tile_maps
from robis.detectors.winclip.tiles import embed
from robis.encoders.clip import ClipEncoder, build_clip
from robis.encoders.names import CLIP_ARCHITECTURES

SCALES, TEMPERATURE = (2, 3), 0.07


@dataclass(frozen=True)
class Sizes:
    """Sizes.

    Attributes:
        images: tiles that are embedded together.
        encoder: a CLIP of robis's, or the path of an open_clip model config.
        shots: normal images of the few-shot run.
    """

    images: int = 4
    encoder: str = "clip_vitb16plus"
    shots: int = 4


FULL = Sizes()
QUICK = Sizes(images=2, encoder="benchmarks/cases/clip_tiny.json", shots=1)


@torch.inference_mode()
def rows(options: Options, sizes: Sizes) -> Iterator[Row | Fact]:
    """Embedding, image to map, and one more run from stored features."""
    model = _Model(sizes)
    repeats = min(options.repeats, 2)
    what = f"windows of {sizes.images} tiles of {model.size} px, {sizes.encoder}"
    work = Work("winclip", f"{what}, to embeddings", "one window at a time")
    yield compare(work, model.one_at_a_time, model.embedded, same_embeddings, repeats)
    whole = Work("winclip", f"{what}, to maps, zero-shot", "anomalib's model")
    try:
        theirs = model.anomalib()
    except ImportError as error:
        yield Fact("Libraries that were not measured", "winclip", {"library": "anomalib", "why": str(error)})
    else:
        yield compare(whole, theirs, model.zero_shot, same_maps, repeats)
    yield Fact("WinCLIP from stored features", f"{sizes.shots} shots, {what}", model.from_stored(sizes.shots))


class _Model:
    """An image tower with random weights, its tiles, and random text."""

    def __init__(self, sizes: Sizes) -> None:
        self.name = sizes.encoder
        self.clip = build_clip(sizes.encoder, weights="random", input_size=None)
        self.encoder = ClipEncoder(self.clip.visual, [0])
        self.size = self.encoder.input_size
        generator = torch.Generator().manual_seed(0)
        shape = (sizes.images, self.size, self.size, 3)
        self.tiles = torch.randint(0, 256, shape, dtype=torch.uint8, generator=generator)
        width = self.encoder.embedding_width
        self.text = {side: torch.randn(width, generator=generator) for side in ("normal", "anomalous")}
        self.settings: dict[str, Any] = {"grid": self.encoder.grid, "scales": SCALES, "temperature": TEMPERATURE}

    def one_at_a_time(self) -> dict[str, Tensor]:
        """Embeddings of all windows, one at a time."""
        return plain.embed_windows(self.encoder, self.tiles, SCALES)

    def embedded(self) -> dict[str, Tensor]:
        """Embeddings of tiles, patches and windows by robis."""
        return embed(self.encoder, self.tiles, SCALES)

    def zero_shot(self) -> tuple[Tensor, Tensor]:
        """Scores (B,) and maps (B, s, s) of the tiles by robis."""
        scores, maps = score(self.embedded(), self.text, **self.settings)
        return scores, tile_maps(maps, input_size=self.size, size=self.size)

    def anomalib(self) -> Callable[[], tuple[Tensor, Tensor]]:
        """The same by anomalib. Raises ImportError where it is not installed."""
        known = CLIP_ARCHITECTURES.get(self.name)
        backbone = known.model if known else self.name
        model = plain.anomalib_model(self.clip.state_dict(), backbone, self.text)
        mean, std = torch.tensor(open_clip.OPENAI_DATASET_MEAN), torch.tensor(open_clip.OPENAI_DATASET_STD)
        return partial(model, ((self.tiles / 255 - mean) / std).permute(0, 3, 1, 2))

    def from_stored(self, shots: int) -> dict[str, str | float | None]:
        """What one more run costs when the features are there."""
        features = self.embedded()
        references = {name: values[:shots].flatten(0, 1) for name, values in features.items() if name != "image"}
        run = timed(lambda: score(features, self.text, references, **self.settings))
        count = len(self.tiles)
        return {"s per image": run.seconds / count, "CPU s per image": run.cpu_seconds / count}


def same_embeddings(plain_values: Mapping[str, Tensor], our_values: Mapping[str, Tensor]) -> str:
    """Embeddings of the windows of every scale."""
    return _agreement([(values, our_values[name]) for name, values in plain_values.items()])


def same_maps(their_values: tuple[Tensor, Tensor], our_values: tuple[Tensor, Tensor]) -> str:
    """Scores and maps."""
    return _agreement(list(zip(their_values, our_values, strict=True)))


def _agreement(pairs: list[tuple[Tensor, Tensor]]) -> str:
    difference = max((x - y).abs().max().item() for x, y in pairs)
    require(difference < 1e-4, f"results differ by {difference:.1e}")
    return f"differ by at most {difference:.0e}"
