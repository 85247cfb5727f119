"""How well defects are found: encoder (random, ours) x detector x data, three seeds, all metrics.

    .venv/bin/python -m benchmarks.encoders [--data magnetic_tile] [--seeds 3] [--print]

Every cell runs the stages that the workflow runs, with the same parameters, one after the other in this process. What
is done is in benchmarks/results/encoders.json and is not run again; `--print` prints that table alone.
"""

from __future__ import annotations

import argparse
import json
import logging
import os
import tempfile
import time
from collections.abc import Iterator
from dataclasses import dataclass, field
from importlib import import_module
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import torch
from filelock import FileLock
from torch import Tensor

from benchmarks.plain.statistics import patch_statistics
from robis.binarization.stage import Thresholding, binarize_split
from robis.config.settings import parse
from robis.datasets.index import index_split
from robis.detectors.inference import tile_batches, write_tile_maps
from robis.detectors.superadd.bank import Bank, token_maps
from robis.evaluation.metrics import METRICS
from robis.evaluation.stage import SplitFiles, evaluate_split
from robis.io.atomic import atomic_file
from robis.io.tables import read_table
from robis.refinement.methods import Refining
from robis.refinement.stage import refine_split
from robis.scoring.image_scores import Scoring, score_images
from robis.tiles.files import TileMaps, TileStore
from robis.tiles.merge import merge_split
from robis.tiles.store import Cutting, crop_split, map_size, open_tiles
from robis.workflow.project import Project

RESULTS = Path(__file__).parent / "results" / "encoders.json"
ENCODER = "efficientnet_lite0"
SHARED = Path("..") / "shared" / "data"
# Tokens of the plain statistics that are kept, drawn at random.
STATISTICS_BANK = 20_000


@dataclass(frozen=True)
class Data:
    """One data set and how it is looked at.

    Attributes:
        dataset, tiling, input_size, scale: sections and keys of the config.
        epochs: of INP-Former.
        bank: size and rounds of SuperADD's.
        musc: section of the config.
    """

    dataset: dict[str, Any]
    tiling: dict[str, Any]
    input_size: int
    scale: float
    epochs: int
    bank: tuple[int, int] = (20_000, 20)
    musc: dict[str, Any] = field(default_factory=dict)


DATA: dict[str, Data] = {
    "demo": Data(
        {"layout": "mvtec_ad_2", "root": "data/demo", "splits": ["test_public"]},
        {"window": 256, "edge": "shift"},
        input_size=196,
        scale=0.25,
        epochs=5,
        bank=(10_000, 20),
    ),
    "magnetic_tile, whole": Data(
        {"layout": "mvtec_ad", "root": str(SHARED / "magnetic_tile"), "splits": ["test"]},
        {"window": "image"},
        input_size=196,
        scale=1.0,
        epochs=8,
    ),
    "magnetic_tile, tiled": Data(
        {"layout": "mvtec_ad", "root": str(SHARED / "magnetic_tile"), "splits": ["test"]},
        {"window": 192, "edge": "shift"},
        input_size=196,
        scale=1.0,
        epochs=1,
        bank=(10_000, 80),
        musc={"r": [3], "subsets": 8},
    ),
    "pcb_panel": Data(
        {"layout": "mvtec_ad_2", "root": str(SHARED / "pcb_panel"), "splits": ["test_public"]},
        {"window": 400, "edge": "shift"},
        input_size=196,
        scale=0.25,
        epochs=1,
        bank=(10_000, 80),
        musc={"r": [3], "subsets": 2},
    ),
}
WEIGHTS = {"random": "random", "ours": "auto"}
DETECTORS = ("inp_former", "superadd", "musc")


def cells(data: str, seeds: int) -> Iterator[tuple[str, str, str, int]]:
    """Data, encoder, detector and seed of each run."""
    for seed in range(seeds):
        yield data, "none", "statistics", seed
        for encoder in WEIGHTS:
            for detector in DETECTORS:
                yield data, encoder, detector, seed


def is_drawn(data: Data, encoder: str, detector: str) -> bool:
    """Whether anything of a run depends on its seed: not where MuSc scores a whole split on given weights."""
    return detector != "musc" or encoder == "random" or data.musc.get("subsets", 1) > 1


def run(data: Data, encoder: str, detector: str, seed: int, results: Path) -> dict[str, float]:
    """Mean metrics of one run over the categories of a data set."""
    kind = "superadd" if detector == "statistics" else detector
    config: dict[str, Any] = {
        "dataset": {"name": "data", **data.dataset},
        "detectors": [kind],
        "tiling": data.tiling,
        "encoder": {"name": ENCODER, "weights": WEIGHTS.get(encoder, "auto"), "input_size": data.input_size},
        "merge": {"scale": data.scale, "blend": "feather", "normalize": "validation"},
        "inp_former": {"epochs": data.epochs, "warmup_steps": 20, "batch_size": 4, "seed": seed},
        "superadd": {"bank_size": data.bank[0], "rounds": data.bank[1], "seed": seed},
        "musc": {"seed": seed, **data.musc},
        "binarize": {"calibrate": "validation"},
        "refine": {"method": "none"},
        "rescore": {"method": "none"},
        "score_images": {"top_fraction": 0.01 if kind == "inp_former" else 0.001},
    }
    if kind == "musc":
        # Zero-shot: there is nothing to take a range or a threshold from but the images themselves.
        config["merge"]["normalize"] = "split"
        config["binarize"]["calibrate"] = "split"
    project = Project(parse(config), results)
    threads = torch.get_num_threads()
    rows = []
    for category in project.categories:
        for split in project.splits:
            steps = _Steps(project, detector, kind, category, results / "data", threads)
            rows.append(steps.metrics(split, trained=kind != "musc", seed=seed))
    return {name: float(np.nanmean([row[name] for row in rows])) for name in METRICS}


@dataclass
class _Steps:
    """The stages of one category, each run once, in files laid out as the workflow lays them out."""

    project: Project
    detector: str
    kind: str
    category: str
    folder: Path
    threads: int

    def metrics(self, split: str, *, trained: bool, seed: int) -> dict[str, Any]:
        """All metrics of a split."""
        splits = ["train", "validation", split] if trained else [split]
        for one in splits:
            self._tiles(one)
        if self.detector == "statistics":
            self._statistics(splits[1:], seed)
        else:
            if trained:
                self._train()
            for one in splits[1:] if trained else splits:
                self._infer(one)
        for one in splits[1:] if trained else splits:
            self._merge(one)
        at = {name: self.folder / name / split for name in ("maps", "coarse", "masks")}
        reference = self.project.reference_split("binarize.calibrate", **self._job(split))
        options = self._options("binarize", split)
        binarize_split(
            at["maps"],
            self.folder / "maps" / reference,
            at["coarse"],
            at["coarse"].with_suffix(".parquet"),
            Thresholding(**options),
            threads=self.threads,
        )
        root = Path(self._options("refine", split)["root"])
        samples = self.folder / f"{split}.samples.parquet"
        refine = {name: value for name, value in self._options("refine", split).items() if name != "root"}
        refine_split(samples, root, at["coarse"], at["masks"], Refining(**refine), threads=self.threads)
        scores = at["masks"].with_suffix(".parquet")
        options = {name: value for name, value in self._options("score_images", split).items() if name != "embeddings"}
        table = self.folder / f"{split}.maps.parquet"
        score_images(samples, at["maps"], at["masks"], table, scores, Scoring(**options), threads=self.threads)
        found = at["masks"].with_suffix(".metrics.parquet")
        options = {name: value for name, value in self._options("evaluate", split).items() if name != "root"}
        names = {"category": self.category, "split": split, "detector": self.kind}
        curves = found.with_suffix(".curves.parquet")
        files = SplitFiles(samples, root, at["maps"], at["masks"], scores)
        evaluate_split(files, found, curves, threads=self.threads, **names, **options)
        return dict(read_table(found).iloc[0])

    def _job(self, split: str) -> dict[str, str]:
        return {"detector": self.kind, "category": self.category, "split": split}

    def _options(self, stage: str, split: str | None = None) -> dict[str, Any]:
        detector = None if stage == "index" else self.kind
        return self.project.params(stage, detector=detector, category=self.category, split=split).options()

    def _store(self, split: str) -> tuple[Path, Path]:
        return self.folder / f"{split}.tiles.npy", self.folder / f"{split}.tiles.parquet"

    def _tiles(self, split: str) -> None:
        self.folder.mkdir(parents=True, exist_ok=True)
        samples = self.folder / f"{split}.samples.parquet"
        options = self._options("index", split)
        root = Path(options.pop("root"))
        index_split(samples, root=root, category=self.category, split=split, threads=self.threads, **options)
        options = self._options("crop", split)
        root, store = Path(options.pop("root")), TileStore(*self._store(split))
        crop_split(samples, root, store, Cutting(**options), threads=self.threads)

    def _train(self) -> None:
        options = self._options("train", "train")
        module = import_module(self.project.params("train", **self._job("train"))["module"])
        files = self.folder / "model" / "model.safetensors", self.folder / "model" / "training.parquet"
        files[0].parent.mkdir(exist_ok=True)
        module.train_category(*self._store("train"), *files, identity="benchmark", threads=self.threads, **options)

    def _infer(self, split: str) -> None:
        options = self._options("infer", split)
        module = import_module(self.project.params("infer", **self._job(split))["module"])
        model = self.folder / "model" / "model.safetensors"
        read = {"model": model} if model.exists() else {}
        maps = self.folder / f"{split}.maps.npy", self.folder / f"{split}.maps.parquet"
        module.infer_split(*self._store(split), *maps, threads=self.threads, **read, **options)

    def _merge(self, split: str) -> None:
        reference = self.project.reference_split("merge.normalize", **self._job(split))
        maps = [self.folder / f"{one}.maps.npy" for one in (split, reference)]
        samples, table = self.folder / f"{split}.samples.parquet", self.folder / f"{split}.maps.parquet"
        merge_split(
            samples,
            TileMaps(maps[0], table),
            maps[1],
            self.folder / "maps" / split,
            threads=self.threads,
            **self._options("merge", split),
        )

    @torch.inference_mode()
    def _statistics(self, splits: list[str], seed: int) -> None:
        """Nearest neighbors on gray values and gradients of patches: what no network is needed for."""
        store, _ = open_tiles(*self._store("train"))
        device = torch.device("cpu")
        tokens = torch.cat([patch_statistics(tiles).flatten(0, 1) for _, tiles in tile_batches(store, 32, device, 1)])
        mean, std = tokens.mean(0), tokens.std(0) + 1e-3
        order = np.random.default_rng(seed).permutation(len(tokens))[:STATISTICS_BANK]
        bank = Bank.of((tokens[torch.from_numpy(order)] - mean) / std)

        def tile_maps(tiles: Tensor, size: int) -> Tensor:
            found = (patch_statistics(tiles) - mean) / std
            side = int(found.shape[1] ** 0.5)
            return token_maps([bank.nearest(found.flatten(0, 1)).view(-1, side, side)], size)

        for split in splits:
            options = self._options("infer", split)
            maps = self.folder / f"{split}.maps.npy", self.folder / f"{split}.maps.parquet"
            size = map_size(options["window"], options["scale"], store.shape[1])
            write_tile_maps(
                tile_maps, *self._store(split), *maps, size=size, batch_size=32, precision="float32", device=device
            )


def table(done: dict[str, dict[str, float]], seeds: int) -> str:
    """Mean and spread over the seeds, one row per data, encoder and detector."""
    rows = ["| data | encoder | detector | " + " | ".join(METRICS) + " |", "| --- " * (len(METRICS) + 3) + "|"]
    for data in DATA:
        for _, encoder, detector, _ in cells(data, 1):
            found = [done[key] for s in range(seeds) if (key := f"{data}/{encoder}/{detector}/{s}") in done]
            if found:
                values = np.array([[one[name] for name in METRICS] for one in found])
                numbers = [f"{m:.3f} ± {s:.3f}" for m, s in zip(values.mean(0), values.std(0), strict=True)]
                rows.append(f"| {data} | {encoder} | {detector} | " + " | ".join(numbers) + " |")
    return "\n".join(rows)


def main() -> None:
    """Run what is missing, then print the table."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--data", choices=list(DATA), nargs="*", default=list(DATA))
    parser.add_argument("--encoders", nargs="*", default=["none", *WEIGHTS])
    parser.add_argument("--detectors", nargs="*", default=["statistics", *DETECTORS])
    parser.add_argument("--seeds", type=int, default=3)
    parser.add_argument("--threads", type=int, default=os.cpu_count())
    parser.add_argument("--out", type=Path, default=RESULTS)
    parser.add_argument("--print", action="store_true")
    options = parser.parse_args()
    torch.set_num_threads(options.threads)
    cv2.setNumThreads(options.threads)
    logging.basicConfig(level=logging.WARNING)
    for seed in range(0 if options.print else options.seeds):
        for data in options.data:
            for _, encoder, detector, number in cells(data, options.seeds):
                key = f"{data}/{encoder}/{detector}/{number}"
                chosen = number == seed and encoder in options.encoders and detector in options.detectors
                done = read(options.out)
                if key in done or not chosen:
                    continue
                began = time.perf_counter()
                found = done.get(f"{data}/{encoder}/{detector}/0")
                if found is None or is_drawn(DATA[data], encoder, detector):
                    with tempfile.TemporaryDirectory() as folder:
                        found = run(DATA[data], encoder, detector, seed, Path(folder))
                shown = {name: round(found[name], 3) for name in ("image_auroc", "pixel_auroc", "seg_f1")}
                print(f"{key}: {shown}, {time.perf_counter() - began:.0f} s", flush=True)
                add(options.out, key, found)
    print(table(read(options.out), options.seeds))


def read(results: Path) -> dict[str, dict[str, float]]:
    """What is done."""
    return dict(json.loads(results.read_text())) if results.exists() else {}


def add(results: Path, key: str, found: dict[str, float]) -> None:
    """Write down one more run; another process may do the same with other data."""
    results.parent.mkdir(parents=True, exist_ok=True)
    with FileLock(f"{results}.lock"), atomic_file(results) as partial:
        partial.write_text(json.dumps(dict(sorted((read(results) | {key: found}).items())), indent=1) + "\n")


if __name__ == "__main__":
    main()
