"""The infer stage of WinCLIP: stored features of tiles, prompts and references to raw tile maps and image scores."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from math import isqrt
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor

from robis.detectors.batches import in_passes, with_work
from robis.detectors.checks import require_finite
from robis.detectors.ignored import lowest_where
from robis.detectors.jobs import Compute, InferJob, MapScale, ScorerJob
from robis.detectors.model_files import open_model
from robis.detectors.scorers import ImageTiles, MapType, RawMaps, Scorer, TileFunction, batches_of, stored
from robis.detectors.winclip.scores import score, tile_maps
from robis.detectors.winclip.tiles import embed, embed_batch, stored_type
from robis.detectors.winclip.windows import check_scales, field_of
from robis.encoders.clip import ClipEncoder, build_clip_encoder
from robis.encoders.devices import named_device, pick_device
from robis.io.arrays import atomic_array, open_array, release
from robis.io.damage import damaged
from robis.io.progress import progress
from robis.io.tables import write_table
from robis.io.threads import threaded
from robis.tiles.ignored import cells_of, has_ignored, ignored_cells
from robis.tiles.store import map_size, open_tiles

# Scores are probabilities, most of them near one half: float16 has some 200 values in the band of a usual split.
MAP_TYPE = np.float32
EMBEDS = "winclip_embed_tiles"
# Among the vectors of a tile by name: which of its tokens are ignored.
IGNORED = "ignored"


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
    device = pick_device(job.compute.device)
    how = with_work(job.compute, device)
    records = _open_features(job.inputs["features"], job.options["scales"], count=len(store))
    widths = {name: records[name].shape[-1] for name in records.dtype.names or ()}
    grid, input_size = isqrt(records["patches"].shape[1]), int(store.shape[1])
    scores = _load_scores(job.scorer, widths, grid, device)
    size = map_size(job.size.window, job.size.scale, input_size)
    whole, embeddings = np.zeros(len(store), np.float32), np.zeros(records["image"].shape, np.float32)
    with atomic_array(job.output.maps, MAP_TYPE, (len(store), size, size)) as written:
        for start, batch in _batches(records, scores.names, how):
            stop = start + len(batch["image"])
            embeddings[start:stop] = batch["image"].numpy()
            vectors = {name: values.to(device) for name, values in batch.items()}
            if has_ignored(rows):
                vectors[IGNORED] = torch.from_numpy(ignored_cells(rows, scores.grids, range(start, stop))).to(device)
            whole[start:stop], maps = scores.of(vectors, how, input_size=input_size, size=size)
            written[start:stop] = stored(maps, range(start, stop), job.store.tiles, MAP_TYPE)
            release(written)
        write_table(job.output.table, rows.assign(score=whole, embedding=list(embeddings)))


@dataclass(frozen=True)
class TileScores:
    """How vectors of tiles become scores and maps.

    Attributes:
        text, references: see `score`.
        grid: tokens along one side of a tile.
        scales: sides of the windows in tokens.
        temperature: of the softmax.
    """

    text: Mapping[str, Tensor]
    references: Mapping[str, Tensor] | None
    grid: int
    scales: Sequence[int]
    temperature: float

    @property
    def names(self) -> list[str]:
        """The kinds of vectors that are needed, see `robis.detectors.winclip.tiles.embed`."""
        return ["image", *map(field_of, self.scales), *(["patches"] if self.references else [])]

    @property
    def grids(self) -> tuple[int, int]:
        """Rows and columns of a tile's tokens."""
        return self.grid, self.grid

    def of(
        self, vectors: Mapping[str, Tensor], compute: Compute, *, input_size: int, size: int
    ) -> tuple[np.ndarray, np.ndarray]:
        """Scores float32 (B,) and maps float32 (B, size, size) of at most `compute.batch_size` tiles.

        A tile's do not depend on the others. Among the vectors may be IGNORED, bool (B, g, g).
        """
        names = [*self.names, *([IGNORED] if IGNORED in vectors else [])]
        shapes = {name: vectors[name].shape[1:] for name in names}

        def of_pass(flat: Tensor) -> tuple[Tensor, Tensor]:
            parts = flat.split([shape.numel() for shape in shapes.values()], dim=1)
            features = {name: part.unflatten(1, shapes[name]) for name, part in zip(shapes, parts, strict=True)}
            return self.at_once(features, input_size=input_size, size=size)

        flat = torch.cat([vectors[name].float().flatten(1) for name in names], dim=1)
        whole, maps = (torch.cat(parts)[: len(flat)] for parts in zip(*in_passes(of_pass, flat, compute), strict=True))
        return whole.cpu().numpy(), maps.cpu().numpy()

    def at_once(self, features: Mapping[str, Tensor], *, input_size: int, size: int) -> tuple[Tensor, Tensor]:
        """Scores float32 (B,) and maps float32 (B, size, size) of vectors by name."""
        options: dict[str, Any] = {"grid": self.grid, "scales": self.scales, "temperature": self.temperature}
        ignored = features[IGNORED] > 0 if IGNORED in features else None
        whole, maps = score(features, self.text, self.references, **options, ignored=ignored)
        return whole, tile_maps(lowest_where(ignored, maps), input_size=input_size, size=size)


@dataclass(frozen=True)
class WinclipScorer(Scorer):
    """WinCLIP, ready to score tiles.

    Attributes:
        encoder: the image tower.
        scores: from its vectors to maps.
        dtype: see `Scorer`.
    """

    encoder: ClipEncoder
    scores: TileScores
    dtype: MapType = MAP_TYPE

    @property
    def grid(self) -> int:  # type: ignore[override]
        """Tokens along one side of a tile."""
        return self.scores.grid

    @torch.inference_mode()
    def raw_maps(self, image: ImageTiles, compute: Compute, size: MapScale) -> RawMaps:
        device = named_device(compute.device)
        how, input_size = with_work(compute, device), int(image.pixels.shape[1])
        side = map_size(size.window, size.scale, input_size)
        whole, maps = [], []
        for start, batch in batches_of(image.pixels, how, device):
            numbers, vectors = range(start, start + len(batch)), {}
            for name, values in embed_batch(self.encoder, batch, self.scores.scales, how).items():
                require_finite(values, "embeddings", numbers, image.source)
                vectors[name] = values if stored_type(how.precision) == np.float32 else values.half()
            if image.ignored:
                cells = cells_of(image.ignored[start : start + len(batch)], self.scores.grids)
                vectors[IGNORED] = torch.from_numpy(cells).to(device)
            of_batch, maps_of_batch = self.scores.of(vectors, how, input_size=input_size, size=side)
            whole.append(of_batch)
            maps.append(stored(maps_of_batch, numbers, image.source, self.dtype))
        return RawMaps(np.concatenate(maps), scores=np.concatenate(whole))

    def tile_function(self, size: MapScale) -> TileFunction:
        input_size = self.encoder.input_size
        side = map_size(size.window, size.scale, input_size)

        def scored(tile: Tensor, *ignored: Tensor) -> tuple[Tensor, ...]:
            vectors = embed(self.encoder, tile, self.scores.scales) | dict(zip((IGNORED,), ignored, strict=False))
            whole, maps = self.scores.at_once(vectors, input_size=input_size, size=side)
            return maps, whole

        return scored


def load_scorer(job: ScorerJob) -> WinclipScorer:
    """WinCLIP with the references of a category, if it has any.

    Args:
        job: options and inputs as in `infer_split`, without "features".

    Raises:
        WeightsError: the model is absent, damaged or made for another encoder.
    """
    device = pick_device(job.compute.device)
    encoder = build_clip_encoder(**job.encoder).to(device)
    check_scales(job.options["scales"], encoder.grid)
    windows = dict.fromkeys(map(field_of, job.options["scales"]), encoder.embedding_width)
    widths = {"image": encoder.embedding_width, "patches": encoder.width, **windows}
    return WinclipScorer(encoder, _load_scores(job, widths, encoder.grid, device))


def _load_scores(job: ScorerJob, widths: Mapping[str, int], grid: int, device: torch.device) -> TileScores:
    """What scores tiles whose vectors have these widths."""
    text = _text(job.inputs["text"], widths["image"], device)
    references = _references(job, widths, device) if "model" in job.inputs else None
    return TileScores(text, references, grid, job.options["scales"], job.options["temperature"])


def _batches(records: np.ndarray, names: Sequence[str], compute: Compute) -> Iterator[tuple[int, dict[str, Tensor]]]:
    """Number of the first tile, and float32 vectors by name, of batches read from disk."""
    size = compute.batch_size
    starts = range(0, len(records), size)

    def read(start: int) -> dict[str, Tensor]:
        part = records[start : start + size]
        batch = {name: torch.from_numpy(part[name].astype(np.float32)) for name in names}
        release(records)
        return batch

    batches = threaded(read, starts, compute.threads)
    with progress(len(records), "tiles") as state:
        for start, batch in zip(starts, batches, strict=True):
            yield start, batch
            state.update(len(batch["image"]))


def _text(path: Path, width: int, device: torch.device) -> dict[str, Tensor]:
    """Text features (D,) of both sides."""
    with open_model(path, "winclip", stage="winclip_embed_prompts") as model:
        return {side: model.tensor(side, (width,), device) for side in ("normal", "anomalous")}


def _references(job: ScorerJob, widths: Mapping[str, int], device: torch.device) -> dict[str, Tensor]:
    """Features of the reference images: "patches" (R, C) and "windows_K" (R', D) per scale."""
    names = ["patches", *map(field_of, job.options["scales"])]
    with open_model(job.inputs["model"], "winclip", encoder=str(job.encoder["name"])) as model:
        return {name: model.tensor(name, (None, widths[name]), device) for name in names}


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
