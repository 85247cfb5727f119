"""The train stage of SuperADD: a bank of tokens of one category's normal images, in bounded memory."""

from __future__ import annotations

import logging
from collections.abc import Iterator
from dataclasses import fields

import numpy as np
import torch
from torch import Tensor

from robis.detectors.jobs import TrainJob
from robis.detectors.memory_bank.bank import BANK_AT_ONCE, QUERIES_AT_ONCE
from robis.detectors.model_files import write_history, write_model
from robis.detectors.normal_tokens import Tokens
from robis.detectors.superadd.blocks import superadd_blocks
from robis.detectors.superadd.thinning import SeededDraws, Thinning, select, shares_of, thin
from robis.detectors.superadd.tokens import open_tokens, with_regions
from robis.encoders.build import build_encoder
from robis.encoders.devices import pick_device
from robis.io.arrays import release, scratch_array
from robis.io.progress import tracked

logger = logging.getLogger(__name__)

GIGABYTE = 1_000_000_000
# Each use of random numbers has its own stream of one seed.
PARTS, CHOICE, REDRAWN = 1, 2, 4


@torch.inference_mode()
def train_category(job: TrainJob) -> None:
    """Write the bank of a category's normal images, and a history without rows.

    The model is a safetensors file with "block_B" (M, C), float32, for each block B of the encoder. Where there are
    no more tokens than `bank_size`, the bank is all of them, in their order. Tokens of regions that count as normal
    follow. "origins_B" (M, 3), int64, are the `Tokens.places` of those before.

    Args:
        job: its options are
            bank_size: most tokens of a block;
            rounds: random subsets of the tokens; each contributes an equal part of the bank;
            redraw_subsets: whether a subset is drawn from all tokens that are not kept yet, as published. Which tokens
            a disjoint one holds depends on the seed and on how many there are, and is the same for all blocks;
            neighbors, radius_growth: see `robis.detectors.superadd.thinning`;
            window, image_scale, overlap, brightness_jitter: see `robis.detectors.superadd.tokens.open_tokens`;
            seed: of subsets, selection, brightness and random encoder weights;
            memory_gb: gigabytes that tokens may take on the computing device, beside the encoder and a batch of tiles.
            Where the subsets need more, tiles are encoded several times, or redrawn subsets are read from the disk.
            The bank does not depend on it.

    Raises:
        DataError: there are no tiles, tokens that are not finite, or regions that cannot be used.
    """
    options = job.options
    network = build_encoder(**job.encoder, by_depth=superadd_blocks, seed=options["seed"])
    source = open_tokens(network.to(pick_device(job.compute.device)), job)
    if source.count <= options["bank_size"]:
        every = np.arange(source.count)
        bank = [(tokens.cpu(), every) for tokens in source.gather(every, "encode")]
    else:
        bank = (_redrawn if options["redraw_subsets"] else _selected)(source, job)
    logger.info("The bank of each block holds %d of %d tokens.", len(bank[0][0]), source.count)
    tensors: dict[str, Tensor] = {}
    for block, (_, numbers), tokens in zip(
        network.blocks, bank, with_regions([tokens for tokens, _ in bank], network, job), strict=True
    ):
        tensors |= {f"block_{block}": tokens, f"origins_{block}": torch.from_numpy(source.places(numbers))}
    write_model(job.model, tensors, "superadd", encoder=str(job.encoder["name"]))
    write_history(job.history)


def _selected(source: Tokens, job: TrainJob) -> list[tuple[Tensor, np.ndarray]]:
    """The bank (M, C) of each block, from disjoint subsets of the tokens, and the numbers (M,) of its tokens."""
    options = job.options
    targets = shares_of(options["bank_size"], options["rounds"])
    size = options["bank_size"]
    bank = [(torch.empty(size, width), np.empty(size, np.int64)) for width in source.widths]
    first = 0
    for part, of_part, tokens_of_blocks in tracked(_parts(source, job), len(targets), "subsets", "select"):
        for number, ((kept, numbers), tokens) in enumerate(zip(bank, tokens_of_blocks, strict=True)):
            rng = np.random.default_rng([options["seed"], CHOICE, part, number])
            chosen = select(
                tokens, targets[part], neighbors=options["neighbors"], radius_growth=options["radius_growth"], rng=rng
            )
            kept[first : first + targets[part]] = tokens[chosen.to(tokens.device)].cpu()
            numbers[first : first + targets[part]] = of_part[chosen.numpy()]
        first += targets[part]
    return bank


def _redrawn(source: Tokens, job: TrainJob) -> list[tuple[Tensor, np.ndarray]]:
    """The bank of each block as published, as `_selected`: every subset is drawn from tokens that are not kept yet."""
    options = job.options
    thinning = Thinning(*(options[field.name] for field in fields(Thinning)))
    stored = _all_tokens(source, job)
    bank = []
    for number, tokens in enumerate(tracked(stored, len(stored), "blocks", "select")):

        def of_numbers(chosen: np.ndarray, tokens: np.ndarray = tokens) -> Tensor:
            values = torch.from_numpy(tokens[chosen])
            release(tokens)
            return values.to(source.device)

        draws = SeededDraws(np.random.default_rng([options["seed"], REDRAWN, number]))
        chosen = thin(of_numbers, source.count, thinning, draws)
        bank.append((of_numbers(chosen).cpu(), chosen))
    return bank


def _all_tokens(source: Tokens, job: TrainJob) -> list[np.ndarray]:
    """All tokens of each block, float32 (N, C), in memory or on the disk of the model."""
    size = 4 * source.count * sum(source.widths)
    on_disk = size > job.options["memory_gb"] * GIGABYTE
    if on_disk:
        logger.info("superadd.memory_gb does not hold the %.1f GB of tokens: they wait on the disk.", size / GIGABYTE)
    shapes = [(source.count, width) for width in source.widths]
    stored = [scratch_array(job.model, np.float32, s) if on_disk else np.empty(s, np.float32) for s in shapes]
    for start, tokens in source.encoded("encode"):
        for block, values in zip(stored, tokens, strict=True):
            block[start : start + len(values)] = values.float().cpu().numpy()
            release(block)
    return stored


def _parts(source: Tokens, job: TrainJob) -> Iterator[tuple[int, np.ndarray, list[Tensor]]]:
    """Each subset, the numbers (n,) of its tokens, and these (n, C) of every block; as many at once as memory holds."""
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
            of_blocks = [block[ends[part] - first : ends[part + 1] - first] for block in tokens]
            yield part, order[ends[part] : ends[part + 1]], of_blocks
        del tokens


def _subsets_at_once(source: Tokens, rounds: int, memory: int) -> int:
    """How many subsets fit into `memory` bytes, at least one."""
    largest = -(-source.count // rounds)
    # Selecting takes a copy of one block's subset and a piece of its distances.
    working = 4 * (largest * max(source.widths) + QUERIES_AT_ONCE * BANK_AT_ONCE)
    return min(rounds, max(1, (memory - working) // (4 * largest * sum(source.widths))))
