"""The winclip_embed_tiles stage: CLIP's embedding of every window of every tile, once for all shots and draws."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor

from robis.detectors.batches import Picked, in_passes, tile_batches, tiles_per_pass, with_work
from robis.detectors.checks import require_finite
from robis.detectors.jobs import Compute
from robis.detectors.kept import fill_rows, with_model
from robis.detectors.winclip.windows import check_scales, field_of, window_tokens
from robis.encoders.clip import ClipEncoder, build_clip_encoder
from robis.encoders.devices import autocast, pick_device
from robis.errors import ConfigError
from robis.io.arrays import atomic_array
from robis.io.reuse import Reuse, kept_for
from robis.tiles.files import TileStore
from robis.tiles.store import open_tiles

# Windows per forward pass: enough to keep a processor busy, few enough to stay within a gigabyte.
WINDOWS_PER_PASS = 1024


@torch.inference_mode()
def embed(encoder: ClipEncoder, tiles: Tensor, scales: Sequence[int]) -> dict[str, Tensor]:
    """Embeddings of tiles, of their patches and of all windows of each scale (section 4.2).

    A window's tokens, cut from the tile's after the position embeddings, pass through the transformer with the
    class token and without the rest of the tile.

    Args:
        encoder: the image tower.
        tiles: uint8 (B, s, s, 3) RGB.
        scales: sides of the windows in tokens.

    Returns:
        Vectors of length 1, float32: "image" (B, D), "patches" (B, g*g, C) after the final norm, not projected, and
        "windows_K" (B, W, D) per scale K.

    Raises:
        ConfigError: a scale that is no part of the grid, or an image tower that pools its patches away.
    """
    check_scales(scales, encoder.grid)
    tokens = encoder.embedded(tiles)
    image, patches = encoder.transformed(tokens)
    if patches.shape[1] != encoder.grid**2:
        raise ConfigError("encoder.name: the image tower pools its patches; winclip needs a CLIP with one token each.")
    vectors = {"image": image, "patches": patches}
    for scale in scales:
        vectors[field_of(scale)] = _windows(encoder, tokens, window_tokens(encoder.grid, scale).to(tokens.device))
    return {name: F.normalize(values.float(), dim=-1) for name, values in vectors.items()}


def _windows(encoder: ClipEncoder, tokens: Tensor, windows: Tensor) -> Tensor:
    """Image embeddings (B, W, D) of windows (W, n) cut from tokens (B, 1 + g*g, C)."""
    with_class = F.pad(windows + 1, (1, 0))
    count = len(windows)
    embeddings = []
    for part in torch.arange(len(tokens) * count, device=tokens.device).split(WINDOWS_PER_PASS):
        cut = tokens[(part // count)[:, None], with_class[part % count]]
        embeddings.append(encoder.transformed(cut)[0])
    return torch.cat(embeddings).unflatten(0, (len(tokens), count))


def embed_batch(encoder: ClipEncoder, batch: Tensor, scales: Sequence[int], compute: Compute) -> dict[str, Tensor]:
    """`embed` of at most `compute.batch_size` tiles; a tile's vectors do not depend on the others."""
    with autocast(batch.device, compute.precision):
        parts = in_passes(lambda part: embed(encoder, part, scales), batch, compute)
    return {name: torch.cat([part[name] for part in parts])[: len(batch)] for name in parts[0]}


def embed_batches(
    encoder: ClipEncoder, store: Picked, scales: Sequence[int], compute: Compute, source: Path
) -> Iterator[tuple[int, dict[str, np.ndarray]]]:
    """`embed` of all tiles of a store: place of each batch's first tile, and its vectors, float32.

    Args:
        encoder: the image tower.
        store: the tiles.
        scales: sides of the windows in tokens.
        compute: how to compute.
        source: the file of the tiles, for messages.

    Raises:
        DataError: an embedding is not finite.
    """
    device = encoder.mean.device
    compute = with_work(compute, device)
    for start, batch in tile_batches(store, compute, device):
        vectors = embed_batch(encoder, batch, scales, compute)
        numbers = store.numbers[start : start + len(batch)].tolist()
        arrays = {name: values.cpu().numpy() for name, values in vectors.items()}
        for array in arrays.values():
            require_finite(array, "embeddings", numbers, source)
        yield start, arrays


def stored_type(precision: str) -> type[np.floating]:
    """The type of stored vectors."""
    return np.float32 if precision == "float32" else np.float16


def embed_tiles(
    store: TileStore,
    output: Path,
    *,
    encoder: Mapping[str, Any],
    scales: Sequence[int],
    compute: Compute,
    seed: int = 0,
    reuse: Reuse | None = None,
) -> None:
    """Write the features of a split's tiles: one .npy of records, one per tile, with a field per kind of vector.

    Fields as in `embed`: "image" (D,), "patches" (g*g, C), "windows_K" (W, D) for each scale K, all of length 1;
    float32, or float16 where the precision is another. `np.load(output, mmap_mode="r")["windows_2"]` reads from disk
    what is used.

    Args:
        store: the tiles.
        output: what is written.
        encoder: arguments of `build_clip_encoder`.
        scales: sides of the windows in tokens.
        compute: how to compute.
        seed: of random weights.
        reuse: where the features are kept for the next run.

    Raises:
        ConfigError: scales that do not fit, or an image tower that pools its patches away.
        DataError: an embedding is not finite.
    """
    tiles, _ = open_tiles(store.tiles, store.table)
    device = pick_device(compute.device)
    network = build_clip_encoder(**encoder, seed=seed).to(device)
    check_scales(scales, network.grid)
    layout = record(network, scales, stored_type(compute.precision))
    kept = kept_for(tiles, with_model(reuse, device), compute.threads)

    def records(numbers: Sequence[int]) -> Iterator[tuple[int, np.ndarray]]:
        for start, vectors in embed_batches(network, Picked(tiles, numbers), scales, compute, store.tiles):
            values = np.empty(len(vectors["image"]), layout)
            for name, part in vectors.items():
                values[name] = part
            yield start, values

    kept.make_room(len(tiles) * layout.itemsize)
    with atomic_array(output, layout, (len(tiles),)) as written:
        fill_rows(written, kept, records, tiles_per_pass(compute, device))
    kept.keep(output)


def record(encoder: ClipEncoder, scales: Sequence[int], scalar: type[np.floating]) -> np.dtype:
    """What the file of `embed_tiles` holds of one tile."""
    grid, width = encoder.grid, encoder.embedding_width
    fields: list[Any] = [("image", scalar, (width,)), ("patches", scalar, (grid * grid, encoder.width))]
    fields += [(field_of(scale), scalar, ((grid - scale + 1) ** 2, width)) for scale in scales]
    return np.dtype(fields)
