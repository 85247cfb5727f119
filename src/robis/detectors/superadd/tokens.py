"""The tokens that SuperADD learns from: of tiles or of whole images, brighter or darker."""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np
import torch
from torch import Tensor

from robis.detectors.batches import with_work
from robis.detectors.checks import require_finite
from robis.detectors.inference import Images
from robis.detectors.jobs import TrainJob
from robis.detectors.normal_tokens import Features, TileTokens, Tokens, require_kept_tokens, require_some
from robis.detectors.superadd.joined import Joining, joined_tokens, token_side
from robis.encoders.encoder import Encoder
from robis.io.arrays import release
from robis.io.ignored import decode
from robis.io.progress import tracked
from robis.tiles.ignored import ignored_of, kept_tokens
from robis.tiles.store import open_tiles

# Brightness has a stream of random numbers of its own.
BRIGHTNESS = 3


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
    store, rows = open_tiles(job.store.tiles, job.store.table)
    features = Features(network, network.grid, network.widths)
    kept = kept_tokens(rows, network.grid)
    return TileTokens(features, _Brightened(store, job), job, network.mean.device, kept=kept)


def _brightness(job: TrainJob, number: int) -> float:
    """Factor of a tile or an image: it depends on seed and number alone."""
    jitter = job.options["brightness_jitter"]
    return np.random.default_rng([job.options["seed"], BRIGHTNESS, number]).uniform(1 - jitter, 1 + jitter)


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
        require_some(len(self.images), job)
        self.joining = Joining(job.options["image_scale"], job.options["overlap"])
        self.step = token_side(network)
        _, self.rows = open_tiles(job.store.tiles, job.store.table)
        self.starts = np.cumsum([0, *map(self._count, range(len(self.images)))])
        require_kept_tokens(int(self.starts[-1]), job)
        super().__init__(int(self.starts[-1]), network.widths, network.mean.device)
        self.network, self.job = network, job

    def _count(self, number: int) -> int:
        rows, columns = self.joining.grid(*self.images.sides[number], self.step)
        kept = self._kept(number)
        return rows * columns if kept is None else int(kept.sum())

    def _kept(self, number: int) -> np.ndarray | None:
        """Which tokens of an image are not ignored, bool (rows * columns,); None where none is."""
        png = ignored_of(self.rows, number)
        return None if png is None else ~self.joining.ignored(decode(png), self.step).reshape(-1)

    def encoded(self, name: str) -> Iterator[tuple[int, list[Tensor]]]:
        compute = with_work(self.job.compute, self.device)
        for number in tracked(range(len(self.images)), len(self.images), "images", name):
            image = torch.from_numpy(self.images[number]).to(self.device)
            factor = _brightness(self.job, number)
            tokens = joined_tokens(self.network, image, self.joining, compute, factor)
            for raw in tokens:
                require_finite(raw[None], "tokens", [number], self.job.store.tiles)
            flat, kept = [raw.flatten(0, 1) for raw in tokens], self._kept(number)
            if kept is not None:
                chosen = torch.from_numpy(kept).to(self.device)
                flat = [raw[chosen] for raw in flat]
            yield int(self.starts[number]), flat
