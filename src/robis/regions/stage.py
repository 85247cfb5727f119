"""The stage describe_regions: every region of the final masks, its embedding, and the evidence for it."""

from __future__ import annotations

import logging
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import torch
from scipy.ndimage import find_objects

from robis.detectors.checks import require_finite
from robis.detectors.evidence import Explainer, token_box, window_of
from robis.evaluation.counts import resize_mask
from robis.evaluation.regions import Box, Region, labeled_regions
from robis.io.arrays import atomic_array
from robis.io.damage import damaged
from robis.io.maps import read_map, read_written_mask
from robis.io.progress import tracked
from robis.io.samples import IndexedSample, read_samples
from robis.io.tables import write_table
from robis.io.threads import threaded
from robis.regions.cells import best_tiles, covered_cells
from robis.tiles.files import TileStore
from robis.tiles.ignored import contributing_rows, has_ignored
from robis.tiles.store import open_tiles
from robis.tiles.windows import Window

log = logging.getLogger(__name__)

COLUMNS = {
    **{"sample_id": "str", "region": "int64"},
    **dict.fromkeys(("x", "y", "width", "height", "area", "peak_x", "peak_y"), "int64"),
}
# Of evidence: the token with the highest score, in image pixels.
TOKEN_COLUMNS = ("token_x", "token_y", "token_width", "token_height")


@dataclass(frozen=True)
class RegionFiles:
    """What is written: a row per region, the regions' embeddings, and the evidence."""

    table: Path
    embeddings: Path
    evidence: Path


@dataclass(frozen=True)
class Inspected:
    """What is read of a run: the sample table, the folders of final masks and anomaly maps, and the tiles."""

    samples: Path
    masks: Path
    maps: Path
    store: TileStore


@dataclass(frozen=True, eq=False)
class _Place:
    """A region's row in the table, the tile that shows it best, its tokens' numbers in it, and the boxes of tokens."""

    row: Mapping[str, Any]
    tile: int
    cells: np.ndarray
    token_box: Callable[[int], Box]


@torch.inference_mode()
def describe_regions(output: RegionFiles, inspected: Inspected, explainer: Explainer, threads: int = 1) -> None:
    """Write a row per connected region of the final masks, with COLUMNS; docs/outputs.md explains them.

    Only tiles with regions are encoded again, a few at a time. Embeddings are float32 (R, W), in the order of the
    table.

    Args:
        output: what is written.
        inspected: what is read.
        explainer: of the run.
        threads: masks read at a time.

    Raises:
        DataError: a file is missing or damaged, or tokens are not finite.
    """
    places = list(_places(inspected, explainer, threads))
    rows: dict[int, list[dict[str, Any]]] = {}
    with atomic_array(output.embeddings, np.float32, (len(places), sum(explainer.widths))) as embeddings:
        for tile, values in _encoded(places, inspected, explainer):
            for number in tile:
                place = places[number]
                embeddings[number] = explainer.embedding(values, place.cells)
                require_finite(embeddings[number : number + 1], "tokens", [place.tile], inspected.store.tiles)
                rows[number] = explainer.evidence(values, place.cells)
        write_table(output.evidence, _evidence(places, rows, explainer.columns))
        write_table(output.table, _typed([place.row for place in places], COLUMNS))
    log.info("Described %d regions.", len(places))


def _encoded(places: Sequence[_Place], inspected: Inspected, explainer: Explainer) -> Iterator[tuple[list[int], Any]]:
    """The regions that a tile shows, by their numbers, and its values, tile by tile."""
    shown: dict[int, list[int]] = {}
    for number, place in enumerate(places):
        shown.setdefault(place.tile, []).append(number)
    tiles = sorted(shown)
    if tiles:
        for tile, values in zip(tiles, explainer.encoded(inspected.store, tiles), strict=True):
            yield shown[tile], values


def _places(inspected: Inspected, explainer: Explainer, threads: int) -> Iterator[_Place]:
    samples = read_samples(inspected.samples)
    _, rows = open_tiles(inspected.store.tiles, inspected.store.table)
    numbers = rows.groupby("sample_id", sort=False).indices
    used = contributing_rows(rows)

    def of_image(sample: IndexedSample) -> list[_Place]:
        mask = read_written_mask(inspected.masks / f"{sample.sample_id}.png", stage="refine")
        if not mask.any():
            return []
        if sample.sample_id not in numbers:
            raise damaged(inspected.store.table, f"no tiles of {sample.sample_id}", "crop")
        anomaly_map = read_map(inspected.maps / f"{sample.sample_id}.tiff")
        tiles = {int(tile): window_of(rows.iloc[tile]) for tile in numbers[sample.sample_id] if used[tile]}
        return [
            _without_ignored(place, rows, explainer) for place in _of_mask(sample, mask, anomaly_map, tiles, explainer)
        ]

    for places in tracked(threaded(of_image, samples, threads), len(samples), "images"):
        yield from places


def _of_mask(
    sample: IndexedSample,
    mask: np.ndarray,
    anomaly_map: np.ndarray,
    tiles: Mapping[int, Window],
    explainer: Explainer,
) -> Iterator[_Place]:
    scale = (sample.height / mask.shape[0], sample.width / mask.shape[1])
    labels, regions = labeled_regions(mask, sample.height, sample.width)
    peaks = _peaks(labels, regions, anomaly_map, sample)
    best = best_tiles(labels, regions, list(tiles.values()), scale)
    for number, (region, tile) in enumerate(zip(regions, best, strict=True), start=1):
        window = list(tiles.values())[tile]
        row = {
            **{"sample_id": sample.sample_id, "region": number},
            **dict(zip(("x", "y", "width", "height"), region.box, strict=True)),
            "area": max(1, round(region.pixels * scale[0] * scale[1])),
            **dict(zip(("peak_x", "peak_y"), peaks[region.label], strict=True)),
        }
        grid = explainer.grid(window)
        cells = covered_cells(labels, region, scale, window, grid)
        box = partial(token_box, window, grid, sides=(sample.height, sample.width))
        yield _Place(row, list(tiles)[tile], cells, box)


def _without_ignored(place: _Place, rows: pd.DataFrame, explainer: Explainer) -> _Place:
    """A region without its ignored tokens, which lie at its border; with all of them where no other is left."""
    kept = np.setdiff1d(place.cells, explainer.ignored(rows, place.tile)) if has_ignored(rows) else place.cells
    return replace(place, cells=kept) if len(kept) else place


def _peaks(
    labels: np.ndarray, regions: Sequence[Region], anomaly_map: np.ndarray, sample: IndexedSample
) -> dict[int, tuple[int, int]]:
    """Label -> x and y in image pixels of the map's highest value in the region, the first of several."""
    of_map = resize_mask(labels, *anomaly_map.shape)
    scale = (sample.height / anomaly_map.shape[0], sample.width / anomaly_map.shape[1])
    # A speck may fall between the pixels of a coarser map.
    x_y = {of.label: (of.box[0] + of.box[2] // 2, of.box[1] + of.box[3] // 2) for of in regions}
    for label, place in enumerate(find_objects(of_map), start=1):
        if place is not None:
            values = np.where(of_map[place] == label, anomaly_map[place].astype(np.float32), -np.inf)
            row, column = np.unravel_index(int(values.argmax()), values.shape)
            at = (place[0].start + int(row), place[1].start + int(column))
            x_y[label] = (int((at[1] + 0.5) * scale[1]), int((at[0] + 0.5) * scale[0]))
    return x_y


def _evidence(
    places: Sequence[_Place], rows: Mapping[int, Sequence[Mapping[str, Any]]], columns: Mapping[str, str]
) -> pd.DataFrame:
    keys = ("sample_id", "region")
    of_regions = [
        {name: place.row[name] for name in keys}
        | dict(zip(TOKEN_COLUMNS, place.token_box(row["token"]), strict=True))
        | {name: row[name] for name in columns}
        for number, place in enumerate(places)
        for row in rows[number]
    ]
    of_token = dict.fromkeys(TOKEN_COLUMNS if columns else (), "int64")
    return _typed(of_regions, {name: COLUMNS[name] for name in keys} | of_token | dict(columns))


def _typed(rows: Sequence[Mapping[str, Any]], columns: Mapping[str, str]) -> pd.DataFrame:
    return pd.DataFrame(rows, columns=list(columns)).astype(columns)
