"""The tokens that SuperADD learns from: of tiles or of whole images, brighter or darker."""

from __future__ import annotations

from abc import abstractmethod
from collections.abc import Callable, Iterator, Sequence

import numpy as np
import torch
from torch import Tensor

from robis.detectors.batches import with_work
from robis.detectors.checks import require_finite
from robis.detectors.inference import Images
from robis.detectors.jobs import TrainJob
from robis.detectors.memory_bank.allowed import allowed_tiles, joined, require_tokens, with_allowed
from robis.detectors.normal_tokens import Features, TileTokens, Tokens, require_kept_tokens, require_some
from robis.detectors.superadd.joined import Joining, joined_tokens, token_side
from robis.encoders.encoder import Encoder
from robis.io.arrays import release
from robis.io.ignored import decode, left_out
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


def with_regions(bank: list[Tensor], network: Encoder, job: TrainJob) -> list[Tensor]:
    """A bank, per block (M, C) float32 on the CPU, followed by the tokens of regions that count as normal.

    Raises DataError where a region cannot be used.
    """
    if job.options["window"] != "joined":
        features = Features(network, network.grid, network.widths)
        return with_allowed(bank, job, features, network.mean.device)
    if not job.allowed:
        return bank
    return joined(bank, _RegionTokens(network, job))


class _JoinedTokens(Tokens):
    """The tokens of whole images, joined on one grid for each."""

    def __init__(self, network: Encoder, job: TrainJob, sides: Sequence[tuple[int, int]]) -> None:
        """Take the height and width of each image in pixels."""
        self.sides, self.network, self.job = sides, network, job
        self.joining = Joining(job.options["image_scale"], job.options["overlap"])
        self.step = token_side(network)
        self.starts = np.cumsum([0, *map(self._count, range(len(sides)))])
        super().__init__(int(self.starts[-1]), network.widths, network.mean.device)

    @abstractmethod
    def image(self, number: int) -> np.ndarray:
        """An image, uint8 (H, W, 3) RGB."""

    @abstractmethod
    def kept(self, number: int) -> np.ndarray | None:
        """Which tokens of an image count, bool (rows * columns,); None: all."""

    def brightness(self, number: int) -> float:
        """Factor of an image's brightness."""
        return 1.0

    def cells(self, pixels: np.ndarray, rule: Callable[[np.ndarray, int, int], np.ndarray] = left_out) -> np.ndarray:
        """Tokens that a rule chooses by their pixels, bool (H, W) -> bool (rows, columns)."""
        return self.joining.cells(pixels, self.step, rule)

    def _count(self, number: int) -> int:
        rows, columns = self.joining.grid(*self.sides[number], self.step)
        kept = self.kept(number)
        return rows * columns if kept is None else int(kept.sum())

    def places(self, numbers: np.ndarray) -> np.ndarray:
        return np.array([self._place(int(number)) for number in numbers], np.int64).reshape(-1, 3)

    def _place(self, number: int) -> tuple[int, int, int]:
        image = int(np.searchsorted(self.starts, number, side="right")) - 1
        cell, kept = number - int(self.starts[image]), self.kept(image)
        if kept is not None:
            cell = int(np.flatnonzero(kept)[cell])
        return (image, *divmod(cell, self.joining.grid(*self.sides[image], self.step)[1]))

    def encoded(self, name: str) -> Iterator[tuple[int, list[Tensor]]]:
        compute = with_work(self.job.compute, self.device)
        for number in tracked(range(len(self.sides)), len(self.sides), "images", name):
            image = torch.from_numpy(self.image(number)).to(self.device)
            tokens = joined_tokens(self.network, image, self.joining, compute, self.brightness(number))
            for raw in tokens:
                require_finite(raw[None], "tokens", [number], self.job.store.tiles)
            flat, kept = [raw.flatten(0, 1) for raw in tokens], self.kept(number)
            if kept is not None:
                chosen = torch.from_numpy(kept).to(self.device)
                flat = [raw[chosen] for raw in flat]
            yield int(self.starts[number]), flat


class _ImageTokens(_JoinedTokens):
    """Those of a training's images, brighter or darker; ignored ones are left out."""

    def __init__(self, network: Encoder, job: TrainJob) -> None:
        self.images = Images.of(job.store.tiles, job.store.table)
        require_some(len(self.images), job)
        _, self.rows = open_tiles(job.store.tiles, job.store.table)
        super().__init__(network, job, self.images.sides)
        require_kept_tokens(self.count, job)

    def image(self, number: int) -> np.ndarray:
        return self.images[number]

    def kept(self, number: int) -> np.ndarray | None:
        png = ignored_of(self.rows, number)
        return None if png is None else ~self.cells(decode(png)).reshape(-1)

    def brightness(self, number: int) -> float:
        return _brightness(self.job, number)


class _RegionTokens(_JoinedTokens):
    """Those of regions that count as normal, as they are inspected."""

    def __init__(self, network: Encoder, job: TrainJob) -> None:
        self.tiles = allowed_tiles(job)
        super().__init__(network, job, self.tiles.sides)
        require_tokens(self.count, job)

    def image(self, number: int) -> np.ndarray:
        return self.tiles.tile(number)

    def kept(self, number: int) -> np.ndarray:
        return self.tiles.cells(number, self.cells).reshape(-1)
