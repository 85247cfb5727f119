"""The stage: freeze a run of one category as a pack, and compare the pack with the workflow's masks."""

from __future__ import annotations

import logging
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path

import numpy as np

from robis import __version__
from robis.binarization.stage import Calibration, SplitMaps
from robis.detectors.scorers import Scorer
from robis.errors import DataError
from robis.evaluation.agreement import Check
from robis.evaluation.metrics import METRICS
from robis.io.atomic import atomic_folder
from robis.io.maps import read_map, read_written_mask
from robis.io.names import expanded
from robis.io.progress import tracked
from robis.io.samples import IndexedSample, read_samples
from robis.io.tables import read_table
from robis.io.weights import sha256
from robis.packs.format import (
    FORMAT,
    Manifest,
    PackSettings,
    Sides,
    pack_file,
    pack_ignored,
    read_manifest,
    write_manifest,
)
from robis.packs.pack import Pack, compute_of, encoder_digest, load_scorer
from robis.refinement.methods import default_checkpoint
from robis.scoring.limits import Limit
from robis.tiles.merge import scaling_of

logger = logging.getLogger(__name__)

# Libraries that decode images, resize them and compute: another version may give other bytes.
COMPUTING = ("numpy", "open_clip_torch", "opencv-python-headless", "pillow", "timm", "torch")


@dataclass(frozen=True)
class RunFiles:
    """The files of a run that a pack is made of.

    Attributes:
        inputs: the detector's files by name, such as "model".
        range_maps: raw maps whose range became 0..255; None: none did.
        reference: the maps that thresholds were taken from.
        split: the sample table and maps of the split that the pack is compared on.
        masks, scores: of that split.
        verdicts, metrics: of that split; None where there are none.
        range_table: the tile table of `range_maps`, see `scaling_of`.
    """

    inputs: Mapping[str, Path]
    range_maps: Path | None
    reference: SplitMaps
    split: SplitMaps
    masks: Path
    scores: Path
    verdicts: Path | None
    metrics: Path | None
    range_table: Path | None = None


@dataclass(frozen=True)
class PackedRun:
    """What a pack is of; see `Manifest`."""

    dataset: str
    run: str
    category: str
    detector: str
    split: str


def write_pack(
    folder: Path,
    files: RunFiles,
    run: PackedRun,
    settings: PackSettings,
    *,
    root: Path,
    checked_images: int,
    threads: int = 1,
) -> None:
    """Write the pack of a run: see `robis.packs.format`.

    Args:
        folder: what is written.
        files: of the run.
        run: what it is of.
        settings: those of the run that matter when an image is inspected.
        root: folder that the sample table's paths are relative to.
        checked_images: inspect as many images of the split, evenly spread, and compare them with the workflow's.
        threads: of the computation.

    Raises:
        DataError: a file is damaged, or the reference maps give no range or threshold.
        WeightsError: see `Detector.scorer`.
    """
    settings = settings.model_copy(update={"refine": _with_digest(settings)})
    samples = read_samples(files.split.samples)
    with atomic_folder(folder) as partial:
        inputs = {name: pack_file(path, partial, name) for name, path in files.inputs.items()}
        scorer = load_scorer(partial, run.detector, settings, {name: partial / inputs[name].file for name in inputs})
        settings = _with_geometry(settings, scorer)
        manifest = Manifest(
            format=FORMAT,
            robis=__version__,
            **vars(run),
            encoder_digest=encoder_digest(scorer.encoder),
            settings=settings,
            scaling=scaling_of(files.range_maps, files.range_table),
            calibration=Calibration.of_maps(files.reference, settings.binarize, threads),
            limit=_limit(files.verdicts),
            sides=_sides(samples),
            inputs=inputs,
            metrics=_metrics(files.metrics),
            check=None,
            libraries={name: _version(name) for name in COMPUTING},
            # The plan has made sure that one mask serves all images.
            ignore=pack_ignored(samples[0].ignored, partial),
        )
        # As it will be read: the numbers of the file are what is compared.
        write_manifest(partial, manifest)
        compute = compute_of(settings.scorer, "auto", threads)
        pack = Pack(read_manifest(partial), scorer, compute, folder, ignored=samples[0].ignored)
        check = compared(pack, files, root, _spread(samples, checked_images))
        write_manifest(partial, manifest.model_copy(update={"check": check}))
    level = logging.INFO if check.equal_masks == check.images else logging.WARNING
    logger.log(level, "%s", check.in_words(run.split))


def compared(pack: Pack, files: RunFiles, root: Path, samples: Sequence[IndexedSample]) -> Check:
    """Inspect images of the workflow's split and compare masks, maps and scores with the workflow's."""
    scores = read_table(files.scores, stage="score_images", columns={"sample_id": "text", "score": "numbers"})
    score_of = dict(zip(scores["sample_id"], scores["score"], strict=True))
    masks = maps = equal_scores = pixels = 0
    difference = 0.0
    for sample in tracked(samples, len(samples), "images"):
        result = pack.inspect(root / sample.image)
        expected = read_written_mask(files.masks / f"{sample.sample_id}.png", stage="refine")
        anomaly_map = read_map(files.split.maps / f"{sample.sample_id}.tiff")
        differing = int(np.count_nonzero(result.mask != expected))
        pixels += differing
        masks += not differing
        maps += result.map.tobytes() == anomaly_map.tobytes()
        score = score_of[sample.sample_id]
        equal_scores += result.score == score
        difference = max(difference, abs(result.score - float(score)))
    return Check(
        images=len(samples),
        equal_masks=masks,
        equal_maps=maps,
        equal_scores=equal_scores,
        differing_pixels=pixels,
        score_difference=difference,
    )


def _with_geometry(settings: PackSettings, scorer: Scorer) -> PackSettings:
    """The settings with what was measured of the encoder, so that it loads fast and computes alike elsewhere."""
    geometry = getattr(scorer.encoder, "geometry", None)
    if geometry is None:
        return settings
    encoder = {**settings.scorer.encoder, "geometry": geometry}
    return settings.model_copy(update={"scorer": settings.scorer.model_copy(update={"encoder": encoder})})


def _with_digest(settings: PackSettings) -> object:
    """How masks are refined, with the digest of the weights that do it."""
    refine = settings.refine
    if refine.method != "sam":
        return refine
    checkpoint = expanded(refine.checkpoint or default_checkpoint(refine.model))
    return replace(refine, sha256=sha256(checkpoint))


def _limit(verdicts: Path | None) -> Limit | None:
    if verdicts is None:
        return None
    columns = {"limit": "numbers", "held_out": "integers", "held_out_above": "integers"}
    table = read_table(verdicts, stage="judge", columns=columns)
    if table.empty:
        return None
    first = table.iloc[0]
    return Limit(float(first["limit"]), int(first["held_out"]), int(first["held_out_above"]))


def _metrics(table: Path | None) -> dict[str, float | None] | None:
    if table is None:
        return None
    row = read_table(table, stage="evaluate").iloc[0]
    values = {name: float(row[name]) for name in METRICS if name in row and row[name] is not None}
    return {name: value if np.isfinite(value) else None for name, value in values.items()}


def _sides(samples: Sequence[IndexedSample]) -> Sides:
    if not samples:
        raise DataError("The split has no images; expected at least one, whose size the pack records.")
    heights, widths = [sample.height for sample in samples], [sample.width for sample in samples]
    return Sides(height=(min(heights), max(heights)), width=(min(widths), max(widths)))


def _spread(samples: Sequence[IndexedSample], count: int) -> list[IndexedSample]:
    """So many of the samples, evenly spread over their order."""
    if count >= len(samples):
        return list(samples)
    return [samples[number] for number in np.linspace(0, len(samples) - 1, count).round().astype(int).tolist()]


def _version(library: str) -> str:
    try:
        return version(library)
    except PackageNotFoundError:
        return "unknown"
