"""CVAT for images 1.1: one XML file.

https://docs.cvat.ai/docs/manual/advanced/formats/format-cvat/
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from pathlib import Path
from xml.etree import ElementTree

import numpy as np

from robis.errors import DataError
from robis.labels.files import MASKS, POLYGONS, Drawing, Format, points_of, read_text, rounded
from robis.labels.images import KnownImages
from robis.labels.model import LabeledImage, Region, cut_out
from robis.labels.shapes import from_runs, mask_of, outline_of, runs_of

SCORE = "score"


def _write(images: Iterator[LabeledImage], names: Sequence[str], target: Path, drawing: Drawing) -> None:
    root = ElementTree.Element("annotations")
    _add(root, "version").text = "1.1"
    labels = _add(_add(_add(root, "meta"), "task"), "labels")
    for name in names:
        label = _add(labels, "label")
        _add(label, "name").text = name
        attribute = _add(_add(label, "attributes"), "attribute")
        values = {"name": SCORE, "mutable": "False", "input_type": "text", "default_value": "", "values": ""}
        for key, value in values.items():
            _add(attribute, key).text = value
    for number, image in enumerate(images):
        size = {"width": str(image.width), "height": str(image.height)}
        listed = _add(root, "image", id=str(number), name=drawing.image_prefix + image.file, **size)
        for region in image.regions:
            _add_region(listed, region, drawing)
    ElementTree.indent(root)
    target.parent.mkdir(parents=True, exist_ok=True)
    ElementTree.ElementTree(root).write(target, encoding="utf-8", xml_declaration=True)


def _add(parent: ElementTree.Element, tag: str, **attributes: str) -> ElementTree.Element:
    return ElementTree.SubElement(parent, tag, attributes)


def _add_region(image: ElementTree.Element, region: Region, drawing: Drawing) -> None:
    common = {"label": region.name, "source": "auto", "occluded": "0", "z_order": "0"}
    if drawing.shapes == POLYGONS:
        points = rounded(outline_of(region, drawing.tolerance))
        shape = _add(image, "polygon", points=";".join(f"{x},{y}" for x, y in points), **common)
    else:
        height, width = region.mask.shape
        runs = ", ".join(str(length) for length in runs_of(region.mask.ravel()).tolist())
        place = {"left": str(region.x), "top": str(region.y), "width": str(width), "height": str(height)}
        shape = _add(image, "mask", rle=runs, **place, **common)
    if region.score is not None:
        _add(shape, "attribute", name=SCORE).text = f"{region.score:.6g}"


def _read(path: Path, images: KnownImages) -> Iterator[LabeledImage]:
    try:
        root = ElementTree.fromstring(read_text(path))
    except (ElementTree.ParseError, ValueError) as error:
        raise DataError(f"{path}: cannot be read as XML ({error}). Export the labels again.") from error
    if root.tag != "annotations" or root.find("track") is not None:
        raise DataError(f"{path}: not an export of images. Choose the format `CVAT for images 1.1`.")
    for listed in root.iter("image"):
        where = f"{path}: image {listed.get('name')!r}"
        try:
            name, size = listed.attrib["name"], (int(listed.attrib["height"]), int(listed.attrib["width"]))
        except (KeyError, ValueError) as error:
            raise DataError(f"{where}: expected the attributes name, height and width ({error}).") from error
        image = images.find(name, size=size)
        if image is None:
            continue
        regions = [_region(shape, image, where) for shape in listed if shape.tag not in ("tag", "attribute")]
        yield LabeledImage(image.file, image.height, image.width, tuple(filter(None, regions)))


def _region(shape: ElementTree.Element, image: LabeledImage, where: str) -> Region | None:
    name = shape.get("label", "")
    try:
        if shape.tag == "polygon":
            numbers = [float(value) for value in shape.attrib["points"].replace(";", ",").split(",")]
            return cut_out(name, mask_of([points_of(numbers, where)], image.height, image.width))
        if shape.tag == "mask":
            return cut_out(name, _painted(shape, image, where))
    except (KeyError, ValueError) as error:
        raise DataError(f"{where}: a {shape.tag} of {name!r} cannot be read ({error}).") from error
    raise DataError(f"{where}: a {shape.tag} of {name!r}; expected polygons and masks. Draw it again as one of them.")


def _painted(shape: ElementTree.Element, image: LabeledImage, where: str) -> np.ndarray:
    left, top, width, height = (int(shape.attrib[key]) for key in ("left", "top", "width", "height"))
    runs = [int(length) for length in shape.attrib["rle"].split(",")]
    inside = 0 <= left <= left + width <= image.width and 0 <= top <= top + height <= image.height
    if not inside or min(runs) < 0 or sum(runs) != width * height:
        raise DataError(
            f"{where}: a mask of {sum(runs)} pixels for {width} x {height} at {left}, {top}; expected as many, in the "
            f"image's {image.width} x {image.height}."
        )
    whole = np.zeros((image.height, image.width), bool)
    whole[top : top + height, left : left + width] = from_runs(runs).reshape(height, width)
    return whole


CVAT = Format(_write, _read, (MASKS, POLYGONS), "labels.xml", "CVAT for images 1.1, one .xml")
