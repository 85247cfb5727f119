"""The tokens of all normal images of a category, numbered, and encoded on demand."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Iterator

import numpy as np
import torch
from torch import Tensor

from robis.detectors.batches import tile_batches, with_work
from robis.detectors.checks import require_finite
from robis.detectors.inference import Images
from robis.detectors.jobs import TrainJob
from robis.detectors.superadd.joined import Joining, joined_tokens, token_side
from robis.encoders.devices import autocast
from robis.encoders.encoder import Encoder
from robis.errors import DataError
from robis.io.arrays import release
from robis.io.progress import tracked
from robis.tiles.store import open_tiles

# Brightness has a stream of random numbers of its own.
BRIGHTNESS = 3


class Tokens(ABC):
    """Tokens of a number of inputs, those of an input one after another.

    Attributes:
        count: how many tokens there are, of each block.
        widths: channels of a token, for each block.
        device: where they are encoded.
    """

    def __init__(self, network: Encoder, job: TrainJob, count: int) -> None:
        self.network, self.job, self.count = network, job, count
        self.device = network.mean.device
        self.widths = list(network.widths)

    @abstractmethod
    def encoded(self, name: str) -> Iterator[tuple[int, list[Tensor]]]:
        """One pass over the inputs: the number of a batch's first token, and its tokens (n, C) of each block.

        name: of the pass, in lines about the progress.
        """

    def gather(self, wanted: np.ndarray, name: str) -> list[Tensor]:
        """Tokens of these numbers, per block float32 (n, C) on the device, from one pass over the inputs.

        wanted: numbers, each once, in any order. name: of the pass, in lines about the progress.
        """
        gathered = [torch.empty(len(wanted), width, device=self.device) for width in self.widths]
        order = np.argsort(wanted)
        ascending = wanted[order]
        for start, tokens in self.encoded(name):
            begin, end = np.searchsorted(ascending, [start, start + len(tokens[0])])
            rows = torch.from_numpy(order[begin:end]).to(self.device)
            chosen = torch.from_numpy(ascending[begin:end] - start).to(self.device)
            for kept, raw in zip(gathered, tokens, strict=True):
                kept[rows] = raw[chosen].float()
        return gathered


def open_tokens(network: Encoder, job: TrainJob) -> Tokens:
    """The tokens of a training's tiles, or of its whole images.

    Args:
        network: the encoder, on the computing device.
        job: its options are
            window: "joined" for tokens joined over whole images;
            image_scale, overlap: see `Joining`;
            brightness_jitter: each tile's or image's brightness is multiplied by a random factor; 0.2 gives 0.8 to 1.2;
            seed: of these factors.

    Raises:
        DataError: there are no tiles; when tokens are encoded: some are not finite.
    """
    if job.options["window"] == "joined":
        return _ImageTokens(network, job)
    return _TileTokens(network, job)


def _require_some(count: int, job: TrainJob) -> None:
    if not count:
        raise DataError(f"{job.store.tiles}: the tile store is empty; expected at least one tile of a normal image.")


def _brightness(job: TrainJob, number: int) -> float:
    """Factor of a tile or an image: it depends on seed and number alone."""
    jitter = job.options["brightness_jitter"]
    return np.random.default_rng([job.options["seed"], BRIGHTNESS, number]).uniform(1 - jitter, 1 + jitter)


class _TileTokens(Tokens):
    """The tokens of tiles, each of which is encoded alone."""

    def __init__(self, network: Encoder, job: TrainJob) -> None:
        store, _ = open_tiles(job.store.tiles, job.store.table)
        _require_some(len(store), job)
        super().__init__(network, job, len(store) * network.grid**2)
        self.store = _Brightened(store, job)

    def encoded(self, name: str) -> Iterator[tuple[int, list[Tensor]]]:
        for start, batch in tile_batches(self.store, self.job.compute, self.device, name):
            with autocast(self.device, self.job.compute.precision):
                tokens = self.network(batch)
            for raw in tokens:
                require_finite(raw, "tokens", range(start, start + len(raw)), self.job.store.tiles)
            yield start * self.network.grid**2, [raw.flatten(0, 1) for raw in tokens]


class _Brightened:
    """A tile store whose tiles are brighter or darker, rounded to 8 bits."""

    def __init__(self, store: np.ndarray, job: TrainJob) -> None:
        self.store, self.job = store, job

    def __len__(self) -> int:
        return len(self.store)

    def __getitem__(self, chosen: slice) -> np.ndarray:
        tiles = np.array(self.store[chosen])
        release(self.store)
        if not self.job.options["brightness_jitter"]:
            return tiles
        for tile, number in zip(tiles, range(*chosen.indices(len(self))), strict=True):
            factor = _brightness(self.job, number)
            tile[:] = np.clip(np.rint(np.arange(256) * factor), 0, 255).astype(np.uint8)[tile]
        return tiles


class _ImageTokens(Tokens):
    """The tokens of whole images, joined on one grid for each."""

    def __init__(self, network: Encoder, job: TrainJob) -> None:
        self.images = Images.of(job.store.tiles, job.store.table)
        _require_some(len(self.images), job)
        self.joining = Joining(job.options["image_scale"], job.options["overlap"])
        step = token_side(network)
        grids = [self.joining.grid(*size, step) for size in self.images.sides]
        self.starts = np.cumsum([0, *(rows * columns for rows, columns in grids)])
        super().__init__(network, job, int(self.starts[-1]))

    def encoded(self, name: str) -> Iterator[tuple[int, list[Tensor]]]:
        compute = with_work(self.job.compute, self.device)
        for number in tracked(range(len(self.images)), len(self.images), "images", name):
            image = torch.from_numpy(self.images[number]).to(self.device)
            factor = _brightness(self.job, number)
            tokens = joined_tokens(self.network, image, self.joining, compute, factor)
            for raw in tokens:
                require_finite(raw[None], "tokens", [number], self.job.store.tiles)
            yield int(self.starts[number]), [raw.flatten(0, 1) for raw in tokens]
