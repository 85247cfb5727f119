"""The stages of one category, one after another in this process, with the parameters that the workflow gives them."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

from robis.binarization.stage import SplitMaps, Thresholding, binarize_split
from robis.datasets.index import index_split
from robis.datasets.samples import Source
from robis.detectors.jobs import InferJob, MapScale, TrainJob
from robis.detectors.registry import DETECTORS
from robis.evaluation.stage import EvaluatedRun, SplitFiles, evaluate_split
from robis.io.tables import read_table
from robis.packs.write import RunFiles
from robis.refinement.methods import Refining
from robis.refinement.stage import refine_split
from robis.scoring.image_scores import Scoring, score_images
from robis.tiles.files import TileMaps, TileStore
from robis.tiles.merge import merge_split
from robis.tiles.store import Cutting, crop_split
from robis.workflow import results
from robis.workflow.model_jobs import compute_of
from robis.workflow.project import Project

# Writes the tile maps of a job from the tiles of the normal images.
Infer = Callable[[TileStore, InferJob], None]


@dataclass(frozen=True)
class Pipeline:
    """One run of a detector on one category, in files laid out as the workflow lays them out.

    Attributes:
        project: a config and its data.
        run: one of the project's runs.
        category: one of its categories.
        threads: of every stage.
        infer: replaces the detector's training and inference; None: the detector's own.
    """

    project: Project
    run: str
    category: str
    threads: int = 1
    infer: Infer | None = None

    def metrics(self, split: str) -> dict[str, Any]:
        """All metrics of a split, by name."""
        self._write_scores(split)
        return self._evaluate(split)

    def packed_files(self, split: str) -> RunFiles:
        """Do what a pack needs, and give its files."""
        self._write_scores(split)
        place = partial(self._place, split=split)
        scaling = self._reference("merge.normalize", split)
        reference = self._reference("binarize.calibrate", split) or split
        return RunFiles(
            inputs={"model": place(results.MODEL)},
            range_maps=self._maps(scaling).maps if scaling else None,
            reference=self._split_maps(reference),
            split=self._split_maps(split),
            masks=place(results.MASKS),
            scores=place(results.IMAGE_SCORES),
            verdicts=None,
            metrics=None,
        )

    def _write_scores(self, split: str) -> None:
        """Everything up to the masks and image scores of a split."""
        names = {"detector": self.run, "category": self.category, "split": split}
        learns = self.infer is not None or self.project.trains(**names)
        references = {self._reference(key, split) for key in ("merge.normalize", "binarize.calibrate")}
        inferred = sorted({split, *filter(None, references)})
        for name in ["train", *inferred] if learns else inferred:
            self.crop_tiles(name)
        if learns and self.infer is None:
            self.train()
        for name in inferred:
            self.write_maps(name)
        for name in inferred:
            self._merge(name)
        self._mask(split)
        self._score(split)

    def _split_maps(self, split: str) -> SplitMaps:
        return SplitMaps(self._place(results.SAMPLES, split), self._place(results.ANOMALY_MAPS, split))

    def _options(self, stage: str, split: str) -> dict[str, Any]:
        run = None if stage in ("index", "crop") else self.run
        return self.project.params(stage, detector=run, category=self.category, split=split).options()

    def _place(self, pattern: str, split: str) -> Path:
        fields = {"detector": self.run, "owner": "", "category": self.category, "split": split}
        return results.place(pattern, self.project.results, **fields)

    def _store(self, split: str) -> TileStore:
        return TileStore(self._place(results.TILES, split), self._place(results.TILE_TABLE, split))

    def _maps(self, split: str) -> TileMaps:
        return TileMaps(self._place(results.TILE_MAPS, split), self._place(results.TILE_MAP_TABLE, split))

    def _reference(self, key: str, split: str) -> str | None:
        return self.project.reference_split(key, detector=self.run, category=self.category, split=split)

    def crop_tiles(self, split: str) -> None:
        """Cut the images of a split."""
        samples, store = self._place(results.SAMPLES, split), self._store(split)
        options = self._options("index", split)
        held_out = {name: options.pop(name) for name in ("hold_out", "hold_out_every")}
        source = Source(root=Path(options.pop("root")), **options)
        index_split(samples, source, category=self.category, split=split, **held_out, threads=self.threads)
        options = self._options("crop", split)
        root = Path(options.pop("root"))
        crop_split(samples, root, store, Cutting(**options), threads=self.threads)

    def train(self) -> None:
        """Train the detector on the tiles of the normal images."""
        options = self._options("train", "train")
        job = TrainJob(
            stores=(self._store("train"),),
            model=self._place(results.MODEL, "train"),
            history=self._place(results.HISTORY, "train"),
            encoder=options.pop("encoder"),
            compute=compute_of(options, self.threads),
            options=options,
        )
        DETECTORS[self.project.kind(self.run)].train(job)

    def write_maps(self, split: str) -> None:
        """Make the raw maps of a split's tiles."""
        options = self._options("infer", split)
        options.pop("shards", None)
        model = self._place(results.MODEL, split)
        job = InferJob(
            store=self._store(split),
            output=self._maps(split),
            inputs={"model": model} if model.exists() else {},
            encoder=options.pop("encoder"),
            compute=compute_of(options, self.threads),
            size=MapScale(options.pop("window"), options.pop("scale")),
            options=options,
        )
        if self.infer:
            self.infer(self._store("train"), job)
        else:
            DETECTORS[self.project.kind(self.run)].infer(job)

    def _merge(self, split: str) -> None:
        reference = self._reference("merge.normalize", split)
        maps, range_maps = self._maps(split), self._maps(reference).maps if reference else None
        samples, target = self._place(results.SAMPLES, split), self._place(results.ANOMALY_MAPS, split)
        options = self._options("merge", split)
        merge_split(samples, maps, range_maps, target, threads=self.threads, **options)

    def _mask(self, split: str) -> None:
        """Coarse masks, then final ones."""
        maps = self._split_maps(split)
        reference = self._split_maps(self._reference("binarize.calibrate", split) or split)
        coarse = self._place(results.COARSE_MASKS, split)
        binarize_split(
            maps,
            reference,
            coarse,
            self._place(results.THRESHOLDS, split),
            Thresholding(**self._options("binarize", split)),
            threads=self.threads,
        )
        options = self._options("refine", split)
        root, samples = Path(options.pop("root")), self._place(results.SAMPLES, split)
        masks = self._place(results.MASKS, split)
        refine_split(samples, root, coarse, masks, Refining(**options), threads=self.threads)

    def _scored(self, split: str) -> tuple[Path, Path, Path, Path]:
        """Samples, anomaly maps, masks and image scores of a split."""
        patterns = (results.SAMPLES, results.ANOMALY_MAPS, results.MASKS, results.IMAGE_SCORES)
        samples, maps, masks, scores = (self._place(pattern, split) for pattern in patterns)
        return samples, maps, masks, scores

    def _score(self, split: str) -> None:
        samples, maps, masks, scores = self._scored(split)
        options = self._options("score_images", split)
        options.pop("embeddings", None)
        table = self._maps(split).table
        score_images(samples, maps, masks, table, scores, Scoring(**options), threads=self.threads)

    def _evaluate(self, split: str) -> dict[str, Any]:
        samples, maps, masks, scores = self._scored(split)
        metrics, options = self._place(results.METRICS, split), self._options("evaluate", split)
        root = Path(options.pop("root"))
        evaluate_split(
            SplitFiles(samples=samples, root=root, maps=maps, masks=masks, scores=scores),
            metrics,
            self._place(results.CURVES, split),
            EvaluatedRun(self.run, self.category, split, options.pop("settings")),
            threads=self.threads,
            **options,
        )
        return dict(read_table(metrics).iloc[0])
