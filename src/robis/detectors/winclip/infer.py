"""The infer stage of WinCLIP: stored features of tiles, prompts and references to raw tile maps and image scores."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from math import isqrt
from pathlib import Path
from typing import Any

import numpy as np
import torch
from safetensors import SafetensorError, safe_open
from torch import Tensor
from tqdm import tqdm

from robis.detectors.winclip.scores import score, tile_maps
from robis.detectors.winclip.windows import check_scales, field_of
from robis.encoders.devices import pick_device
from robis.errors import DataError, WeightsError
from robis.io.arrays import new_array
from robis.io.atomic import atomic_file
from robis.io.tables import write_table
from robis.io.threads import threaded
from robis.tiles.store import map_size, open_tiles


@torch.inference_mode()
def infer_split(
    tiles: Path,
    table: Path,
    maps: Path,
    maps_table: Path,
    *,
    features: Path,
    text: Path,
    model: Path | None = None,
    encoder: Mapping[str, Any],
    scales: Sequence[int],
    temperature: float,
    window: int | str,
    scale: float,
    batch_size: int = 16,
    device: str = "auto",
    threads: int = 1,
) -> None:
    """Write the raw map of every tile, float16 (N, m, m), and the tile table with two columns more.

    The columns are `score`, the tile's anomaly score as an image (0..1), and `embedding`, its image embedding
    (list of D float32, length 1).

    Args:
        tiles, table: the tile store.
        maps, maps_table: what is written.
        features: file of `embed_tiles` on the same tiles.
        text: file of `embed_prompts`.
        model: file of `train_category`; None is zero-shot.
        encoder: its "name" must be the one that the references were encoded with.
        scales: sides of the windows in tokens; `features` may have more.
        temperature: of the softmax over normal and anomalous.
        window, scale: of tiling and merging; they give the side m of a map.
        batch_size: tiles compared at a time.
        device: "auto", "cpu", "cuda", ...
        threads: batches read ahead of the arithmetic.

    Raises:
        DataError: files that do not belong together.
        WeightsError: the model is absent, damaged or made for another encoder.
    """
    store, rows = open_tiles(tiles, table)
    records = _open_features(features, scales, count=len(store))
    where = pick_device(device)
    patches, width = records["patches"].shape[1:]
    needed = {"normal": records["image"].shape[1:], "anomalous": records["image"].shape[1:]}
    sides = _read(text, needed, where)
    references = None
    if model is not None:
        needed = {"patches": (width,)} | {field_of(side): records["image"].shape[1:] for side in scales}
        references = _read(model, needed, where, made_for=str(encoder["name"]))
    names = ["image", *(field_of(side) for side in scales), *(["patches"] if model is not None else [])]
    grid, input_size = isqrt(patches), int(store.shape[1])
    size = map_size(window, scale, input_size)
    starts = range(0, len(store), batch_size)

    def read(start: int) -> dict[str, Tensor]:
        part = records[start : start + batch_size]
        return {name: torch.from_numpy(part[name].astype(np.float32)) for name in names}

    scores, embeddings = np.zeros(len(store), np.float32), np.array(records["image"], dtype=np.float32)
    with atomic_file(maps) as partial:
        out = new_array(partial, np.float16, (len(store), size, size))
        batches = threaded(read, starts, max(2, threads))
        for start, batch in zip(tqdm(starts, desc="infer", unit="batch", disable=None), batches, strict=True):
            on_device = {name: values.to(where) for name, values in batch.items()}
            whole, found = score(on_device, sides, references, grid=grid, scales=scales, temperature=temperature)
            stop = start + len(whole)
            scores[start:stop] = whole.cpu().numpy()
            out[start:stop] = tile_maps(found, input_size=input_size, size=size).cpu().numpy()
        write_table(maps_table, rows.assign(score=scores, embedding=list(embeddings)))


def _open_features(path: Path, scales: Sequence[int], *, count: int) -> np.ndarray:
    """Map the records of `embed_tiles`, read from disk as they are used. Raises DataError when they do not fit."""
    try:
        records = np.load(path, mmap_mode="r")
    except (OSError, ValueError) as error:
        raise DataError(f"{path}: no readable features of tiles ({error}).") from error
    if len(records) != count:
        raise DataError(f"{path}: features of {len(records)} tiles; the tile store has {count}. Delete the file.")
    fields = records.dtype.names or ()
    for name in ("image", "patches", *map(field_of, scales)):
        if name not in fields:
            raise DataError(f"{path}: has no {name!r}, only {', '.join(fields)}. Embed the tiles with these scales.")
    check_scales(scales, isqrt(records["patches"].shape[1]))
    return records


def _read(
    path: Path, needed: Mapping[str, tuple[int, ...]], device: torch.device, *, made_for: str | None = None
) -> dict[str, Tensor]:
    """Vectors of a safetensors file, whose last dimensions must be those needed."""
    try:
        with safe_open(path, framework="pt", device="cpu") as stream:
            about = json.loads((stream.metadata() or {}).get("winclip", "{}"))
            found = {name: stream.get_tensor(name) for name in needed if name in stream.keys()}  # noqa: SIM118
    except (OSError, SafetensorError, ValueError) as error:
        raise WeightsError(f"{path}: no readable features of WinCLIP ({error}).") from error
    origin = about.get("encoder", "an encoder it does not name")
    if made_for is not None and origin != made_for:
        raise WeightsError(f"{path}: made for {origin}; expected {made_for}. Train again.")
    for name, shape in needed.items():
        if name not in found:
            raise WeightsError(f"{path}: has no {name!r}. Train again with these scales.")
        if found[name].shape[-len(shape) :] != torch.Size(shape):
            raise WeightsError(
                f"{path}: {name!r} is {tuple(found[name].shape)}; expected {shape[-1]} numbers each, as the tiles' "
                f"features have. Made for another encoder."
            )
    return {name: values.to(device) for name, values in found.items()}
