"""The stages without a model on the files of `benchmarks.cases`, each for a process of its own.

Imports are inside the functions: what a stage imports is part of what its process holds.
"""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from pathlib import Path


def crop(folder: str, threads: int) -> Callable[[], object]:
    """Images to tiles of 128 px."""
    from robis.tiles.files import TileStore
    from robis.tiles.store import Cutting, crop_split

    root = Path(folder)
    output = TileStore(root / "out" / "tiles.npy", root / "out" / "tiles.parquet")
    cutting = Cutting(window=256, overlap=0.1, edge="pad", size=128)
    return partial(crop_split, root / "samples.parquet", root, output, cutting, threads=threads)


def merge(folder: str, threads: int, scale: float = 0.25, blend: str = "mean") -> Callable[[], object]:
    """Tile maps to anomaly maps, at a quarter of the images' size unless `scale` says otherwise."""
    from robis.tiles.files import TileMaps
    from robis.tiles.merge import merge_split

    root = Path(folder)
    maps = TileMaps(root / "tile_maps.npy", root / "tile_maps.parquet")
    arguments = (root / "samples.parquet", maps, maps.maps, root / "out" / "maps")
    return partial(merge_split, *arguments, scale=scale, blend=blend, threads=threads)


def binarize(folder: str, threads: int, method: str = "robis") -> Callable[[], object]:
    """Anomaly maps to coarse masks."""
    from robis.binarization.stage import SplitMaps, Thresholding, binarize_split

    root = Path(folder)
    split = SplitMaps(root / "samples.parquet", root / "maps")
    arguments = (split, split, root / "out" / "coarse", root / "out" / "thresholds.parquet")
    return partial(binarize_split, *arguments, Thresholding(method), threads=threads)


def refine(folder: str, threads: int, method: str) -> Callable[[], object]:
    """Coarse masks to final masks."""
    from robis.refinement.methods import Refining
    from robis.refinement.stage import refine_split

    root = Path(folder)
    arguments = (root / "samples.parquet", root, root / "masks", root / "out" / method)
    return partial(refine_split, *arguments, Refining(method), threads=threads)


def score_images(folder: str, threads: int) -> Callable[[], object]:
    """Maps and masks to image scores."""
    from robis.scoring.image_scores import Scoring
    from robis.scoring.image_scores import score_images as score

    root = Path(folder)
    files = (root / "samples.parquet", root / "maps", root / "masks", root / "tile_maps.parquet")
    return partial(score, *files, root / "out" / "scores.parquet", Scoring(0.01, "none"), threads=threads)


def judge(folder: str, threads: int, scale: float) -> Callable[[], object]:
    """Maps to verdicts; the held-out images are those that are judged."""
    from robis.scoring.judge import HeldOut, Judging, judge_split
    from robis.tiles.files import TileMaps

    root = Path(folder)
    maps = TileMaps(root / "tile_maps.npy", root / "tile_maps.parquet")
    held_out = HeldOut(root / "samples.parquet", maps, maps.maps, root / "out" / "held_out.parquet")
    files = (root / "samples.parquet", root / "maps", maps.table, held_out, root / "out" / "verdicts.parquet")
    return partial(judge_split, *files, Judging(0.01, 0.0, scale, "mean"), threads=threads)


def evaluate(folder: str, threads: int) -> Callable[[], object]:
    """All metrics."""
    from robis.evaluation.stage import EvaluatedRun, SplitFiles, evaluate_split

    root = Path(folder)
    files = SplitFiles(
        samples=root / "samples.parquet",
        root=root,
        maps=root / "maps",
        masks=root / "masks",
        scores=root / "scores.parquet",
    )
    outputs = (root / "out" / "metrics.parquet", root / "out" / "curves.parquet")
    return partial(evaluate_split, files, *outputs, EvaluatedRun("d", "c", "test"), threads=threads)


def first_fingerprint(folder: str, threads: int) -> Callable[[], object]:
    """The fingerprint of all images, none of which is known yet."""
    from robis.workflow.fingerprints import fingerprint

    root = Path(folder)
    names = [path.relative_to(root).as_posix() for path in root.rglob("*.png")]
    return partial(fingerprint, root, names, root / "memory.json", threads=threads)


def copies(folder: str, threads: int) -> Callable[[], object]:
    """What the audit does without a model: the measures of all images, and the pairs that are near copies."""
    from robis.audit.copies import find_copies
    from robis.audit.measures import measure
    from robis.io.threads import threaded

    files = sorted(Path(folder).rglob("*.png"))

    def run() -> int:
        measures = list(threaded(measure, files, threads))
        return len(find_copies([each.digest for each in measures], [each.small for each in measures], threads))

    return run


def clusters(folder: str, threads: int) -> Callable[[], object]:
    """The clusters of the embeddings of a split's regions."""
    import numpy as np

    from robis.clusters.grouping import cluster

    embeddings = np.load(Path(folder) / "embeddings.npy")
    return lambda: cluster(embeddings).count
