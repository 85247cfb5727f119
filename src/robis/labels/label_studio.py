"""Label Studio: a JSON file of tasks, with polygons or brush strokes. Its JSON_MIN, without ids, is read too.

https://labelstud.io/guide/export#Label-Studio-JSON-format-of-annotated-tasks
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any
from urllib.parse import quote

from pydantic import BaseModel

from robis.errors import DataError
from robis.labels.brush import decoded_brush, encoded_brush
from robis.labels.files import MASKS, POLYGONS, Drawing, Format, load_json, points_of, validated, write_json
from robis.labels.images import KnownImages, image_name
from robis.labels.model import LabeledImage, Region, cut_out
from robis.labels.shapes import mask_of, outline_of

# The names in a labeling config such as docs/labels.md has.
IMAGE, TAG = "image", "label"
# Results that draw nothing.
REMARKS = ("choices", "datetime", "number", "pairwise", "ranker", "rating", "relation", "taxonomy", "textarea")
# Of an item of JSON_MIN that somebody has finished.
FINISHED = "annotation_id"


class _Value(BaseModel):
    points: list[tuple[float, float]] | None = None
    polygonlabels: list[str] | None = None
    rle: list[int] | None = None
    brushlabels: list[str] | None = None


class _Result(BaseModel):
    type: str
    value: _Value = _Value()
    original_width: int | None = None
    original_height: int | None = None
    image_rotation: float = 0


class _Labeling(BaseModel):
    result: list[_Result]
    was_cancelled: bool = False


class _Task(BaseModel):
    data: dict[str, Any]
    annotations: list[_Labeling] = []


def _write(images: Iterator[LabeledImage], names: Sequence[str], target: Path, drawing: Drawing) -> None:
    write_json(target, [_task(image, drawing) for image in images])


def _task(image: LabeledImage, drawing: Drawing) -> dict[str, Any]:
    results = [
        _result(image, region, drawing) | {"id": f"region{number}"} for number, region in enumerate(image.regions)
    ]
    # With something before it, it is an address.
    address = drawing.image_prefix + quote(image.file) if drawing.image_prefix else image.file
    task: dict[str, Any] = {"data": {IMAGE: address}}
    if image.score is None:
        return task | {"annotations": [{"result": results}]}
    return task | {"predictions": [{"model_version": "robis", "score": image.score, "result": results}]}


def _result(image: LabeledImage, region: Region, drawing: Drawing) -> dict[str, Any]:
    if drawing.shapes == POLYGONS:
        kind = "polygonlabels"
        points = outline_of(region, drawing.tolerance)
        value = {"points": (points * 100 / (image.width, image.height)).tolist(), "closed": True, kind: [region.name]}
    else:
        kind = "brushlabels"
        value = {"format": "rle", "rle": encoded_brush(replace(image, regions=(region,)).mask()), kind: [region.name]}
    score = {} if region.score is None else {"score": region.score}
    size = {"original_width": image.width, "original_height": image.height, "image_rotation": 0}
    return {"type": kind, "from_name": TAG, "to_name": IMAGE, "value": value, **size, **score}


def _read(path: Path, images: KnownImages) -> Iterator[LabeledImage]:
    for number, task in enumerate(_tasks(path)):
        where = f"{path}: task {number}"
        # A task that nobody has finished says nothing of its image, whatever was predicted.
        finished = [labeling for labeling in task.annotations if not labeling.was_cancelled]
        if not finished:
            continue
        if len(finished) > 1:
            raise DataError(f"{where}: {len(finished)} annotations; expected one. Keep the one that counts.")
        address = _address(task, where)
        results = [result for result in finished[0].result if result.type not in REMARKS]
        sizes = {(result.original_height, result.original_width) for result in results} - {(None, None)}
        size = next(iter(sizes)) if len(sizes) == 1 else None
        image = images.find(address, image_name(address), size=size)  # type: ignore[arg-type]
        if image is None:
            continue
        regions = [_region(result, image, f"{where}: result {place}") for place, result in enumerate(results)]
        yield LabeledImage(image.file, image.height, image.width, tuple(filter(None, regions)))


def _tasks(path: Path) -> list[_Task]:
    items = validated(load_json(path), list[dict[str, Any]], path)
    return validated([item if "data" in item else _whole(item) for item in items], list[_Task], path)


def _whole(item: dict[str, Any]) -> dict[str, Any]:
    """The task that an item of JSON_MIN stands for: its drawings are lists by the names of the labeling config."""
    drawings = [
        {**drawing, "value": drawing, "type": next((key for key in drawing if key.endswith("labels")), "")}
        for value in item.values()
        if isinstance(value, list)
        for drawing in value
        if isinstance(drawing, dict)
    ]
    data = {key: value for key, value in item.items() if isinstance(value, str)}
    return {"data": data, "annotations": [{"result": drawings}] if drawings or FINISHED in item else []}


def _address(task: _Task, where: str) -> str:
    addresses = [value for value in task.data.values() if isinstance(value, str)]
    if IMAGE in task.data or len(addresses) == 1:
        return str(task.data.get(IMAGE) or addresses[0])
    raise DataError(f"{where}: data has no {IMAGE!r}; found {', '.join(task.data) or 'nothing'}.")


def _region(result: _Result, image: LabeledImage, where: str) -> Region | None:
    value = result.value
    if result.image_rotation:
        raise DataError(f"{where}: the image was rotated by {result.image_rotation:g} degrees; expected 0.")
    if value.points is not None and value.polygonlabels:
        shares = points_of([number for point in value.points for number in point], where) / 100
        polygon = shares * (image.width, image.height)
        return cut_out(value.polygonlabels[0], mask_of([polygon], image.height, image.width))
    if value.rle is not None and value.brushlabels:
        return cut_out(value.brushlabels[0], decoded_brush(value.rle, image.height, image.width, where))
    raise DataError(f"{where}: of type {result.type}; expected polygonlabels or brushlabels. Draw it again as one.")


LABEL_STUDIO = Format(_write, _read, (MASKS, POLYGONS), "labels.json", "Label Studio, one .json of tasks")
