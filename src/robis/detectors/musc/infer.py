"""The infer stage of MuSc: a split's tiles to raw tile maps, scores and image embeddings. There is nothing to train."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from functools import partial
from pathlib import Path

import numpy as np
import pandas as pd
import torch
from torch import Tensor

from robis.detectors.batches import tile_batches, with_work
from robis.detectors.inference import part_of
from robis.detectors.jobs import InferJob
from robis.detectors.musc.scores import Scoring, mean_scores, mutual_scores, random_parts, token_store
from robis.detectors.musc.tiles import encoded, maps_and_scores, normed_layers
from robis.detectors.scorers import stored
from robis.encoders.build import build_encoder
from robis.encoders.devices import compute_type, pick_device
from robis.encoders.names import quarter_blocks
from robis.errors import DataError
from robis.io.arrays import atomic_array, open_array, release, scratch_array
from robis.io.tables import read_table, write_table
from robis.tiles.files import TileMaps
from robis.tiles.ignored import has_ignored, ignored_cells, ignored_of
from robis.tiles.store import map_size, open_tiles

GIGABYTE = 1_000_000_000


@torch.inference_mode()
def infer_split(job: InferJob) -> None:
    """Write the raw map of every tile: float16 (N, m, m), and the tile table with two more columns.

    `score` is the largest value of a tile's map at the encoder's input size, in float32; `embedding` is the
    encoder's image embedding of the tile, a list of float32. With several shards a shard computes its share of the
    rounds of mutual scoring, for `gather_shards`.

    Args:
        job: its options are `neighborhood_sizes`, `averaged_fraction`, `subsets`, `seed` (of the subsets and of random
            encoder weights), and `memory_gb`: gigabytes that tokens, features and distances may take on the computing
            device, beside the encoder. What does not fit goes to temporary files beside the maps, which do not depend
            on it.

    Raises:
        ConfigError: too many subsets for the images.
        DataError: fewer than two images, or tokens that are not finite.
    """
    store, rows = open_tiles(job.store.tiles, job.store.table)
    images = pd.factorize(rows["sample_id"])[0]
    device = pick_device(job.compute.device)
    scoring = _scoring(job, _count(images, job.store.table), device)
    model = build_encoder(**job.encoder, by_depth=quarter_blocks, seed=job.options["seed"]).to(device)
    tokens = token_store(model.widths, (len(store), model.grid**2), images, scoring)
    embeddings: list[np.ndarray] = []
    compute = with_work(job.compute, device)
    for start, batch in tile_batches(store, compute, device, "encode"):
        numbers = range(start, start + len(batch))
        layers, embedding = encoded(model, batch, compute)
        for kept, normed in zip(tokens, normed_layers(layers, numbers, job.store.tiles), strict=True):
            kept[start : numbers.stop] = normed
        embeddings.extend(embedding.float().cpu().numpy())
    rows = rows.assign(embedding=pd.Series(embeddings, index=rows.index))
    count = len(tokens) * len(scoring.neighborhood_sizes)
    rounds = range(count)[part_of(count, job.shard)]
    ignored = ignored_cells(rows, (model.grid, model.grid)).reshape(len(rows), -1) if has_ignored(rows) else None
    scores = mutual_scores(tokens, images, model.grid, scoring, rounds, ignored=ignored)
    if job.shard.count == 1:
        _write_maps(mean_scores(scores), rows, job, model.input_size)
        return
    with atomic_array(job.output.maps, np.float32, (len(rounds), *tokens[0].shape[:2])) as written:
        for number, scores_of_round in enumerate(scores):
            written[number] = scores_of_round.numpy()
            release(written)
        write_table(job.output.table, rows)


@torch.inference_mode()
def gather_shards(parts: Sequence[TileMaps], job: InferJob) -> None:
    """Write what `infer_split` would have written alone from the rounds (n, N, g*g) of all shards, in their order."""
    input_size = open_tiles(job.store.tiles, job.store.table)[0].shape[1]
    scores = mean_scores(torch.from_numpy(scores) for part in parts for scores in _rounds(part.maps))
    _write_maps(scores, read_table(parts[0].table, stage="infer_shard"), job, input_size)


def _rounds(path: Path) -> Iterator[np.ndarray]:
    """Scores (N, g*g) of the rounds of a shard, in memory one at a time."""
    rounds = open_array(path, stage="infer_shard", dtypes=[np.float32], shape=(None, None, None))
    for scores in rounds:
        yield np.array(scores)
        release(rounds)


def _count(images: np.ndarray, table: Path) -> int:
    count = len(np.unique(images))
    if count < 2:
        raise DataError(
            f"{table}: found {count} image{'' if count == 1 else 's'}; mutual scoring needs at least 2 images, since "
            f"each is compared with the others. Add images, or use another detector for this split."
        )
    return count


def _scoring(job: InferJob, images: int, device: torch.device) -> Scoring:
    options = job.options
    return Scoring(
        neighborhood_sizes=options["neighborhood_sizes"],
        averaged_fraction=options["averaged_fraction"],
        parts=random_parts(images, options["subsets"], options["seed"]),
        memory=round(options["memory_gb"] * GIGABYTE),
        scratch=partial(_beside, job.output.maps),
        device=device,
        dtype=compute_type(device, job.compute.precision),
    )


def _beside(maps: Path, shape: tuple[int, ...], dtype: torch.dtype) -> Tensor:
    """Room on the disk of the maps."""
    return torch.from_numpy(scratch_array(maps, np.float16 if dtype == torch.float16 else np.float32, shape))


def _write_maps(scores: Tensor, rows: pd.DataFrame, job: InferJob, input_size: int) -> None:
    """Write the maps of all tiles, and the table with the largest values that they have before they are resized."""
    size = map_size(job.size.window, job.size.scale, input_size)
    highest = []
    with atomic_array(job.output.maps, np.float16, (len(scores), size, size)) as written:
        for start in range(0, len(scores), job.compute.batch_size):
            of_batch = scores[start : start + job.compute.batch_size]
            numbers = range(start, start + len(of_batch))
            ignored = [ignored_of(rows, number) for number in numbers] if has_ignored(rows) else None
            maps, largest = maps_and_scores(of_batch, ignored, input_size, size)
            highest.append(largest)
            written[start : numbers.stop] = stored(maps, numbers, job.store.tiles)
            release(written)
        table = rows.assign(score=np.concatenate(highest))
        write_table(job.output.table, table[[*table.columns.drop("embedding"), "embedding"]])
