"""COCO instances: one JSON file; run lengths are written with pycocotools.

https://cocodataset.org/#format-data
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
from pydantic import BaseModel

from robis.errors import DataError
from robis.labels.files import MASKS, POLYGONS, Drawing, Format, points_of, read_json, write_json
from robis.labels.images import KnownImages
from robis.labels.model import LabeledImage, Region, cut_out
from robis.labels.shapes import from_runs, mask_of, outline_of


class _Image(BaseModel):
    id: int
    file_name: str
    height: int
    width: int


class _RunLengths(BaseModel):
    size: tuple[int, int]
    counts: str | list[int]


class _Annotation(BaseModel):
    id: int
    image_id: int
    category_id: int
    segmentation: _RunLengths | list[list[float]] = []
    score: float | None = None


class _Category(BaseModel):
    id: int
    name: str


class _Instances(BaseModel):
    images: list[_Image]
    annotations: list[_Annotation]
    categories: list[_Category]


def _write(images: Iterator[LabeledImage], names: Sequence[str], target: Path, drawing: Drawing) -> None:
    ids = {name: number for number, name in enumerate(names, start=1)}
    listed: list[dict[str, Any]] = []
    annotations: list[dict[str, Any]] = []
    for image in images:
        file = drawing.image_prefix + image.file
        listed.append({"id": len(listed) + 1, "file_name": file, "height": image.height, "width": image.width})
        for region in image.regions:
            key = {"id": len(annotations) + 1, "image_id": len(listed), "category_id": ids[region.name]}
            annotations.append(key | _annotation(image, region, drawing))
    categories = [{"id": number, "name": name, "supercategory": ""} for name, number in ids.items()]
    write_json(target, {"images": listed, "annotations": annotations, "categories": categories})


def _annotation(image: LabeledImage, region: Region, drawing: Drawing) -> dict[str, Any]:
    height, width = region.mask.shape
    segmentation: Any
    if drawing.shapes == MASKS:
        segmentation = _run_lengths(image, region)
    else:
        points = outline_of(region, drawing.tolerance)
        segmentation = [points.ravel().tolist()]
    annotation = {
        "segmentation": segmentation,
        "area": int(region.mask.sum()),
        "bbox": [region.x, region.y, width, height],
        "iscrowd": 0,
    }
    return annotation if region.score is None else annotation | {"score": region.score}


def _run_lengths(image: LabeledImage, region: Region) -> dict[str, Any]:
    from pycocotools import mask as coco_mask

    whole = np.asfortranarray(replace(image, regions=(region,)).mask().view(np.uint8))
    encoded = coco_mask.encode(whole)
    return {"size": [image.height, image.width], "counts": encoded["counts"].decode("ascii")}


def _read(path: Path, images: KnownImages) -> Iterator[LabeledImage]:
    content = read_json(path, _Instances)
    _check_ids((image.id for image in content.images), f"{path}: `images`")
    _check_ids((category.id for category in content.categories), f"{path}: `categories`")
    names = {category.id: category.name for category in content.categories}
    of_image: dict[int, list[_Annotation]] = {image.id: [] for image in content.images}
    for annotation in content.annotations:
        where = f"{path}: annotation {annotation.id}"
        if annotation.image_id not in of_image:
            raise DataError(f"{where}: image_id {annotation.image_id} is in no entry of `images`.")
        if annotation.category_id not in names:
            raise DataError(f"{where}: category_id {annotation.category_id} is in no entry of `categories`.")
        of_image[annotation.image_id].append(annotation)
    for listed in content.images:
        image = images.find(listed.file_name, size=(listed.height, listed.width))
        if image is None:
            continue
        regions = [
            cut_out(names[annotation.category_id], _pixels(annotation, image, path), annotation.score)
            for annotation in of_image[listed.id]
        ]
        yield LabeledImage(image.file, image.height, image.width, tuple(filter(None, regions)))


def _check_ids(ids: Iterable[int], where: str) -> None:
    if twice := [str(number) for number, count in Counter(ids).items() if count > 1]:
        raise DataError(
            f"{where}: several entries have the id {', '.join(twice[:3])}. Expected each id once; give "
            f"files of several exports new ids before you join them."
        )


def _pixels(annotation: _Annotation, image: LabeledImage, path: Path) -> np.ndarray:
    where = f"{path}: annotation {annotation.id}"
    shapes = annotation.segmentation
    if not isinstance(shapes, _RunLengths):
        if not shapes:
            raise DataError(f"{where}: no segmentation; expected an outline or run lengths. Boxes alone are no masks.")
        parts = [mask_of([points_of(numbers, where)], image.height, image.width) for numbers in shapes]
        return np.logical_or.reduce(parts)
    if shapes.size != (image.height, image.width):
        raise DataError(f"{where}: run lengths of size {shapes.size}; expected {(image.height, image.width)}.")
    runs = shapes.counts if isinstance(shapes.counts, list) else _decompressed(shapes.counts, where)
    if sum(runs) != image.height * image.width or min(runs) < 0:
        raise DataError(
            f"{where}: run lengths of {sum(runs)} pixels, the shortest {min(runs, default=0)}; expected lengths of "
            f"0 or more, of {image.height * image.width} pixels in all. Export the labels again."
        )
    # Columns come first.
    return np.ascontiguousarray(from_runs(runs).reshape(image.width, image.height).T)


def _decompressed(text: str, where: str) -> list[int]:
    """The run lengths in a text of pycocotools (`rleFrString`): numbers, five bits per letter, lowest bits first.

    The sixth bit says that the number continues. From the fourth on, numbers are differences to the last but one.
    """
    runs: list[int] = []
    number = shift = 0
    for letter in text:
        bits = ord(letter) - 48
        if not 0 <= bits < 64:
            raise DataError(f"{where}: run lengths contain {letter!r}, which stands for no number. Export them again.")
        number |= (bits & 31) << shift
        shift += 5
        if not bits & 32:
            number -= (1 << shift) if bits & 16 else 0
            runs.append(number + (runs[-2] if len(runs) > 2 else 0))
            number = shift = 0
    if shift:
        raise DataError(f"{where}: run lengths end in the middle of a number. Export the labels again.")
    return runs


COCO = Format(_write, _read, (MASKS, POLYGONS), "labels.json", "COCO instances, one .json")
