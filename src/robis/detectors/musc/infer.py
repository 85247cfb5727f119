"""The infer stage of MuSc: a split's tiles to raw tile maps, scores and image embeddings. There is nothing to train."""

from __future__ import annotations

from collections.abc import Sequence
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import torch
import torch.nn.functional as F
from torch import Tensor

from robis.detectors.inference import shard_of, tile_batches
from robis.detectors.musc.scores import layer_norm, mean_scores, mutual_scores, random_parts, score_maps, token_store
from robis.encoders.build import build_encoder
from robis.encoders.devices import autocast, compute_type, pick_device
from robis.encoders.names import quarter_blocks
from robis.errors import DataError
from robis.io.arrays import new_array, scratch_array
from robis.io.atomic import atomic_file
from robis.io.tables import read_table, write_table
from robis.tiles.store import map_size, open_tiles

GIGABYTE = 1_000_000_000


@torch.inference_mode()
def infer_split(
    tiles: Path,
    table: Path,
    maps: Path,
    maps_table: Path,
    *,
    encoder: dict[str, Any],
    seed: int,
    neighborhood_sizes: Sequence[int],
    averaged_fraction: Sequence[float],
    subsets: int,
    memory_gb: float,
    window: int | str,
    scale: float,
    batch_size: int,
    precision: str = "float32",
    device: str = "auto",
    threads: int = 1,
    shard: int = 0,
    shards: int = 1,
) -> None:
    """Write the raw map of every tile: float16 (N, m, m), and the tile table with two more columns.

    `score` is the largest value of a tile's map at the encoder's input size, in float32; `embedding` is the
    encoder's image embedding of the tile, a list of float32.

    Args:
        tiles, table: the tile store.
        maps, maps_table: what is written.
        encoder: arguments of `build_encoder`.
        seed: of the subsets and of random encoder weights.
        neighborhood_sizes: sides of the token neighborhoods (LNAMD), odd.
        averaged_fraction: which of the sorted distances to the other images are averaged, (low, high).
        subsets: random parts of the images that are scored separately.
        memory_gb: gigabytes that tokens, features and distances may take on the computing device, beside the encoder;
            what does not fit goes to temporary files beside `maps`. The maps do not depend on it.
        window: side of a tile in image pixels, or "image".
        scale: map pixels per image pixel.
        batch_size: tiles per forward pass.
        precision: "float32", "bf16" or "fp16", of encoder and features on a GPU; the CPU computes in float32.
        device: "auto", "cpu", "cuda", ...
        threads: batches read ahead of the arithmetic.
        shard, shards: with several shards, this one's share of the rounds of mutual scoring, for `gather_shards`.

    Raises:
        ConfigError: too many subsets for the images.
        DataError: fewer than two images, or tokens that are not finite.
    """
    store, rows = open_tiles(tiles, table)
    images = pd.factorize(rows["sample_id"])[0]
    count = len(np.unique(images))
    if count < 2:
        raise DataError(
            f"{table}: found {count} image{'' if count == 1 else 's'}; mutual scoring needs at least 2 images, since "
            f"each is compared with the others. Add images, or use another detector for this split."
        )
    where = pick_device(device)
    scoring: dict[str, Any] = {
        "parts": random_parts(count, subsets, seed),
        "memory": round(memory_gb * GIGABYTE),
        "scratch": partial(_beside, maps),
        "device": where,
        "dtype": compute_type(where, precision),
    }
    model = build_encoder(**encoder, by_depth=quarter_blocks, seed=seed).to(where)
    count = len(model.blocks) * len(neighborhood_sizes)
    rounds = range(count)[shard_of(count, shard, shards)]
    tokens = token_store((len(model.blocks), len(store), model.grid**2, model.width), images, **scoring)
    embeddings: list[np.ndarray] = []
    for start, batch in tile_batches(store, batch_size, where, threads, "encode"):
        with autocast(where, precision):
            found, embedding = model.with_embedding(batch)
        for block, raw in zip(tokens, found, strict=True):
            block[start : start + len(batch)] = _finite(layer_norm(raw), start, tiles)
        embeddings.extend(embedding.float().cpu().numpy())
    rows = rows.assign(embedding=pd.Series(embeddings, index=rows.index))
    scores = mutual_scores(
        tokens,
        images,
        grid=model.grid,
        neighborhood_sizes=neighborhood_sizes,
        averaged_fraction=averaged_fraction,
        rounds=rounds,
        **scoring,
    )
    if shards == 1:
        size = map_size(window, scale, model.input_size)
        _write_maps(mean_scores(scores), rows, maps, maps_table, model.input_size, size, batch_size)
        return
    with atomic_file(maps) as unfinished:
        out = new_array(unfinished, np.float32, (len(rounds), *tokens.shape[1:3]))
        for number, one_round in enumerate(scores):
            out[number] = one_round.numpy()
        write_table(maps_table, rows)


@torch.inference_mode()
def gather_shards(
    parts: Sequence[Path],
    tables: Sequence[Path],
    maps: Path,
    maps_table: Path,
    *,
    tiles: Path,
    window: int | str,
    scale: float,
    batch_size: int,
    **_: Any,
) -> None:
    """Write what `infer_split` would have written alone from the rounds (n, N, g*g) of all shards, in their order."""
    input_size = np.load(tiles, mmap_mode="r").shape[1]
    scores = mean_scores(torch.from_numpy(found) for part in parts for found in np.load(part))
    size = map_size(window, scale, input_size)
    _write_maps(scores, read_table(tables[0]), maps, maps_table, input_size, size, batch_size)


def _beside(maps: Path, shape: tuple[int, ...], dtype: torch.dtype) -> Tensor:
    """Room on the disk of the maps."""
    return torch.from_numpy(scratch_array(maps, np.float16 if dtype == torch.float16 else np.float32, shape))


def _finite(tokens: Tensor, start: int, tiles: Path) -> Tensor:
    finite = tokens.isfinite().all(-1).all(-1)
    if not finite.all():
        bad = start + int((~finite).nonzero()[0])
        raise DataError(f"{tiles}: the tokens of tile {bad} are not finite. Use precision float32, or other weights.")
    return tokens


def _write_maps(
    scores: Tensor, rows: pd.DataFrame, maps: Path, maps_table: Path, input_size: int, size: int, batch_size: int
) -> None:
    """Write the maps of all tiles, and the table with the largest values that they have before they are resized."""
    highest = []
    with atomic_file(maps) as unfinished:
        out = new_array(unfinished, np.float16, (len(scores), size, size))
        for start in range(0, len(scores), batch_size):
            found = score_maps(scores[start : start + batch_size], input_size)
            highest.append(found.amax((1, 2)).numpy())
            if size != input_size:
                found = F.interpolate(found[:, None], size=(size, size), mode="bilinear", align_corners=False)[:, 0]
            out[start : start + len(found)] = found.numpy()
        table = rows.assign(score=np.concatenate(highest))
        write_table(maps_table, table[[*table.columns.drop("embedding"), "embedding"]])
