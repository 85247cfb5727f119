"""The train stage of SuperADD: a bank of tokens of one category's normal images, in bounded memory."""

from __future__ import annotations

import logging
from collections.abc import Iterator

import numpy as np
import torch
from torch import Tensor

from robis.detectors.batches import tile_batches
from robis.detectors.checks import require_finite
from robis.detectors.jobs import TrainJob
from robis.detectors.model_files import write_history, write_model
from robis.detectors.superadd.bank import BANK_AT_ONCE, QUERIES_AT_ONCE, select, shares_of
from robis.detectors.superadd.blocks import superadd_blocks
from robis.encoders.build import build_encoder
from robis.encoders.devices import autocast, pick_device
from robis.encoders.encoder import Encoder
from robis.errors import DataError
from robis.io.arrays import release
from robis.io.progress import tracked
from robis.tiles.store import open_tiles

logger = logging.getLogger(__name__)

GIGABYTE = 1_000_000_000
# Each use of random numbers has its own stream of one seed.
PARTS, CHOICE, BRIGHTNESS = 1, 2, 3


@torch.inference_mode()
def train_category(job: TrainJob) -> None:
    """Write the bank of a category's normal images, and a history without rows.

    The model is a safetensors file with "block_B" (M, C), float32, for each block B of the encoder. Where there are
    no more tokens than `bank_size`, the bank is all of them, in their order.

    Args:
        job: its options are
            bank_size: most tokens of a block;
            rounds: random disjoint subsets of the tokens; each contributes an equal part of the bank. Which tokens
            belong together depends on the seed and on how many there are, and is the same for all blocks;
            neighbors, radius_growth: see `robis.detectors.superadd.bank.select`;
            brightness_jitter: each tile's brightness is multiplied by a random factor; 0.2 gives factors of 0.8 to 1.2;
            seed: of subsets, selection, brightness and random encoder weights;
            memory_gb: gigabytes that tokens may take on the computing device, beside the encoder and a batch of tiles.
            Where the subsets need more, tiles are encoded several times. The bank does not depend on it.

    Raises:
        DataError: there are no tiles, or tokens that are not finite.
    """
    store, _ = open_tiles(job.store.tiles, job.store.table)
    if not len(store):
        raise DataError(f"{job.store.tiles}: the tile store is empty; expected at least one tile of a normal image.")
    options = job.options
    network = build_encoder(**job.encoder, by_depth=superadd_blocks, seed=options["seed"])
    network = network.to(pick_device(job.compute.device))
    source = _Tokens(network, _Brightened(store, options["brightness_jitter"], options["seed"]), job)
    if source.count <= options["bank_size"]:
        bank = [tokens.cpu() for tokens in source.gather(np.arange(source.count), "encode")]
    else:
        bank = _selected(source, job)
    logger.info("The bank of each block holds %d of %d tokens.", len(bank[0]), source.count)
    tensors = {f"block_{block}": tokens for block, tokens in zip(network.blocks, bank, strict=True)}
    write_model(job.model, tensors, "superadd", encoder=str(job.encoder["name"]))
    write_history(job.history)


def _selected(source: _Tokens, job: TrainJob) -> list[Tensor]:
    """The bank (M, C) of each block, selected subset by subset."""
    options = job.options
    targets = shares_of(options["bank_size"], options["rounds"])
    bank = [torch.empty(options["bank_size"], width) for width in source.widths]
    first = 0
    for part, tokens_of_blocks in _parts(source, job):
        pairs = tracked(
            zip(bank, tokens_of_blocks, strict=True), len(bank), "blocks", f"select {part + 1}/{len(targets)}"
        )
        for number, (kept, tokens) in enumerate(pairs):
            rng = np.random.default_rng([options["seed"], CHOICE, part, number])
            chosen = select(
                tokens, targets[part], neighbors=options["neighbors"], radius_growth=options["radius_growth"], rng=rng
            )
            kept[first : first + targets[part]] = tokens[chosen.to(tokens.device)].cpu()
        first += targets[part]
    return bank


class _Brightened:
    """A tile store whose tiles are brighter or darker by a factor that depends on seed and tile number alone."""

    def __init__(self, store: np.ndarray, jitter: float, seed: int) -> None:
        self.store, self.jitter, self.seed = store, jitter, seed

    def __len__(self) -> int:
        return len(self.store)

    def __getitem__(self, chosen: slice) -> np.ndarray:
        tiles = np.array(self.store[chosen])
        release(self.store)
        if not self.jitter:
            return tiles
        for tile, number in zip(tiles, range(*chosen.indices(len(self))), strict=True):
            factor = np.random.default_rng([self.seed, BRIGHTNESS, number]).uniform(1 - self.jitter, 1 + self.jitter)
            tile[:] = np.clip(np.rint(np.arange(256) * factor), 0, 255).astype(np.uint8)[tile]
        return tiles


class _Tokens:
    """The tokens of a tile store, numbered tile by tile, encoded on demand."""

    def __init__(self, network: Encoder, store: _Brightened, job: TrainJob) -> None:
        self.network, self.store, self.job = network, store, job
        self.device = network.mean.device
        self.per_tile = network.grid**2
        self.count = len(store) * self.per_tile
        self.widths = list(network.widths)

    def gather(self, wanted: np.ndarray, name: str) -> list[Tensor]:
        """Tokens of these numbers, per block float32 (n, C) on the device, from one pass over the tiles.

        wanted: numbers, each once, in any order. name: of the pass, in lines about the progress.
        """
        gathered = [torch.empty(len(wanted), width, device=self.device) for width in self.widths]
        order = np.argsort(wanted)
        ascending = wanted[order]
        for start, batch in tile_batches(self.store, self.job.compute, self.device, name):
            with autocast(self.device, self.job.compute.precision):
                tokens = self.network(batch)
            begin, end = np.searchsorted(ascending, [start * self.per_tile, (start + len(batch)) * self.per_tile])
            rows = torch.from_numpy(order[begin:end]).to(self.device)
            chosen = torch.from_numpy(ascending[begin:end] - start * self.per_tile).to(self.device)
            for kept, raw in zip(gathered, tokens, strict=True):
                require_finite(raw, "tokens", range(start, start + len(raw)), self.job.store.tiles)
                kept[rows] = raw.flatten(0, 1)[chosen].float()
        return gathered


def _parts(source: _Tokens, job: TrainJob) -> Iterator[tuple[int, list[Tensor]]]:
    """Each subset's number and its tokens (n, C) of every block, as many subsets at once as memory holds."""
    rounds, seed = job.options["rounds"], job.options["seed"]
    order = np.random.default_rng([seed, PARTS]).permutation(source.count)
    ends = np.cumsum([0, *shares_of(source.count, rounds)])
    at_once = _subsets_at_once(source, rounds, round(job.options["memory_gb"] * GIGABYTE))
    passes = -(-rounds // at_once)
    if passes > 1:
        whole = 4 * source.count * sum(source.widths) / GIGABYTE
        logger.info(
            "superadd.memory_gb holds %d of %d subsets of the tokens (%.1f GB in all): the tiles are encoded %d times.",
            *(at_once, rounds, whole, passes),
        )
    for number in range(passes):
        group = range(number * at_once, min(rounds, (number + 1) * at_once))
        first, last = ends[group.start], ends[group.stop]
        tokens = source.gather(order[first:last], f"encode {number + 1}/{passes}")
        for part in group:
            yield part, [block[ends[part] - first : ends[part + 1] - first] for block in tokens]
        del tokens


def _subsets_at_once(source: _Tokens, rounds: int, memory: int) -> int:
    """How many subsets fit into `memory` bytes, at least one."""
    largest = -(-source.count // rounds)
    # Selecting takes a copy of one block's subset and a piece of its distances.
    working = 4 * (largest * max(source.widths) + QUERIES_AT_ONCE * BANK_AT_ONCE)
    return min(rounds, max(1, (memory - working) // (4 * largest * sum(source.widths))))
