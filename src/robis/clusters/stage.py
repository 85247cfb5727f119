"""The stage cluster_regions: which regions of a run and category are alike, over all inspected splits."""

from __future__ import annotations

import logging
from collections.abc import Sequence
from dataclasses import asdict, dataclass, fields
from pathlib import Path
from typing import Literal

import numpy as np
import pandas as pd

from robis.clusters.agreement import Agreement, agreement
from robis.clusters.grouping import Clusters, cluster
from robis.datasets.samples import NORMAL
from robis.io.arrays import open_array
from robis.io.atomic import atomic_folder
from robis.io.damage import damaged
from robis.io.samples import IndexedSample, read_samples
from robis.io.tables import read_table, write_csv

log = logging.getLogger(__name__)

# Files in the folder of the stage.
REGIONS, MEASURES = "regions.csv", "measures.csv"
FALSE_ALARM = "false alarm"
# Of a defective image whose kind of defect has no name.
DEFECT = "defect"
BOX = ("x", "y", "width", "height", "area")
COLUMNS = {
    **{"cluster": "int64", "rank": "int64", "split": "str", "sample_id": "str", "image": "str", "region": "int64"},
    **dict.fromkeys(BOX, "int64"),
    **{"kind": "object", "distance": "float64"},
}


@dataclass(frozen=True)
class Described:
    """What `describe_regions` wrote of a split: its sample table, the table of regions, and their embeddings."""

    samples: Path
    regions: Path
    embeddings: Path


def cluster_regions(
    output: Path, described: Sequence[Described], *, cluster_count: int | Literal["auto"] = "auto"
) -> None:
    """Write a row per region, and one of measures; docs/outputs.md explains their columns.

    Args:
        output: folder for `REGIONS` and `MEASURES`.
        described: of the inspected splits of a run and category.
        cluster_count: number of clusters, or "auto".

    Raises:
        DataError: a file is missing or damaged, an embedding is not finite, or a table names an unknown image.
    """
    tables = [_regions(files) for files in described]
    embeddings = [_embeddings(files, len(table)) for files, table in zip(described, tables, strict=True)]
    clusters = cluster(_stacked(embeddings, described), None if cluster_count == "auto" else cluster_count)
    table = _ranked(pd.concat(tables, ignore_index=True), clusters)
    measures = _measures(table, clusters)
    with atomic_folder(output) as folder:
        write_csv(folder / REGIONS, table)
        write_csv(folder / MEASURES, measures)
    log.info("Sorted %d regions into %d clusters.", len(table), clusters.count)


def _regions(files: Described) -> pd.DataFrame:
    """The regions of a split with their images and kinds, in the order of the embeddings."""
    kinds = {"sample_id": "text", "region": "integers"} | dict.fromkeys(BOX, "integers")
    table = read_table(files.regions, stage="describe_regions", columns=kinds)[list(kinds)]
    samples = {sample.sample_id: sample for sample in read_samples(files.samples)}
    unknown = sorted(set(table["sample_id"]) - set(samples))
    if unknown:
        raise damaged(files.regions, f"{unknown[0]} is not in {files.samples}", "describe_regions")
    of_regions = [samples[name] for name in table["sample_id"]]
    facts = {
        "split": [sample.split for sample in of_regions],
        "image": [sample.image for sample in of_regions],
        "kind": [_kind(sample) for sample in of_regions],
    }
    return table.assign(**{name: pd.Series(values, table.index, dtype=object) for name, values in facts.items()})


def _kind(sample: IndexedSample) -> str | None:
    """What a region of an image is, as far as the image's label tells."""
    if sample.label is None:
        return None
    return FALSE_ALARM if sample.label == NORMAL else sample.defect or DEFECT


def _embeddings(files: Described, count: int) -> np.ndarray:
    array = open_array(files.embeddings, stage="describe_regions", dtypes=[np.float32], shape=(count, None))
    finite = np.isfinite(array).all(1)
    if not finite.all():
        problem = f"row {int(np.argmin(finite))} has values that are not finite; expected finite ones"
        raise damaged(files.embeddings, problem, "describe_regions")
    return array


def _stacked(embeddings: Sequence[np.ndarray], described: Sequence[Described]) -> np.ndarray:
    """All embeddings below each other; splits have the same widths, as they have the same model."""
    width = embeddings[0].shape[1]
    for array, files in zip(embeddings, described, strict=True):
        if array.shape[1] != width:
            problem = f"rows of {array.shape[1]} values; expected {width}, as in {described[0].embeddings}"
            raise damaged(files.embeddings, problem, "describe_regions")
    return np.concatenate(embeddings)


def _ranked(table: pd.DataFrame, clusters: Clusters) -> pd.DataFrame:
    """COLUMNS, cluster by cluster: first the most central region of each image, then the second ones."""
    table = table.assign(cluster=clusters.labels, distance=clusters.distances)
    table = table.sort_values(["cluster", "distance", "split", "sample_id", "region"], kind="stable")
    table["turn"] = table.groupby(["cluster", "split", "sample_id"]).cumcount()
    table = table.sort_values(["cluster", "turn"], kind="stable", ignore_index=True)
    table["rank"] = table.groupby("cluster").cumcount() + 1
    return table[list(COLUMNS)].astype(COLUMNS)


def _measures(table: pd.DataFrame, clusters: Clusters) -> pd.DataFrame:
    """One row: numbers of regions and clusters, silhouette, and the fields of `Agreement`, empty where it is None."""
    labeled = table[table["kind"].notna()]
    measured = agreement(labeled["cluster"].tolist(), labeled["kind"].tolist())
    row = {"regions": len(table), "clusters": clusters.count, "silhouette": clusters.silhouette}
    agreed = asdict(measured) if measured else dict.fromkeys(field.name for field in fields(Agreement))
    return pd.DataFrame([row | agreed])
