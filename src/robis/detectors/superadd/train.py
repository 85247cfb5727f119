"""The train stage of SuperADD: a bank of tokens of one category's normal images, in bounded memory."""

from __future__ import annotations

import json
import logging
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import torch
from safetensors.torch import save_file
from torch import Tensor

from robis.detectors.batches import tile_batches
from robis.detectors.history import write_empty_history
from robis.detectors.superadd.bank import BANK_AT_ONCE, QUERIES_AT_ONCE, select, shares_of
from robis.encoders.build import build_encoder
from robis.encoders.devices import autocast, pick_device
from robis.encoders.encoder import Encoder
from robis.encoders.names import superadd_blocks
from robis.errors import DataError
from robis.io.atomic import atomic_file
from robis.tiles.store import open_tiles

logger = logging.getLogger(__name__)

GIGABYTE = 1_000_000_000
# What random numbers are for: each has its own stream of one seed.
PARTS, CHOICE, BRIGHTNESS = 1, 2, 3


@torch.inference_mode()
def train_category(
    tiles: Path,
    table: Path,
    model: Path,
    history: Path,
    *,
    identity: str,
    encoder: dict[str, Any],
    bank_size: int,
    rounds: int,
    neighbors: int,
    radius_growth: float,
    brightness_jitter: float,
    seed: int,
    memory_gb: float,
    batch_size: int,
    precision: str = "float32",
    device: str = "auto",
    threads: int = 1,
) -> None:
    """Write the bank of a category's normal images, and an empty history.

    The model is a safetensors file with "block_B" (M, C), float32, for each block B of the encoder. Its metadata has
    one entry, "superadd": JSON with the encoder's name. Where there are no more tokens than `bank_size`, the bank is
    all of them, in their order.

    Args:
        tiles, table: the tile store of the train split.
        model, history: what is written.
        identity: not needed, since there is no state to resume; every `train_category` is given one.
        encoder: arguments of `build_encoder`.
        bank_size: most tokens of a block.
        rounds: random disjoint parts of the tokens, from each of which its share of the bank is chosen. Which tokens
            belong together depends on the seed and on how many there are, and is the same for all blocks.
        neighbors, radius_growth: see `robis.detectors.superadd.bank.select`.
        brightness_jitter: each tile's brightness is multiplied by a random factor; 0.2 gives factors of 0.8 to 1.2.
        seed: of parts, choice, brightness and random encoder weights.
        memory_gb: gigabytes that tokens may take on the computing device, beside the encoder and a batch of tiles;
            where the parts need more, tiles are encoded several times. The bank does not depend on it.
        batch_size: tiles per forward pass.
        precision: "float32", "bf16" or "fp16", of the encoder on a GPU; all else is float32.
        device: "auto", "cpu", "cuda", ...
        threads: batches read ahead of the arithmetic.

    Raises:
        DataError: there are no tiles, or tokens that are not finite.
    """
    store, _ = open_tiles(tiles, table)
    if not len(store):
        raise DataError(f"{tiles}: the tile store is empty; expected at least one tile of a normal image.")
    where = pick_device(device)
    network = build_encoder(**encoder, by_depth=superadd_blocks, seed=seed).to(where)
    source = _Tokens(network, _Brightened(store, brightness_jitter, seed), tiles, batch_size, precision, where, threads)
    if source.count <= bank_size:
        bank = source.gather(np.arange(source.count), "encode").cpu()
    else:
        bank = torch.empty(len(network.blocks), bank_size, network.width)
        first = 0
        for part, chosen in _parts(source, rounds, seed, round(memory_gb * GIGABYTE)):
            target = shares_of(bank_size, rounds)[part]
            for block, (kept, tokens) in enumerate(zip(bank, chosen, strict=True)):
                rng = np.random.default_rng([seed, CHOICE, part, block])
                numbers = select(tokens, target, neighbors=neighbors, radius_growth=radius_growth, rng=rng)
                kept[first : first + target] = tokens[numbers.to(where)].cpu()
            first += target
    logger.info("%d of %d tokens are in the bank of each block.", bank.shape[1], source.count)
    found = {f"block_{number}": kept for number, kept in zip(network.blocks, bank, strict=True)}
    with atomic_file(model) as partial:
        # One entry only: safetensors writes several in random order, and the same bank gives the same bytes.
        save_file(found, partial, metadata={"superadd": json.dumps({"encoder": str(encoder["name"])})})
    write_empty_history(history)


class _Brightened:
    """A tile store whose tiles are brighter or darker by a factor that depends on seed and tile number alone."""

    def __init__(self, store: np.ndarray, jitter: float, seed: int) -> None:
        self.store, self.jitter, self.seed = store, jitter, seed

    def __len__(self) -> int:
        return len(self.store)

    def __getitem__(self, chosen: slice) -> np.ndarray:
        if not self.jitter:
            return self.store[chosen]
        found = np.array(self.store[chosen])
        for tile, number in zip(found, range(*chosen.indices(len(self))), strict=True):
            factor = np.random.default_rng([self.seed, BRIGHTNESS, number]).uniform(1 - self.jitter, 1 + self.jitter)
            tile[:] = np.clip(np.rint(np.arange(256) * factor), 0, 255).astype(np.uint8)[tile]
        return found


class _Tokens:
    """The tokens of a tile store, numbered tile by tile, encoded when they are asked for."""

    def __init__(
        self,
        network: Encoder,
        store: _Brightened,
        tiles: Path,
        batch_size: int,
        precision: str,
        device: torch.device,
        threads: int,
    ) -> None:
        self.network, self.store, self.tiles = network, store, tiles
        self.batch_size, self.precision, self.device, self.threads = batch_size, precision, device, threads
        self.per_tile = network.grid**2
        self.count = len(store) * self.per_tile
        self.shape = (len(network.blocks), network.width)

    def gather(self, wanted: np.ndarray, name: str) -> Tensor:
        """Tokens of these numbers, float32 (L, n, C) on the device, from one pass over the tiles.

        wanted: numbers, each once, in any order. name: what the progress bar says.
        """
        blocks, width = self.shape
        found = torch.empty(blocks, len(wanted), width, device=self.device)
        order = np.argsort(wanted)
        ascending = wanted[order]
        for start, batch in tile_batches(self.store, self.batch_size, self.device, self.threads, name):
            with autocast(self.device, self.precision):
                tokens = self.network(batch)
            begin, end = np.searchsorted(ascending, [start * self.per_tile, (start + len(batch)) * self.per_tile])
            rows = torch.from_numpy(order[begin:end]).to(self.device)
            chosen = torch.from_numpy(ascending[begin:end] - start * self.per_tile).to(self.device)
            for kept, raw in zip(found, tokens, strict=True):
                kept[rows] = self._finite(raw, start).flatten(0, 1)[chosen].float()
        return found

    def _finite(self, tokens: Tensor, start: int) -> Tensor:
        finite = tokens.isfinite().all(-1).all(-1)
        if not finite.all():
            bad = start + int((~finite).nonzero()[0])
            raise DataError(
                f"{self.tiles}: the tokens of tile {bad} are not finite. Use precision float32, or other weights."
            )
        return tokens


def _parts(source: _Tokens, rounds: int, seed: int, memory: int) -> Iterator[tuple[int, Tensor]]:
    """Each part's number and its tokens (L, n, C), as many parts at once as memory holds."""
    order = np.random.default_rng([seed, PARTS]).permutation(source.count)
    ends = np.cumsum([0, *shares_of(source.count, rounds)])
    blocks, width = source.shape
    largest = -(-source.count // rounds)
    # Choosing takes a copy of one block's part and a piece of its distances.
    working = 4 * (largest * width + QUERIES_AT_ONCE * BANK_AT_ONCE)
    at_once = min(rounds, max(1, (memory - working) // (4 * blocks * largest * width)))
    passes = -(-rounds // at_once)
    if passes > 1:
        held = f"superadd.memory_gb holds {at_once} of {rounds} parts of the tokens"
        whole = 4 * blocks * source.count * width / GIGABYTE
        logger.info("%s (%.1f GB in all): the tiles are encoded %d times.", held, whole, passes)
    for number in range(passes):
        group = range(number * at_once, min(rounds, (number + 1) * at_once))
        first, last = ends[group.start], ends[group.stop]
        tokens = source.gather(order[first:last], f"encode {number + 1}/{passes}")
        for part in group:
            yield part, tokens[:, ends[part] - first : ends[part + 1] - first]
        del tokens
