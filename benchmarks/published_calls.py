"""robis's side of `benchmarks.cases.published`: stages on the benchmark's folder, each for a process of its own.

Settings are those of the published code. Each sample table is read once while the stage is set up, so that what reads
tables is imported before the time is taken, as what the published code imports is.
"""

from __future__ import annotations

import time
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Any

from benchmarks import stage_calls

if TYPE_CHECKING:
    import numpy as np

    from robis.detectors.jobs import Compute, InferJob

ENCODER = "dinov2_reg_vits14"
SPLITS = ("train", "test")
WINDOW, SCALE = 1024, 0.25


def crop(folder: str, tile: int, threads: int) -> Callable[[], None]:
    """Images of both splits to tiles of the encoder's size."""
    from robis.tiles.store import Cutting, crop_split

    root = _ready(folder, "train")
    cutting = Cutting(WINDOW, 0.1, edge="pad", size=tile)

    def run() -> None:
        for split in SPLITS:
            crop_split(root / f"{split}.parquet", root / "data", _store(root, split), cutting, threads=threads)

    return run


def train(
    folder: str, tile: int, epochs: int, batch_size: int, threads: int, augment: bool = True
) -> Callable[[], dict[str, list[float]]]:
    """Training to a saved model; gives the losses of all steps, and when they ended as the other side does."""
    import pandas as pd

    from robis.detectors.inp_former.options import InpFormerOptions
    from robis.detectors.inp_former.train import train_category
    from robis.detectors.jobs import TrainJob
    from robis.detectors.reconstruction import loop

    root = _ready(folder, "train")
    options = InpFormerOptions(epochs=epochs, augment=augment).model_dump()
    compute = _compute(batch_size, threads)
    output = root / "ours" / "model.safetensors"
    history = output.with_name("history.parquet")
    job = TrainJob((_store(root, "train"),), output, history, _encoder(root, tile), options, compute)
    step = loop.train_step
    ends: dict[str, list[float]] = {"seconds": [], "cpu_seconds": []}

    def step_and_note(*arguments: Any) -> tuple[float, float]:
        losses = step(*arguments)
        ends["seconds"].append(time.perf_counter())
        ends["cpu_seconds"].append(time.process_time())
        return losses

    setattr(loop, "train_step", step_and_note)  # noqa: B010 (mypy: another signature)

    def run() -> dict[str, list[float]]:
        train_category(job)
        return {"losses": pd.read_parquet(history)["loss"].tolist(), **ends}

    return run


def infer(folder: str, tile: int, batch_size: int, threads: int) -> Callable[[], None]:
    """Tiles to raw tile maps."""
    from robis.detectors.inp_former.infer import infer_split

    job = _infer_job(_ready(folder, "test"), tile, batch_size, threads)
    return lambda: infer_split(job)


def maps(folder: str, tile: int, batch_size: int, threads: int) -> Callable[[], np.ndarray]:
    """The same maps before they are rounded to float16: float32 (N, 256, 256)."""
    import numpy as np
    import torch

    from robis.detectors.inp_former.infer import load_scorer

    job = _infer_job(Path(folder), tile, batch_size, threads)
    scorer = load_scorer(job.scorer)
    tiles = torch.from_numpy(np.load(job.store.tiles)).split(batch_size)

    def run() -> np.ndarray:
        with torch.inference_mode():
            parts = [scorer.batch_maps(part, round(WINDOW * SCALE), job.compute).numpy() for part in tiles]
        return np.concatenate(parts)

    return run


def merge(folder: str, threads: int) -> Callable[[], object]:
    """Tile maps to anomaly maps."""
    _ready(folder, "samples")
    return stage_calls.merge(folder, threads)


def binarize(folder: str, threads: int) -> Callable[[], object]:
    """Anomaly maps to coarse masks."""
    _ready(folder, "samples")
    return stage_calls.binarize(folder, threads)


def refine(folder: str, threads: int) -> Callable[[], None]:
    """Coarse masks to final masks by SAM vit_b."""
    from benchmarks.plain.published import SAM_FILE
    from robis.refinement.methods import Refining
    from robis.refinement.stage import refine_split

    root = _ready(folder, "sam")
    options = Refining("sam", model="vit_b", checkpoint=str(root / SAM_FILE), device="cpu")
    files = (root / "sam.parquet", root / "sam_data", root / "masks", root / "out" / "sam")
    return lambda: refine_split(*files, options, threads=threads)


def _ready(folder: str, table: str) -> Path:
    """The folder, after a sample table in it has been read."""
    from robis.io.samples import read_samples

    read_samples(Path(folder) / f"{table}.parquet")
    return Path(folder)


def _store(root: Path, split: str) -> Any:
    from robis.tiles.files import TileStore

    return TileStore(root / f"{split}.npy", root / f"{split}_tiles.parquet")


def _encoder(root: Path, tile: int) -> dict[str, Any]:
    from benchmarks.plain.published import ENCODER_FILE

    return {"name": ENCODER, "weights": str(root / "backbones" / "weights" / ENCODER_FILE), "input_size": tile}


def _compute(batch_size: int, threads: int) -> Compute:
    from robis.detectors.jobs import Compute

    return Compute(batch_size, device="cpu", threads=threads)


def _infer_job(root: Path, tile: int, batch_size: int, threads: int) -> InferJob:
    from benchmarks.plain.published import CATEGORY
    from robis.detectors.jobs import InferJob, MapScale
    from robis.tiles.files import TileMaps

    return InferJob(
        store=_store(root, "test"),
        output=TileMaps(root / "ours.npy", root / "ours.parquet"),
        inputs={"model": root / "checkpoint" / "model" / CATEGORY / "model.pth"},
        encoder=_encoder(root, tile),
        options={"prototypes": 6, "seed": 0},
        compute=_compute(batch_size, threads),
        size=MapScale(WINDOW, SCALE),
    )
