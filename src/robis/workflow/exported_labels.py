"""Masks of a run, or ground truth, as files of annotation tools."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

import cv2
import numpy as np
from scipy.ndimage import find_objects

from robis.datasets.samples import NORMAL
from robis.errors import DataError, one_of
from robis.evaluation.counts import resize_mask
from robis.io.atomic import atomic_file, atomic_folder
from robis.io.damage import damaged
from robis.io.images import read_mask
from robis.io.maps import read_map, read_written_mask
from robis.io.samples import IndexedSample, read_samples
from robis.io.tables import read_table
from robis.labels.files import POLYGONS, Drawing
from robis.labels.formats import FORMATS
from robis.labels.model import LabeledImage, Region, connected
from robis.workflow import results

# The class of regions that a run found, and of ground truth whose defect has no name.
DEFECT = "defect"
TABLE = "samples.csv"
COLUMNS = ("category", "split", "image", "label", "mask", "defect", "sample_id")


@dataclass(frozen=True)
class Choice:
    """Which results become labels.

    Attributes:
        ground_truth: whether the ground truth is meant instead of a run's final masks.
        run: name of the run; None for the only one.
        category, split: None for all.
        root: folder of the data set, which ground truth is read from.
    """

    ground_truth: bool = False
    run: str | None = None
    category: str | None = None
    split: str | None = None
    root: Path | None = None


@dataclass(frozen=True)
class Part:
    """A category and split of a results folder, and the run whose masks are meant; None for ground truth."""

    folder: Path
    run: str | None
    category: str
    split: str

    def place(self, pattern: str) -> Path:
        """A path of this part."""
        return results.place(pattern, self.folder, detector=self.run or "", category=self.category, split=self.split)


@dataclass(frozen=True)
class Exported:
    """What was written: the file or folder, and the numbers of images, of images with regions, and of regions."""

    target: Path
    images: int
    marked: int
    regions: int


def export_labels(folder: Path, kind: str, target: Path | None, choice: Choice, drawing: Drawing) -> Exported:
    """Write final masks or ground truth in a label format; each 8-connected region is one label.

    Masks are brought to the images' size as for the metrics (nearest). The class is `defect`, or the ground truth's
    name of the defect. A region's score is the highest value of the anomaly map in it.

    Args:
        folder: results/NAME.
        kind: one of FORMATS.
        target: file or folder to write; None for one in the current folder, named after the format.
        choice: which results.
        drawing: how regions are drawn.

    Raises:
        DataError: the target exists, there is nothing of what is chosen, or several runs to choose from.
    """
    form = FORMATS[kind]
    target = target or Path(form.target)
    if target.exists():
        raise DataError(f"{target}: exists already. Give another place with --out.")
    if drawing.shapes not in form.shapes:
        raise DataError(f"--shapes: {kind} has no {drawing.shapes}; it has {' and '.join(form.shapes)}.")
    if drawing.tolerance and drawing.shapes != POLYGONS:
        raise DataError("--tolerance: only polygons have one. Add --shapes polygons.")
    parts = _parts(folder, choice)
    names = _class_names(parts) if choice.ground_truth else [DEFECT]
    counts = Counter({"images": 0, "marked": 0, "regions": 0})
    images = _counted(_images(parts, choice), counts)
    placed = atomic_file if Path(form.target).suffix else atomic_folder
    with placed(target) as partial:
        form.write(images, names, partial, drawing)
    return Exported(target, **counts)


def _parts(folder: Path, choice: Choice) -> list[Part]:
    run = None if choice.ground_truth else _run(folder, choice.run)
    files = results.places(results.SAMPLES if run is None else results.IMAGE_SCORES, folder)
    inspected = [Part(folder, run, file.parent.name, file.stem) for file in files if run in (None, _run_of(file))]
    parts = [
        part
        for part in inspected
        if choice.category in (None, part.category)
        and choice.split in (None, part.split)
        and (run is not None or _has_masks(part))
    ]
    if parts:
        return parts
    for option, wanted, known in (
        ("--category", choice.category, {part.category for part in inspected}),
        ("--split", choice.split, {part.split for part in inspected}),
    ):
        if wanted is not None and wanted not in known:
            raise DataError(f"{option}: {folder} has no {wanted!r}. {one_of(wanted, sorted(known))}")
    what = "ground-truth masks" if run is None else "final masks"
    raise DataError(f"{folder}: no {what} there. Expected a results folder, results/NAME, of a finished run.")


def _run_of(file: Path) -> str:
    return file.parts[-4]


def _run(folder: Path, wanted: str | None) -> str:
    runs = sorted({_run_of(file) for file in results.places(results.IMAGE_SCORES, folder)})
    if not runs:
        raise DataError(f"{folder}: no final masks there. Expected a results folder, results/NAME, of a finished run.")
    if wanted in runs:
        return wanted
    if wanted is None and len(runs) == 1:
        return runs[0]
    asked = f"{folder} has no run {wanted!r}" if wanted else f"{folder} has {len(runs)} runs; choose one"
    raise DataError(f"--run: {asked}. {one_of(wanted or '', runs)}")


def _has_masks(part: Part) -> bool:
    return any(sample.mask for sample in read_samples(part.place(results.SAMPLES)))


def _class_names(parts: Sequence[Part]) -> list[str]:
    samples = (sample for part in parts for sample in read_samples(part.place(results.SAMPLES)))
    return sorted({sample.defect or DEFECT for sample in samples if sample.mask})


def _images(parts: Sequence[Part], choice: Choice) -> Iterator[LabeledImage]:
    for part in parts:
        samples = read_samples(part.place(results.SAMPLES))
        if part.run is None:
            yield from (image for sample in samples if (image := _labeled(sample, choice.root)))
        else:
            yield from _found(part, samples)


def _labeled(sample: IndexedSample, root: Path | None) -> LabeledImage | None:
    """The ground truth of an image; None where it is not known."""
    if root is None:
        raise DataError("--root: ground truth is read from the data set. Give its folder, dataset.root.")
    if sample.mask is None and sample.label != NORMAL:
        return None
    if sample.mask and not (root / sample.mask).exists():
        raise DataError(f"--root: {root} has no {sample.mask}. Expected the folder of the data set, dataset.root.")
    regions = connected(sample.defect or DEFECT, read_mask(root / sample.mask)) if sample.mask else ()
    return LabeledImage(sample.image, sample.height, sample.width, tuple(regions))


def _found(part: Part, samples: Sequence[IndexedSample]) -> Iterator[LabeledImage]:
    file = part.place(results.IMAGE_SCORES)
    table = read_table(file, stage="score_images", columns={"sample_id": "text", "rescored": "numbers"})
    scores = dict(zip(table["sample_id"], table["rescored"], strict=True))
    if without := [sample.sample_id for sample in samples if sample.sample_id not in scores]:
        raise damaged(file, f"it lacks {without[0]}, which is in the sample table", "score_images")
    masks, maps = part.place(results.MASKS), part.place(results.ANOMALY_MAPS)
    for sample in samples:
        mask = read_written_mask(masks / f"{sample.sample_id}.png", stage="refine")
        regions: tuple[Region, ...] = ()
        if mask.any():
            anomaly_map = read_map(maps / f"{sample.sample_id}.tiff")
            regions = tuple(_scored(mask, anomaly_map, sample))
        yield LabeledImage(sample.image, sample.height, sample.width, regions, float(scores[sample.sample_id]))


def _scored(mask: np.ndarray, anomaly_map: np.ndarray, sample: IndexedSample) -> Iterator[Region]:
    """The regions of a final mask at the image's size, with their peaks."""
    count, labels = cv2.connectedComponents(mask.view(np.uint8), connectivity=8)
    enlarged = resize_mask(labels, sample.height, sample.width)
    places = [find_objects(of, max_label=count - 1) for of in (labels, enlarged)]
    for label, (small, large) in enumerate(zip(*places, strict=True), start=1):
        peak = float(anomaly_map[small][labels[small] == label].max())
        rows, columns = large
        yield Region(DEFECT, columns.start, rows.start, enlarged[large] == label, peak)


def _counted(images: Iterator[LabeledImage], counts: Counter[str]) -> Iterator[LabeledImage]:
    for image in images:
        counts += Counter(images=1, marked=bool(image.regions), regions=len(image.regions))
        yield image
