"""labelme: a JSON file per image, to lie beside the image.

https://github.com/wkentaro/labelme
"""

from __future__ import annotations

import base64
from collections.abc import Iterator, Sequence
from pathlib import Path, PurePosixPath
from typing import Any

import cv2
import numpy as np
from pydantic import BaseModel

from robis.errors import DataError
from robis.labels.files import (
    MASKS,
    POLYGONS,
    Drawing,
    Format,
    files_below,
    label_file,
    load_json,
    points_of,
    rounded,
    validated,
    write_json,
)
from robis.labels.images import KnownImages
from robis.labels.model import LabeledImage, Region, cut_out
from robis.labels.shapes import mask_of, outline_of

VERSION = "5.5.0"  # of the format: the first with masks was 5.2


class _Shape(BaseModel):
    label: str
    points: list[tuple[float, float]]
    shape_type: str = "polygon"
    mask: str | None = None


class _File(BaseModel):
    shapes: list[_Shape]
    imagePath: str  # noqa: N815 (labelme's key)
    imageHeight: int  # noqa: N815
    imageWidth: int  # noqa: N815


def _write(images: Iterator[LabeledImage], names: Sequence[str], target: Path, drawing: Drawing) -> None:
    for image in images:
        path = PurePosixPath(image.file)
        content: dict[str, Any] = {
            "version": VERSION,
            "flags": {},
            "shapes": [_shape(region, drawing) for region in image.regions],
            "imagePath": drawing.image_prefix + path.name,
            "imageData": None,
            "imageHeight": image.height,
            "imageWidth": image.width,
        }
        write_json(label_file(target, image.file, ".json"), content)


def _shape(region: Region, drawing: Drawing) -> dict[str, Any]:
    height, width = region.mask.shape
    shape: dict[str, Any] = {"label": region.name, "group_id": None, "description": _in_words(region), "flags": {}}
    if drawing.shapes == POLYGONS:
        points = outline_of(region, drawing.tolerance)
        return shape | {"shape_type": "polygon", "points": rounded(points), "mask": None}
    # labelme counts the last pixel in.
    corners = [[region.x, region.y], [region.x + width - 1, region.y + height - 1]]
    return shape | {"shape_type": "mask", "points": corners, "mask": _picture(region.mask)}


def _in_words(region: Region) -> str:
    return "" if region.score is None else f"score {region.score:.4g}"


def _picture(mask: np.ndarray) -> str:
    _, data = cv2.imencode(".png", mask.view(np.uint8) * np.uint8(255))
    return base64.b64encode(data.tobytes()).decode("ascii")


def _read(path: Path, images: KnownImages) -> Iterator[LabeledImage]:
    for file, values in _label_files(path):
        content = validated(values, _File, file)
        folder = "" if path.is_file() else file.parent.relative_to(path).as_posix()
        name = PurePosixPath(content.imagePath.replace("\\", "/")).name
        # Beside the image in the same tree, or wherever labelme was started.
        size = (content.imageHeight, content.imageWidth)
        image = images.find(str(PurePosixPath(folder, name)), content.imagePath, size=size)
        if image is None:
            continue
        regions = [
            cut_out(shape.label, _pixels(shape, image, f"{file}: shapes.{number}"))
            for number, shape in enumerate(content.shapes)
        ]
        yield LabeledImage(image.file, image.height, image.width, tuple(filter(None, regions)))


def _label_files(path: Path) -> list[tuple[Path, Any]]:
    """The file, or those of a folder that have shapes: other .json files may lie beside images, too."""
    files = [path] if path.is_file() else files_below(path, ".json")
    loaded = [(file, load_json(file)) for file in files]
    of_labelme = [(file, values) for file, values in loaded if isinstance(values, dict) and "shapes" in values]
    if path.is_dir() and not of_labelme:
        raise DataError(f"{path}: none of {len(files)} .json files has the key shapes. Expected files of labelme.")
    return of_labelme if path.is_dir() else loaded


def _pixels(shape: _Shape, image: LabeledImage, where: str) -> np.ndarray:
    if shape.shape_type == "polygon":
        points = points_of([value for point in shape.points for value in point], where)
        return mask_of([points], image.height, image.width)
    if shape.shape_type != "mask" or shape.mask is None or not shape.points:
        raise DataError(f"{where}: a {shape.shape_type}; expected a polygon or a mask. Draw it again as one of them.")
    try:
        data = np.frombuffer(base64.b64decode(shape.mask, validate=True), np.uint8)
        picture = cv2.imdecode(data, cv2.IMREAD_UNCHANGED) if data.size else None
    except (ValueError, cv2.error):
        picture = None
    if picture is None or picture.ndim != 2:
        raise DataError(f"{where}: its mask is not a readable PNG of one channel.")
    if not np.isfinite(shape.points[0]).all():
        raise DataError(f"{where}: its mask lies at {shape.points[0]}; expected numbers of pixels.")
    x, y = (int(value) for value in shape.points[0])
    whole = np.zeros((image.height, image.width), bool)
    window = whole[max(y, 0) : y + picture.shape[0], max(x, 0) : x + picture.shape[1]]
    window[:] = picture[max(-y, 0) :, max(-x, 0) :][: window.shape[0], : window.shape[1]] > 0
    return whole


LABELME = Format(_write, _read, (POLYGONS, MASKS), "labelme", "labelme, a .json per image, to lie beside it")
