"""The frozen images that a pack of MuSc compares new images with: chosen from a split, their tokens in one file."""

from __future__ import annotations

import hashlib
import logging
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor

from robis.detectors.batches import Picked, tile_batches, with_work
from robis.detectors.jobs import Compute
from robis.detectors.model_files import open_model, write_model
from robis.detectors.musc.scores import Donors, kept_type, tiles_of
from robis.detectors.musc.tiles import encoded, normed_layers
from robis.encoders.build import build_encoder
from robis.encoders.devices import compute_type, pick_device
from robis.encoders.encoder import Encoder
from robis.encoders.names import quarter_blocks
from robis.tiles.files import TileStore
from robis.tiles.ignored import has_ignored, ignored_cells
from robis.tiles.store import open_tiles

logger = logging.getLogger(__name__)

# Of the tokens of all images, which inspection keeps in memory.
MOST_BYTES = 2_000_000_000
# One of them may be the inspected image.
FEWEST = 2


@dataclass(frozen=True, eq=False)
class Reference:
    """The images that new ones are compared with.

    Attributes:
        tokens: per layer (M, g*g, C) of M tiles, from `layer_norm`.
        images: (M,) ascending image number of each tile, from 0.
        digests: of each image, see `tiles_digest`.
        donors: see `Donors`; None where no pixel is ignored.
    """

    tokens: Sequence[Tensor]
    images: np.ndarray
    digests: Sequence[bytes]
    donors: Donors | None

    def number_of(self, tiles: np.ndarray) -> int | None:
        """The first image with just these tiles, uint8 (n, s, s, 3); None where there is none."""
        digest = tiles_digest(tiles)
        return self.digests.index(digest) if digest in self.digests else None


def tiles_digest(tiles: np.ndarray) -> bytes:
    """SHA-256 of an image's tiles, uint8 (n, s, s, 3), in their order: what a detector sees of it."""
    return hashlib.sha256(tiles.tobytes()).digest()


@torch.inference_mode()
def write_reference(
    store: TileStore,
    path: Path,
    *,
    encoder: Mapping[str, Any],
    compute: Compute,
    reference_images: int,
    seed: int,
) -> None:
    """Write the tokens of some images of a split as a safetensors file.

    Args:
        store: tiles of the split.
        path: the file.
        encoder: arguments of `build_encoder`.
        compute: how to compute.
        reference_images: how many images at most, see `chosen_images`.
        seed: of their choice, and of random encoder weights.

    Raises:
        DataError: tokens that are not finite.
    """
    tiles, rows = open_tiles(store.tiles, store.table)
    device = pick_device(compute.device)
    model = build_encoder(**encoder, by_depth=quarter_blocks, seed=seed).to(device)
    dtype = kept_type(compute_type(device, compute.precision))
    images = rows["sample_id"].factorize()[0]
    bytes_of_tile = model.grid**2 * sum(model.widths) * dtype.itemsize
    chosen = chosen_images(np.bincount(images), reference_images, seed, bytes_of_tile)
    if len(chosen) < min(reference_images, images.max() + 1):
        message = "musc.reference_images: %d images are taken instead of %d, whose tokens would take more than %d GB."
        logger.warning(message, len(chosen), reference_images, MOST_BYTES // 10**9)
    numbers, of = tiles_of(chosen, images)
    picked = Picked(tiles, numbers.tolist())
    tensors = _tokens(picked, model, compute, device, dtype, store.tiles)
    tensors["images"] = torch.from_numpy(of)
    digests = [tiles_digest(picked[slice(*_ends(of, image))]) for image in range(len(chosen))]
    tensors["digests"] = torch.frombuffer(bytearray(b"".join(digests)), dtype=torch.uint8).view(-1, 32)
    if has_ignored(rows):
        cells = ignored_cells(rows, (model.grid, model.grid), numbers.tolist())
        tensors["ignored"] = torch.from_numpy(cells).flatten(1)
    write_model(path, tensors, "musc", encoder=str(encoder["name"]))


def chosen_images(tiles: np.ndarray, count: int, seed: int, bytes_of_tile: int) -> np.ndarray:
    """Choose images at random, blind to labels: at most `count` with at most `MOST_BYTES` of tokens, but `FEWEST`.

    Args:
        tiles: number of tiles of each image.
        count: of images.
        seed: of the choice.
        bytes_of_tile: that the tokens of a tile take.

    Returns:
        Ascending image numbers.
    """
    order = np.random.default_rng(seed).permutation(len(tiles))[:count]
    fitting = np.count_nonzero(np.cumsum(tiles[order]) * bytes_of_tile <= MOST_BYTES)
    return np.sort(order[: max(FEWEST, int(fitting))])


def read_reference(path: Path, model: Encoder, name: str, device: torch.device) -> Reference:
    """Read a file of `write_reference`, with the tokens on a device.

    Raises WeightsError when the file is absent, damaged or made for another encoder or other blocks.
    """
    cpu = torch.device("cpu")
    tokens = model.grid**2
    with open_model(path, "musc", encoder=name, stage="embed_references") as file:
        layers = [
            file.tensor(f"block_{block}", (None, tokens, width), device)
            for block, width in zip(model.blocks, model.widths, strict=True)
        ]
        images = file.tensor("images", (len(layers[0]),), cpu).numpy()
        digests = file.tensor("digests", (None, 32), cpu).numpy()
        ignored = file.tensor("ignored", (len(images), tokens), cpu).numpy() if "ignored" in file.names else None
    donors = None if ignored is None else Donors.of(ignored, images)
    return Reference(layers, images, [digest.tobytes() for digest in digests], donors)


def _tokens(
    tiles: Picked, model: Encoder, compute: Compute, device: torch.device, dtype: torch.dtype, source: Path
) -> dict[str, Tensor]:
    """Tokens of tiles by block, as they are kept."""
    kept = [torch.empty((len(tiles), model.grid**2, width), dtype=dtype) for width in model.widths]
    compute = with_work(compute, device)
    for start, batch in tile_batches(tiles, compute, device, "encode"):
        layers, _ = encoded(model, batch, compute)
        of_batch = tiles.numbers[start : start + len(batch)].tolist()
        for values, normed in zip(kept, normed_layers(layers, of_batch, source), strict=True):
            values[start : start + len(batch)] = normed
    return {f"block_{block}": values for block, values in zip(model.blocks, kept, strict=True)}


def _ends(images: np.ndarray, image: int) -> tuple[int, int]:
    """First tile of an image, and the one after its last, of ascending image numbers."""
    first, last = np.searchsorted(images, [image, image + 1]).tolist()
    return first, last
