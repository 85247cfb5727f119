"""A loaded pack: from one image to its map, mask and verdict, by the functions that the workflow's stages call."""

from __future__ import annotations

import hashlib
import os
import threading
import time
from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import nn

from robis.binarization.stage import coarse_mask
from robis.binarization.statistics import valid_map
from robis.detectors.jobs import Compute, ScorerJob
from robis.detectors.registry import DETECTORS
from robis.detectors.scorers import ImageTiles, RawMaps, Scorer
from robis.encoders.names import is_pretrained_tag
from robis.errors import ConfigError, DataError, WeightsError, one_of
from robis.io.copies import copy_of
from robis.io.ignored import decode, filled, left_out_at
from robis.io.images import read_image
from robis.io.names import expanded
from robis.packs.exported import EXPORTED, load_exported
from robis.packs.format import (
    IGNORE,
    MANIFEST,
    Manifest,
    PackSettings,
    ScorerSettings,
    digest_of,
    read_ignored,
    read_manifest,
)
from robis.packs.inspection import Inspection, regions_of
from robis.refinement.stage import final_mask
from robis.scoring.image_scores import image_score
from robis.tiles.ignored import contributing, tile_ignored
from robis.tiles.merge import merged_map, with_ignored
from robis.tiles.places import Place

# What can compute raw maps: the library, and ONNX Runtime.
RUNTIMES = ("torch", "onnx")
# Sides of an image may differ by this factor from those that the pack was made with.
SIDE_TOLERANCE = 2.0
# Bytes of maps after which MEBin's compiled code pays for its loading.
WORTH_COMPILING = 4_000_000


class Pack:
    """A frozen model. `inspect` may be called on several threads at the same time.

    Attributes:
        manifest: what the pack says of itself.
        digest: of the whole pack.
        scorer: the loaded detector; compute: how it computes.
        source: the folder, for messages.
        ignored: pixels that never count, see `robis.io.ignored.encode`; None: all count.
    """

    def __init__(
        self, manifest: Manifest, scorer: Scorer, compute: Compute, source: Path, *, ignored: bytes | None = None
    ) -> None:
        """Take a loaded scorer; `load_pack` is the usual way."""
        self.manifest, self.scorer, self.compute, self.source = manifest, scorer, compute, source
        self.ignored = ignored
        self.digest = digest_of(manifest)
        self._refine = manifest.settings.refine.build()
        self._turn = threading.Lock()
        self._map_bytes = 0

    def inspect(self, image: str | Path | np.ndarray, *, any_size: bool = False, name: str = "image") -> Inspection:
        """The map, mask and verdict of one image, equal to those of the workflow.

        Args:
            image: a file that `read_image` reads, or uint8 (H, W, 3) RGB or (H, W) gray.
            name: of an array, for messages.
            any_size: accept sides of less than half or more than twice those that the pack was made with.

        Raises:
            DataError: the image cannot be read, or has another type, shape or size than expected.
        """
        clock = _Clock()
        if isinstance(image, np.ndarray):
            pixels = _checked_array(image, name)
        else:
            pixels, name = read_image(image, bit_depth=self.bit_depth), str(image)
        if not any_size:
            self._check_sides(pixels, name)
        clock.step("read")
        settings, sides = self.manifest.settings, (pixels.shape[0], pixels.shape[1])
        pixels = filled(pixels, self._ignored_pixels(sides, name))
        windows = settings.crop.windows(*sides)
        tiles = np.stack([settings.crop.tile(pixels, window) for window in windows])
        clock.step("cut")
        with self._turn:
            of_tiles = [tile_ignored(self.ignored, window) for window in windows] if self.ignored else None
            raw = self.scorer.raw_maps(ImageTiles(tiles, name, of_tiles), self.compute, settings.scorer.size)
        clock.step("infer")
        places = None if raw.covers_image else [(w.x, w.y, w.width, w.height) for w in windows]
        if places and of_tiles:
            raw, places = _contributing(raw, places, of_tiles)
        merging = settings.merge.model_dump()
        merged = merged_map(list(raw.maps), places, sides, self.manifest.scaling, **merging)
        ignored = left_out_at(self.ignored, *merged.shape)
        anomaly_map = with_ignored(merged, ignored, name)
        clock.step("merge")
        score = self._score(raw, anomaly_map, ignored)
        limit = self.manifest.limit.value if self.manifest.limit else None
        clock.step("score")
        emptied = settings.empties_masks and limit is not None and score <= limit
        mask = self._mask(anomaly_map, pixels, name, emptied=emptied, ignored=ignored)
        regions = regions_of(mask, anomaly_map, sides)
        clock.step("mask")
        is_anomalous = bool(mask.any()) if limit is None else score > limit
        return Inspection(score, is_anomalous, limit, anomaly_map, mask, regions, *sides, clock.milliseconds)

    @property
    def bit_depth(self) -> int | None:
        """Of images of 16 bits, see `read_image`."""
        return self.manifest.settings.crop.bit_depth

    def _ignored_pixels(self, sides: tuple[int, int], name: str) -> np.ndarray | None:
        """The ignored pixels of an image of this height and width. Raises DataError for another size."""
        if self.ignored is None:
            return None
        ignored = decode(self.ignored)
        if ignored.shape != sides:
            raise DataError(
                f"{name}: {sides[1]} x {sides[0]} pixels; expected {ignored.shape[1]} x {ignored.shape[0]}, the size "
                f"of the pack's mask of ignored pixels ({IGNORE}). Inspect images as they come from the same camera."
            )
        return ignored

    def _score(self, raw: RawMaps, anomaly_map: np.ndarray, ignored: np.ndarray | None) -> float:
        fraction = self.manifest.settings.top_fraction
        if not isinstance(fraction, str):
            return image_score(anomaly_map, fraction, ignored)
        if raw.scores is None:
            raise DataError(
                f"{self.source}: settings.top_fraction is {fraction!r}, but {self.manifest.detector} gives no scores "
                f"of its own. Make the pack again with `snakemake packs`."
            )
        return float(raw.scores.max())

    def _mask(
        self, anomaly_map: np.ndarray, pixels: np.ndarray, name: str, *, emptied: bool, ignored: np.ndarray | None
    ) -> np.ndarray:
        self._map_bytes += anomaly_map.nbytes
        coarse = coarse_mask(
            valid_map(anomaly_map, name),
            self.manifest.calibration,
            self.manifest.settings.binarize,
            compiled=self._map_bytes > WORTH_COMPILING,
            ignored=ignored,
        )
        return final_mask(coarse.mask > 0, lambda: pixels, self._refine, emptied=emptied, ignored=ignored)

    def _check_sides(self, pixels: np.ndarray, name: str) -> None:
        sides = self.manifest.sides
        for what, side, (low, high) in zip(
            ("height", "width"), pixels.shape, (sides.height, sides.width), strict=False
        ):
            if not low / SIDE_TOLERANCE <= side <= high * SIDE_TOLERANCE:
                raise DataError(
                    f"{name}: {pixels.shape[1]} x {pixels.shape[0]} pixels; the {what} is far from the {low} to {high} "
                    f"pixels that the pack was made with. Inspect images as they come from the same camera, or allow "
                    f"it with --any-size (in Python any_size=True)."
                )


def load_pack(
    path: str | Path,
    *,
    device: str = "auto",
    threads: int | None = None,
    encoder_weights: str | Path | None = None,
    runtime: str = RUNTIMES[0],
    exported: str | Path | None = None,
) -> Pack:
    """Load a pack, which `snakemake packs` writes.

    Args:
        path: its folder.
        device: "auto", "cpu", "cuda", ...
        threads: that a CPU computes with; None: one per core.
        encoder_weights: file of the encoder's weights, where it lies elsewhere than for the run.
        runtime: "torch" (the library), or "onnx": ONNX Runtime computes the file of `robis export`, which has the
            encoder in it.
        exported: that file, where it lies elsewhere than in the folder.

    Raises:
        ConfigError: an unknown runtime or device, or packages that are not installed.
        DataError: no pack, a newer format, a missing key, or a file of another content or another pack.
        WeightsError: the encoder's weights are absent, or are not those of the pack.
    """
    if runtime not in RUNTIMES:
        raise ConfigError(f"runtime: {runtime!r} is unknown. {one_of(runtime, RUNTIMES)}")
    if exported and runtime != "onnx":
        raise ConfigError("--exported: has no effect without --runtime onnx.")
    if encoder_weights and runtime == "onnx":
        raise ConfigError("--encoder-weights: has no effect with --runtime onnx, whose file has the encoder in it.")
    folder = Path(path)
    manifest = read_manifest(folder)
    settings = manifest.settings
    compute = compute_of(settings.scorer, device, threads)
    if runtime == "onnx":
        file = Path(exported) if exported else folder / EXPORTED
        exported_scorer = load_exported(file, manifest, device, compute.threads)
        return Pack(manifest, exported_scorer, compute, folder, ignored=read_ignored(manifest, folder))
    _check_weights(folder, settings.scorer.encoder, encoder_weights)
    scorer = load_scorer(folder, manifest.detector, settings, _files(folder, manifest), device, encoder_weights)
    digest = encoder_digest(scorer.encoder)
    if digest != manifest.encoder_digest:
        name = settings.scorer.encoder.get("name")
        raise WeightsError(
            f"{folder / MANIFEST}: the encoder {name} has other weights here (digest {str(digest)[:12]}) than the pack "
            f"was made with ({str(manifest.encoder_digest)[:12]}). Give the file of those weights with "
            f"--encoder-weights, or make the pack again with `snakemake packs`."
        )
    return Pack(manifest, scorer, compute, folder, ignored=read_ignored(manifest, folder))


def load_scorer(
    source: Path,
    detector: str,
    settings: PackSettings,
    inputs: Mapping[str, Path],
    device: str = "auto",
    encoder_weights: str | Path | None = None,
) -> Scorer:
    """Load the detector of a pack. Raises DataError for an unknown one, and what `Detector.scorer` raises."""
    if detector not in DETECTORS:
        raise DataError(f"{source}: detector: {detector!r} is unknown. {one_of(detector, DETECTORS)}")
    frozen = settings.scorer
    encoder = dict(frozen.encoder)
    if encoder_weights is not None:
        encoder |= {"weights": str(encoder_weights), "sha256": None}
    compute = compute_of(frozen, device, None)
    return DETECTORS[detector].scorer(ScorerJob(inputs, encoder, frozen.options, compute, frozen.size))


def compute_of(settings: ScorerSettings, device: str, threads: int | None) -> Compute:
    """How a pack computes."""
    return Compute(settings.batch_size, settings.precision, device, threads or os.cpu_count() or 1)


def encoder_digest(encoder: nn.Module | None) -> str | None:
    """Digest of an encoder's weights as they compute: names, shapes, types and values; None without an encoder."""
    if encoder is None:
        return None
    digest = hashlib.sha256()
    for name, values in sorted(encoder.state_dict().items()):
        values = values.detach().cpu().contiguous()
        digest.update(f"{name} {tuple(values.shape)} {values.dtype}\0".encode())
        digest.update(memoryview(values.reshape(-1).view(torch.uint8).numpy()))
    return digest.hexdigest()


def _check_weights(folder: Path, encoder: Mapping[str, Any], given: str | Path | None) -> None:
    """Raise WeightsError where the file of the encoder's weights, the run's or the given one, is not there."""
    name, weights = str(encoder.get("name")), str(given or encoder.get("weights", "auto"))
    if weights in ("auto", "random") or (given is None and is_pretrained_tag(name, weights)):
        return
    if not copy_of(expanded(weights)).is_file():
        raise WeightsError(
            f"{folder}: the weights of its encoder {name} are not at {weights}. Give their file with --encoder-weights."
        )


def _files(folder: Path, manifest: Manifest) -> dict[str, Path]:
    return {name: folder / packed.file for name, packed in manifest.inputs.items()}


def _checked_array(image: np.ndarray, name: str) -> np.ndarray:
    """An array as `read_image` gives images: uint8 (H, W, 3) RGB."""
    gray, color = image.ndim == 2, image.ndim == 3 and image.shape[-1] == 3
    if image.dtype != np.uint8 or not (gray or color) or not image.size:
        raise DataError(
            f"{name}: found an array of {image.dtype} and shape {image.shape}; expected uint8 (H, W, 3) in RGB order "
            f"or (H, W) in gray."
        )
    return np.dstack([image] * 3) if gray else np.ascontiguousarray(image)


def _contributing(raw: RawMaps, places: list[Place], ignored: list[bytes | None]) -> tuple[RawMaps, list[Place]]:
    """The maps, scores and places of the tiles that make the image's map."""
    chosen = np.flatnonzero(contributing(tuple(places), tuple(ignored)))
    scores = None if raw.scores is None else raw.scores[chosen]
    return replace(raw, maps=raw.maps[chosen], scores=scores), [places[tile] for tile in chosen]


class _Clock:
    """Milliseconds of the steps so far."""

    def __init__(self) -> None:
        self.milliseconds: dict[str, float] = {}
        self._before = time.perf_counter()

    def step(self, name: str) -> None:
        now = time.perf_counter()
        self.milliseconds[name] = 1000 * (now - self._before)
        self._before = now
