"""The infer stage of WinCLIP: stored features of tiles, prompts and references to raw tile maps and image scores."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from math import isqrt
from pathlib import Path

import numpy as np
import torch
from torch import Tensor

from robis.detectors.inference import stored
from robis.detectors.jobs import InferJob
from robis.detectors.model_files import open_model
from robis.detectors.winclip.scores import score, tile_maps
from robis.detectors.winclip.windows import check_scales, field_of
from robis.encoders.devices import pick_device
from robis.io.arrays import atomic_array, open_array, release
from robis.io.damage import damaged
from robis.io.progress import progress
from robis.io.tables import write_table
from robis.io.threads import threaded
from robis.tiles.store import map_size, open_tiles

# Scores are probabilities, most of them near one half: float16 has some 200 values in the band of a usual split.
MAP_TYPE = np.float32
EMBEDS = "winclip_embed_tiles"


@torch.inference_mode()
def infer_split(job: InferJob) -> None:
    """Write the raw map of every tile, float32 (N, m, m), and the tile table with two more columns.

    The columns are `score`, the tile's anomaly score as an image (0..1), and `embedding`, its image embedding
    (list of D float32, length 1).

    Args:
        job: its options are `scales`, sides of the windows in tokens, and `temperature` of the softmax over normal and
            anomalous. Its inputs are "features", the file of `embed_tiles` on the same tiles, which may have more
            scales; "text", the file of `embed_prompts`; and for few-shot "model", the file of `train_category`.

    Raises:
        DataError: files that do not belong together.
        WeightsError: the model is absent, damaged or made for another encoder.
    """
    store, rows = open_tiles(job.store.tiles, job.store.table)
    scales, device = job.options["scales"], pick_device(job.compute.device)
    records = _open_features(job.inputs["features"], scales, count=len(store))
    text = _text(job.inputs["text"], records["image"].shape[1], device)
    references = _references(job, records, device) if "model" in job.inputs else None
    names = ["image", *map(field_of, scales), *(["patches"] if references else [])]
    grid, input_size = isqrt(records["patches"].shape[1]), int(store.shape[1])
    size = map_size(job.size.window, job.size.scale, input_size)
    scores, embeddings = np.zeros(len(store), np.float32), np.zeros(records["image"].shape, np.float32)
    with atomic_array(job.output.maps, MAP_TYPE, (len(store), size, size)) as written:
        for start, batch in _batches(records, names, job):
            vectors = {name: values.to(device) for name, values in batch.items()}
            options = {"grid": grid, "scales": scales, "temperature": job.options["temperature"]}
            whole, token_maps = score(vectors, text, references, **options)
            stop = start + len(whole)
            scores[start:stop], embeddings[start:stop] = whole.cpu().numpy(), batch["image"].numpy()
            maps = tile_maps(token_maps, input_size=input_size, size=size).cpu().numpy()
            written[start:stop] = stored(maps, start, job, MAP_TYPE)
            release(written)
        write_table(job.output.table, rows.assign(score=scores, embedding=list(embeddings)))


def _batches(records: np.ndarray, names: Sequence[str], job: InferJob) -> Iterator[tuple[int, dict[str, Tensor]]]:
    """Number of the first tile, and float32 vectors by name, of batches read from disk."""
    size = job.compute.batch_size
    starts = range(0, len(records), size)

    def read(start: int) -> dict[str, Tensor]:
        part = records[start : start + size]
        batch = {name: torch.from_numpy(part[name].astype(np.float32)) for name in names}
        release(records)
        return batch

    batches = threaded(read, starts, job.compute.threads)
    with progress(len(records), "tiles") as state:
        for start, batch in zip(starts, batches, strict=True):
            yield start, batch
            state.update(len(batch["image"]))


def _text(path: Path, width: int, device: torch.device) -> dict[str, Tensor]:
    """Text features (D,) of both sides."""
    with open_model(path, "winclip", stage="winclip_embed_prompts") as model:
        return {side: model.tensor(side, (width,), device) for side in ("normal", "anomalous")}


def _references(job: InferJob, records: np.ndarray, device: torch.device) -> dict[str, Tensor]:
    """Features of the reference images: "patches" (R, C) and "windows_K" (R', D) per scale."""
    names = ["patches", *map(field_of, job.options["scales"])]
    with open_model(job.inputs["model"], "winclip", encoder=str(job.encoder["name"])) as model:
        return {name: model.tensor(name, (None, records[name].shape[-1]), device) for name in names}


def _open_features(path: Path, scales: Sequence[int], *, count: int) -> np.ndarray:
    """Map the records of `embed_tiles`, read from disk as they are used. Raises DataError when they do not fit."""
    records = open_array(path, stage=EMBEDS, shape=(None,))
    if len(records) != count:
        raise damaged(path, f"features of {len(records)} tiles; the tile store has {count}", EMBEDS)
    fields = records.dtype.names or ()
    for name in ("image", "patches", *map(field_of, scales)):
        if name not in fields:
            raise damaged(path, f"no field {name!r}; found {', '.join(fields) or records.dtype}", EMBEDS)
    check_scales(scales, isqrt(records["patches"].shape[1]))
    return records
