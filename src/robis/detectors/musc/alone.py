"""MuSc for one image: scored against frozen reference images, as if it joined their split."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor

from robis.detectors.batches import threads_of_torch, with_work
from robis.detectors.jobs import Compute, MapScale, ScorerJob
from robis.detectors.musc.nearest import NONE_YET, Products, lowest_mean, products_for
from robis.detectors.musc.reference import Reference, read_reference
from robis.detectors.musc.scores import (
    POOLED_AT_ONCE,
    Donors,
    Pooling,
    features_of,
    kept_type,
    mean_scores,
    ranks,
)
from robis.detectors.musc.tiles import encoded, maps_and_scores, normed_layers
from robis.detectors.scorers import ImageTiles, MapType, RawMaps, Scorer, TileFunction, batches_of, stored
from robis.encoders.build import build_encoder
from robis.encoders.devices import compute_type, named_device, pick_device
from robis.encoders.encoder import Encoder
from robis.encoders.names import quarter_blocks
from robis.errors import DataError
from robis.tiles.ignored import cells_of
from robis.tiles.store import map_size


@torch.inference_mode()
def load_scorer(job: ScorerJob) -> ReferenceScorer:
    """The reference images of a pack, ready to score others.

    Args:
        job: its options are `neighborhood_sizes`, `averaged_fraction`, and `seed` (of random encoder weights). Its
            input "reference" is the file of `write_reference`.

    Raises:
        WeightsError: the file is absent, damaged or made for another encoder or other blocks.
    """
    device = pick_device(job.compute.device)
    model = build_encoder(**job.encoder, by_depth=quarter_blocks, seed=job.options["seed"])
    reference = read_reference(job.inputs["reference"], model, str(job.encoder["name"]), device)
    dtype = compute_type(device, job.compute.precision)
    poolings = [Pooling(model.grid, side, device, dtype) for side in job.options["neighborhood_sizes"]]
    products = products_for(device, dtype)
    return ReferenceScorer(model.to(device), reference, poolings, job.options["averaged_fraction"], products)


@dataclass(frozen=True)
class ReferenceScorer(Scorer):
    """Scores images as MuSc scores those of a split that consists of the reference images and the image itself.

    An image that is one of the reference images is not compared with itself: it gets the scores that it has among them.

    Attributes:
        encoder: see `Scorer`.
        reference: the images that others are compared with.
        poolings: one per size of neighborhood.
        averaged_fraction: see `ranks`.
        products: see `nearest_cosines`.
        dtype: of stored maps.
    """

    encoder: Encoder
    reference: Reference
    poolings: Sequence[Pooling]
    averaged_fraction: Sequence[float]
    products: Products
    dtype: MapType = np.float16

    @property
    def grid(self) -> int:  # type: ignore[override]
        """See `Scorer`."""
        return self.encoder.grid

    @torch.inference_mode()
    def raw_maps(self, image: ImageTiles, compute: Compute, size: MapScale) -> RawMaps:
        device = named_device(compute.device)
        how, side = with_work(compute, device), map_size(size.window, size.scale, self.encoder.input_size)
        layers = self._tokens(image, how, device)
        own = self.reference.number_of(image.pixels)
        donors = None
        if image.ignored:
            cells = cells_of(image.ignored, (self.grid, self.grid)).reshape(len(image.pixels), -1)
            donors = Donors.of(cells, np.zeros(len(cells), np.int64))
        with threads_of_torch(how.threads):
            scores = mean_scores(self._rounds(layers, own, donors))
        maps, highest = maps_and_scores(scores, image.ignored, self.encoder.input_size, side)
        return RawMaps(stored(maps, range(len(maps)), image.source, self.dtype), scores=highest)

    def tile_function(self, size: MapScale) -> TileFunction:
        raise DataError(
            "A pack of this detector compares an image with reference images, but never one of them with itself, which "
            "no function of a tile can do. Inspect with the library, or export another detector."
        )

    def _tokens(self, image: ImageTiles, compute: Compute, device: torch.device) -> list[Tensor]:
        """Tokens of the image's tiles by layer, as those of the reference are kept."""
        dtype = kept_type(self.poolings[0].dtype)
        parts = []
        for start, batch in batches_of(image.pixels, compute, device):
            layers, _ = encoded(self.encoder, batch, compute)
            numbers = range(start, start + len(batch))
            parts.append([normed.to(dtype) for normed in normed_layers(layers, numbers, image.source)])
        return [torch.cat(of_layer) for of_layer in zip(*parts, strict=True)]

    def _rounds(self, layers: Sequence[Tensor], own: int | None, donors: Donors | None) -> Iterator[Tensor]:
        """Scores (n, g*g) of each round, in the order of `mutual_scores`."""
        others = len(self.reference.digests) - (own is not None)
        first, last = ranks(others, self.averaged_fraction)
        everything = np.arange(len(layers[0]))
        for tokens, kept in zip(layers, self.reference.tokens, strict=True):
            for pooling in self.poolings:
                x = features_of(tokens, everything, pooling, donors)(slice(0, len(tokens)))
                yield lowest_mean(self._cosines(x, kept, pooling, own), first, last, pooling.device)

    def _cosines(self, x: Tensor, kept: Tensor, pooling: Pooling, own: int | None) -> Tensor:
        """Cosines (n, images, g*g) of the nearest tokens of every reference image; `NONE_YET` for the image itself."""
        of = self.reference.images
        features = features_of(kept, np.arange(len(of)), pooling, self.reference.donors)
        best = torch.full((len(x), len(self.reference.digests), x.shape[1]), NONE_YET, device=x.device)
        for images in self._blocks(4 * kept[0].numel(), own):
            first, last = np.searchsorted(of, [images.start, images.stop]).tolist()
            y, of_y = features(slice(first, last)), of[first:last] - images.start
            cosines, others = best[:, images.start : images.stop], torch.full((len(y), 1, y.shape[1]), NONE_YET)
            others = others.to(x.device)
            # The order of a product's factors, on which its last bits depend, is that of the images in their split.
            if own is not None and images.start > own:
                self.products(x, y, _pairs(len(x), of_y, x.device), cosines, others)
            else:
                self.products(y, x, _pairs(len(x), of_y, x.device)[:, [1, 0, 3, 2]].contiguous(), others, cosines)
        return best

    def _blocks(self, bytes_of_tile: int, own: int | None) -> Iterator[range]:
        """Ranges of reference images, all before or all behind the image itself, whose features fit into memory."""
        counts = np.bincount(self.reference.images).tolist()
        start, held = 0, 0
        for image, count in enumerate([*counts, 0]):
            is_end = image in (own, len(counts))
            if start < image and (is_end or held + count * bytes_of_tile > POOLED_AT_ONCE):
                yield range(start, image)
                start, held = image, 0
            if image == own:
                start, held = image + 1, 0
            else:
                held += count * bytes_of_tile


def _pairs(tiles: int, images: np.ndarray, device: torch.device) -> Tensor:
    """All pairs of an image's tiles and others, as `Products` takes them, given the image number of each other tile."""
    a, b = (grid.ravel() for grid in np.indices((tiles, len(images))))
    pairs = np.stack([a, b, np.zeros_like(a), images[b]], 1).astype(np.int32)
    return torch.from_numpy(pairs).to(device)
