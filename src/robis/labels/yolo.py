"""YOLO segmentation: a text file per image with one polygon a line, and data.yaml with the names of the classes.

Without data.yaml the names are the lines of classes.txt, as some tools write them.

https://docs.ultralytics.com/datasets/segment/
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from pathlib import Path

import numpy as np
import yaml

from robis.errors import DataError
from robis.labels.files import POLYGONS, Drawing, Format, files_below, label_file, points_of, read_text
from robis.labels.images import KnownImages
from robis.labels.model import LabeledImage, cut_out
from robis.labels.shapes import mask_of, outline_of

NAMES, LINES = "data.yaml", "classes.txt"
LABELS = "labels"


def _write(images: Iterator[LabeledImage], names: Sequence[str], target: Path, drawing: Drawing) -> None:
    ids = {name: number for number, name in enumerate(names)}
    for image in images:
        file = label_file(target / LABELS, drawing.image_prefix + image.file, ".txt")
        lines = []
        for region in image.regions:
            points = outline_of(region, drawing.tolerance)
            shares = (points / (image.width, image.height)).ravel().tolist()
            lines.append(" ".join([str(ids[region.name]), *(f"{share:.9g}" for share in shares)]))
        file.write_text("".join(f"{line}\n" for line in lines), encoding="utf-8")
    names_of = {number: name for name, number in ids.items()}
    settings = {"path": ".", "train": "images", "val": "images", "names": names_of}
    target.mkdir(parents=True, exist_ok=True)
    (target / NAMES).write_text(yaml.safe_dump(settings, allow_unicode=True, sort_keys=False), encoding="utf-8")


def _read(path: Path, images: KnownImages) -> Iterator[LabeledImage]:
    names = _names(path)
    for file, name in _label_files(path):
        image = images.find(name)
        if image is None:
            continue
        regions = []
        for number, line in enumerate(read_text(file).splitlines(), start=1):
            if line.strip():
                name, points = _polygon(line.split(), names, f"{file}, line {number}")
                whole = mask_of([points * (image.width, image.height)], image.height, image.width)
                regions.append(cut_out(name, whole))
        yield LabeledImage(image.file, image.height, image.width, tuple(filter(None, regions)))


def _label_files(path: Path) -> list[tuple[Path, str]]:
    """The label files of a folder with what they call their images; beside folders `labels` there may be other text."""
    below = [file for file in files_below(path, ".txt") if file != path / LINES]
    files = [(file, file.relative_to(path).with_suffix("").parts) for file in below]
    in_labels = [(file, parts[parts.index(LABELS) + 1 :]) for file, parts in files if LABELS in parts]
    return [(file, "/".join(parts)) for file, parts in in_labels or files]


def _names(folder: Path) -> dict[int, str]:
    path = folder / NAMES
    if not path.is_file() and (folder / LINES).is_file():
        return dict(enumerate(name.strip() for name in read_text(folder / LINES).splitlines()))
    if not path.is_file():
        raise DataError(
            f"{folder}: {'no' if folder.is_dir() else 'not a folder with'} {NAMES} or {LINES}. Expected the folder of "
            f"an export, where one of these files names the classes."
        )
    try:
        names = yaml.safe_load(read_text(path))["names"]
        pairs = enumerate(names) if isinstance(names, list) else [(key, names[key]) for key in names]
        return {int(key): str(name) for key, name in pairs}
    except (yaml.YAMLError, KeyError, TypeError, ValueError) as error:
        raise DataError(f"{path}: no names of classes ({error}). Expected `names:` with a list or numbers.") from error


def _polygon(words: Sequence[str], names: dict[int, str], where: str) -> tuple[str, np.ndarray]:
    try:
        number, shares = int(words[0]), [float(word) for word in words[1:]]
    except ValueError as error:
        raise DataError(f"{where}: {error}. Expected the number of a class, then x and y from 0 to 1.") from error
    if number not in names:
        raise DataError(f"{where}: class {number} has no name in {NAMES} or {LINES}.")
    if len(shares) == 4:
        raise DataError(f"{where}: a box, which is no mask. Expected polygons (YOLO segmentation).")
    # A prediction ends with its confidence.
    points = points_of(shares[: len(shares) - len(shares) % 2], where)
    if not (np.isfinite(points).all() and points.min() >= -1e-6 and points.max() <= 1 + 1e-6):
        raise DataError(f"{where}: coordinates from {points.min():g} to {points.max():g}; expected 0 to 1.")
    return names[number], points


YOLO = Format(_write, _read, (POLYGONS,), "yolo", "YOLO segmentation, a folder with labels/ and data.yaml")
