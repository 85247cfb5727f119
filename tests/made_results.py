"""Small finished results for tests of the report: what the stages before it write, without running them."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
from PIL import Image

from robis.evaluation.metrics import METRICS
from robis.io.maps import write_map, write_mask
from robis.io.samples import IndexedSample, write_samples
from robis.io.tables import write_table
from robis.report.inputs import PageFacts, ReportFiles, RunFiles
from robis.report.published import read_literature

# A name that a page must show as it is, and that no file name may hold as it is.
NASTY = "bad/<script>alert(1)</script> & ü"


@dataclass(frozen=True)
class Made:
    """One image: its masks are boxes (top, left, bottom, right) in image pixels, None for an empty mask."""

    sample_id: str
    label: str | None = "normal"
    truth: tuple[int, int, int, int] | None = None
    final: tuple[int, int, int, int] | None = None
    score: float = 1.0
    size: tuple[int, int] = (96, 128)


def box(size: tuple[int, int], corners: tuple[int, int, int, int] | None, scale: int = 1) -> np.ndarray:
    """A bool mask, true in a box; `scale` divides sizes and corners."""
    mask = np.zeros((size[0] // scale, size[1] // scale), bool)
    if corners:
        top, left, bottom, right = (corner // scale for corner in corners)
        mask[top:bottom, left:right] = True
    return mask


def write_data(root: Path, results: Path, category: str, split: str, images: Sequence[Made]) -> None:
    """Images, ground truth and the sample table of a category and split."""
    rng = np.random.default_rng(0)
    table = []
    for number, made in enumerate(images):
        image = f"{category}/{split}/{number}.png"
        mask = f"{category}/masks/{split}{number}.png" if made.truth else None
        (root / image).parent.mkdir(parents=True, exist_ok=True)
        Image.fromarray(rng.integers(0, 255, (*made.size, 3), dtype=np.uint8)).save(root / image)
        if mask:
            write_mask(root / mask, box(made.size, made.truth))
        defect = "bad" if made.label == "anomalous" else "good" if made.label else None
        table.append(IndexedSample(made.sample_id, split, image, made.label, defect, mask, *made.size))
    write_samples(results / "samples" / category / f"{split}.parquet", table)


def write_run(
    run: Path, category: str, split: str, images: Sequence[Made], metrics: Mapping[str, float | None] | None = None
) -> None:
    """Maps, masks and tables of a detector at a quarter of the images' size; metrics and curves where given."""
    for number, made in enumerate(images):
        rng = np.random.default_rng(number)
        height, width = made.size[0] // 4, made.size[1] // 4
        anomaly_map = rng.random((height, width)) * 200 + 10
        write_map(run / "anomaly_images" / category / split / f"{made.sample_id}.tiff", anomaly_map)
        for kind in ("coarse_masks", "anomaly_images_thresholded"):
            file = run / kind / category / split / f"{made.sample_id}.png"
            write_mask(file, box(made.size, made.final, scale=4))
    ids = [made.sample_id for made in images]
    scores = {
        "sample_id": ids,
        "score": [made.score for made in images],
        "rescored": [made.score for made in images],
        "is_anomalous": [made.final is not None for made in images],
    }
    write_table(run / "image_scores" / category / f"{split}.parquet", pd.DataFrame(scores))
    thresholds = {
        "sample_id": ids,
        "method": "robis",
        "threshold": 123.5,
        "mean_std": 130.25,
        "mebin": 123.5,
        "defects": 2,
        "stable_first": pd.array([200] * len(ids), "Int64"),
        "stable_last": pd.array([150] * len(ids), "Int64"),
        "area": 0.1,
    }
    write_table(run / "thresholds" / category / f"{split}.parquet", pd.DataFrame(thresholds))
    if metrics is not None:
        row: dict[str, Any] = {"detector": run.name, "category": category, "split": split, "images": len(images)}
        row |= {"anomalous_images": 2, "defects": 2} | dict.fromkeys(METRICS) | dict(metrics)
        table = pd.DataFrame([row]).astype(dict.fromkeys(METRICS, "Float64"))
        write_table(run / "metrics" / category / f"{split}.parquet", table)
        curves = {"curve": "roc", "x": [0.0, 0.5, 1.0], "y": [0.0, 0.75, 1.0], "threshold": [np.nan, 2.0, 1.0]}
        write_table(run / "curves" / category / f"{split}.parquet", pd.DataFrame(curves))


def write_verdicts(
    run: Path, category: str, split: str, images: Sequence[Made], limit: float, held_out: int = 30, above: int = 0
) -> None:
    """The tables of the stage `judge` for a limit of the images' scores, the highest held-out score but `above`."""
    scores = np.array([made.score for made in images])
    table = {
        "sample_id": [made.sample_id for made in images],
        **{"score": scores, "limit": limit, "margin": scores - limit, "is_anomalous": scores > limit},
        **{"held_out": held_out, "held_out_above": above},
    }
    write_table(run / "verdicts" / category / f"{split}.parquet", pd.DataFrame(table))
    references = limit + np.arange(above + 1 - held_out, above + 1) / held_out
    names = [f"held/{number:03}" for number in range(held_out)]
    held_out_scores = pd.DataFrame({"sample_id": names, "score": references})
    write_table(run / "held_out_scores" / category / f"{split}.parquet", held_out_scores)


def made_files(
    run: Path, category: str, split: str, *, name: str = "", compared: bool = False, **files: Path
) -> RunFiles:
    """The files of a run (results/NAME/DETECTOR), with verdicts, metrics and curves where they exist.

    name: as the page shows it; the folder's by default. files: other files than these, such as `history`.
    """
    place, table = Path(category, split), Path(category, f"{split}.parquet")
    found: dict[str, Any] = {
        "samples": run.parent / "samples" / table,
        "maps": run / "anomaly_images" / place,
        "thresholds": run / "thresholds" / table,
        "coarse_masks": run / "coarse_masks" / place,
        "masks": run / "anomaly_images_thresholded" / place,
        "scores": run / "image_scores" / table,
    }
    optional = ("verdicts", "held_out_scores", "metrics", "curves", "regions", "evidence")
    found |= {kind: path for kind in optional if (path := run / kind / table).is_file()}
    link = f"../{run.name}/anomaly_images_thresholded/{category}/{split}"
    return RunFiles(name or run.name, category, split, masks_link=link, compared=compared, **(found | files))


def report_files(folder: Path) -> ReportFiles:
    """What a report writes, in a folder."""
    names = (
        *("index.html", "assets", "figures", "tables", "overlays"),
        *("metrics.csv", "metrics.xlsx", "images.csv", "summary.txt"),
    )
    return ReportFiles(*(folder / name for name in names))


def made_facts(root: Path, *detectors: str, layout: str = "folder") -> PageFacts:
    """What the page says besides results, for runs of one detector each; `root` is the dataset's folder."""
    literature = read_literature()
    setup = dict.fromkeys(literature.setup_keys()) | {"encoder.weights": "auto", "evaluate.resolution": "ground_truth"}
    return PageFacts(
        dataset="shop",
        root=root,
        layout=layout,
        encoder="vit_tiny",
        config="dataset: {name: shop}\n",
        setups={name: setup | {"detector": name} for name in detectors},
        literature=literature,
    )


def write_many(
    root: Path,
    results: Path,
    run: Path,
    category: str,
    split: str,
    count: int,
    size: tuple[int, int] = (120, 160),
) -> list[Made]:
    """Many images of one split, every other one defective; a few files stand for all of their pixels."""
    height, width = size
    upper, left = height // 4, width // 4
    images = [
        Made(
            f"{'bad' if n % 2 else 'good'}/{n:05}",
            "anomalous" if n % 2 else "normal",
            truth=(upper, left, 2 * upper, 2 * left) if n % 2 else None,
            final=(upper, left, 3 * upper // 2, 2 * left) if n % 3 else None,
            score=float(n),
            size=size,
        )
        for n in range(count)
    ]
    write_data(root, results, category, split, images[:2])
    table = [
        IndexedSample(
            *(made.sample_id, split, f"{category}/{split}/0.png", made.label, "bad" if made.truth else "good"),
            *(f"{category}/masks/{split}1.png" if made.truth else None, *made.size),
        )
        for made in images
    ]
    write_samples(results / "samples" / category / f"{split}.parquet", table)
    write_run(run, category, split, images, dict.fromkeys(METRICS, 0.5))
    return images
