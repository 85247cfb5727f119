"""Label files of annotation tools: written, read by other readers, and read back as ground truth."""

from __future__ import annotations

import base64
import contextlib
import io
import json
import re
import shutil
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path, PurePosixPath
from xml.etree import ElementTree

import cv2
import numpy as np
import pandas as pd
import pytest
from PIL import Image
from pycocotools.coco import COCO

from robis.cli import main
from robis.datasets.layouts import list_samples
from robis.datasets.samples import Source
from robis.errors import DataError
from robis.io.images import read_mask
from robis.labels.brush import decoded_brush, encoded_brush
from robis.labels.files import MASKS, POLYGONS, Drawing
from robis.labels.formats import FORMATS
from robis.labels.images import KnownImages, image_name
from robis.labels.model import LabeledImage, connected
from robis.labels.shapes import from_runs, mask_of, polygon_of, runs_of
from robis.workflow import label_commands
from tests.made_results import Made, write_data, write_run
from tests.unit.trees import write_image, write_mask

CASES = [(kind, shapes) for kind, form in FORMATS.items() for shapes in form.shapes]
SIZES = {"nut/test/a b.png": (40, 64), "nut/test/ü/deep.jpg": (37, 23), "nut/test/good.png": (5, 9)}


FULL = {PurePosixPath(file).name: file for file in SIZES}


def ring() -> np.ndarray:
    """A square with a hole of two pixels, and a pixel that touches it at a corner."""
    mask = np.zeros((5, 6), bool)
    mask[:4, :4] = True
    mask[1, 1:3] = False
    mask[4, 4] = True
    return mask


def hard_masks() -> Iterator[np.ndarray]:
    """Noise of all densities: holes in holes, single pixels, lines, regions at the border."""
    rng = np.random.default_rng(0)
    yield ring()
    yield np.ones((3, 4), bool)
    # More holes than are near each of them.
    yield np.pad(np.kron(rng.random((12, 90)) < 0.4, np.array([[0, 1], [1, 1]], bool)), 2, constant_values=True)
    for share in (0.1, 0.4, 0.6, 0.9):
        yield rng.random((21, 34)) < share
        yield np.kron(rng.random((7, 9)) < share, np.ones((3, 4), bool))


def labeled(score: float | None = None) -> list[LabeledImage]:
    """Images with two classes, many regions with holes, and none."""
    rng = np.random.default_rng(1)
    images = []
    for file, (height, width) in SIZES.items():
        regions = []
        if "good" not in file:
            mask = np.kron(rng.random((height // 4 + 1, width // 4 + 1)) < 0.5, np.ones((4, 4), bool))
            for number, region in enumerate(connected("crack", mask[:height, :width])):
                name = "scratch, long" if number % 2 else "crack"
                regions.append(type(region)(name, region.x, region.y, region.mask, 0.25 + number))
        images.append(LabeledImage(file, height, width, tuple(regions), score))
    return images


def known() -> KnownImages:
    return KnownImages(SIZES, SIZES.__getitem__)


def written(kind: str, shapes: str, folder: Path, images: Sequence[LabeledImage] | None = None, **drawing) -> Path:
    target = folder / FORMATS[kind].target
    FORMATS[kind].write(iter(images or labeled()), ["crack", "scratch, long"], target, Drawing(shapes, **drawing))
    return target


def test_a_polygon_runs_along_the_edges_of_pixels() -> None:
    """Worked by hand: around the square, over to its hole and back, and out to the pixel at its corner."""
    points = polygon_of(ring())
    outer = {(0, 0), (4, 0), (4, 4), (5, 4), (5, 5), (4, 5), (0, 4)}
    assert {tuple(point) for point in points.tolist()} == outer | {(1, 1), (3, 1), (3, 2), (1, 2)}
    x, y = points.T
    area = abs(np.dot(x, np.roll(y, -1)) - np.dot(y, np.roll(x, -1))) / 2
    assert area == 15, "16 pixels less 2, and 1"
    np.testing.assert_array_equal(polygon_of(np.ones((1, 1), bool)), [[0, 0], [0, 1], [1, 1], [1, 0]])


def test_polygons_give_their_masks_back() -> None:
    for mask in hard_masks():
        for region in connected("crack", mask):
            points = polygon_of(region.mask)
            np.testing.assert_array_equal(mask_of([points], *region.mask.shape), region.mask)
            # Any small shift of a drawing tool leaves the centers of pixels where they are.
            np.testing.assert_array_equal(mask_of([points + 0.3], *region.mask.shape), region.mask)


def test_a_pixel_is_inside_if_its_center_is() -> None:
    """A triangle, half of it outside the image; rows have their centers at 0.5, 1.5, ..."""
    triangle = np.array([[-4.0, 0.0], [4.0, 0.0], [0.0, 4.0]])
    expected = np.array([[1, 1, 1, 0, 0], [1, 1, 0, 0, 0], [1, 0, 0, 0, 0]], bool)
    # On row r the side lies at x = 4 - (r + 0.5), so that the centers 0.5, 1.5, ... below 3.5 - r are inside.
    np.testing.assert_array_equal(mask_of([triangle], 3, 5), expected)
    square = np.array([[0.0, 0.0], [5.0, 0.0], [5.0, 3.0], [0.0, 3.0]])
    np.testing.assert_array_equal(mask_of([triangle, square], 3, 5), ~expected)


def test_simplified_polygons_stay_within_their_tolerance() -> None:
    disk = np.zeros((80, 80), np.uint8)
    cv2.circle(disk, (40, 40), 30, 1, -1)
    exact, simple = polygon_of(disk.astype(bool)), polygon_of(disk.astype(bool), tolerance=1.5)
    assert len(simple) < len(exact) / 4
    differs = mask_of([simple], 80, 80) != disk.astype(bool)
    border = cv2.dilate(disk, np.ones((5, 5))) != cv2.erode(disk, np.ones((5, 5)))
    assert not (differs & ~border).any()


def test_runs_start_with_what_is_not_marked() -> None:
    for bits, runs in (("0011101", [2, 3, 1, 1]), ("110", [0, 2, 1]), ("000", [3]), ("1", [0, 1])):
        values = np.array([bit == "1" for bit in bits])
        assert runs_of(values).tolist() == runs
        np.testing.assert_array_equal(from_runs(runs), values)


@pytest.mark.parametrize(("kind", "shapes"), CASES)
def test_every_format_gives_the_same_labels_back(kind: str, shapes: str, tmp_path: Path) -> None:
    images = known()
    back = {image.file: image for image in FORMATS[kind].read(written(kind, shapes, tmp_path), images)}
    images.check("labels")
    assert set(back) == set(SIZES)
    for image in labeled():
        np.testing.assert_array_equal(back[image.file].mask(), image.mask())
        assert [region.name for region in back[image.file].regions] == [region.name for region in image.regions]


@pytest.mark.parametrize("shapes", [MASKS, POLYGONS])
def test_pycocotools_reads_the_same_pixels(shapes: str, tmp_path: Path) -> None:
    with contextlib.redirect_stdout(io.StringIO()):
        coco = COCO(written("coco", shapes, tmp_path))
    entries = {entry["file_name"]: entry for entry in coco.loadImgs(coco.getImgIds())}
    for image in labeled():
        annotations = coco.loadAnns(coco.getAnnIds(entries[image.file]["id"]))
        for annotation, region in zip(annotations, image.regions, strict=True):
            alone = LabeledImage(image.file, image.height, image.width, (region,)).mask()
            np.testing.assert_array_equal(coco.annToMask(annotation), alone)
            assert coco.loadCats(annotation["category_id"])[0]["name"] == region.name
            assert annotation["area"] == region.mask.sum() and annotation["score"] == region.score
            x, y, width, height = annotation["bbox"]
            assert (alone[y : y + height, x : x + width].sum(), (height, width)) == (
                region.mask.sum(),
                region.mask.shape,
            )


def test_opencv_fills_yolo_polygons_up_to_their_outlines(tmp_path: Path) -> None:
    """As training code does; OpenCV counts the pixels of the outline in, which adds at most one on each side."""
    target = written("yolo-seg", POLYGONS, tmp_path)
    for image in labeled():
        filled = np.zeros((image.height, image.width), np.uint8)
        text = (target / "labels" / image.file).with_suffix(".txt").read_text(encoding="utf-8")
        for line in text.splitlines():
            numbers = np.array(line.split()[1:], float).reshape(-1, 2) * (image.width, image.height)
            cv2.fillPoly(filled, [np.rint(numbers).astype(np.int32)], 1)
        assert (filled.astype(bool) >= image.mask()).all()
        assert (filled <= cv2.dilate(image.mask().astype(np.uint8), np.ones((3, 3)))).all()


def test_labelme_masks_are_pictures_in_their_boxes(tmp_path: Path) -> None:
    target = written("labelme", MASKS, tmp_path)
    for image in labeled():
        content = json.loads((target / image.file).with_suffix(".json").read_text(encoding="utf-8"))
        assert (content["imagePath"], content["imageData"]) == (Path(image.file).name, None)
        joined = np.zeros((image.height, image.width), bool)
        for shape in content["shapes"]:
            (left, top), (right, bottom) = shape["points"]
            picture = np.asarray(Image.open(io.BytesIO(base64.b64decode(shape["mask"])))) > 0
            # Both corners are pixels of the mask.
            joined[top : bottom + 1, left : right + 1] |= picture
        np.testing.assert_array_equal(joined, image.mask())


def test_a_brush_stroke_is_the_published_stream_of_bits() -> None:
    """A plain reading of rle-pack's description, bit by bit."""
    rng = np.random.default_rng(2)
    for mask in (np.zeros((3, 5), bool), np.ones((200, 150), bool), rng.random((31, 17)) < 0.3):
        bits = iter("".join(f"{byte:08b}" for byte in encoded_brush(mask)))

        def take(count: int, bits: Iterator[str] = bits) -> int:
            return int("".join(next(bits) for _ in range(count)), 2)

        assert take(32) == mask.size * 4
        width, sizes, values = take(5) + 1, [take(4) + 1 for _ in range(4)], []
        while len(values) < mask.size * 4:
            is_repeated, choice = take(1), take(2)
            length = take(sizes[choice]) + 1
            values += [take(width)] * length if is_repeated else [take(width) for _ in range(length)]
        np.testing.assert_array_equal(np.array(values).reshape(*mask.shape, 4), mask[..., None] * np.full(4, 255))


def test_brush_strokes_of_blocks_that_robis_does_not_write() -> None:
    """Four values of a word that are listed, not repeated: transparent and opaque."""
    bits = f"{8:032b}{7:05b}" + f"{2:04b}" * 4 + "0" + "00" + f"{7:03b}" + "00000000" * 4 + f"{9:08b}" * 4
    data = [int(bits[n : n + 8].ljust(8, "0"), 2) for n in range(0, len(bits), 8)]
    np.testing.assert_array_equal(decoded_brush(data, 1, 2, "task 0"), [[False, True]])
    with pytest.raises(DataError, match=r"task 0: a brush stroke.*8 values, expected 12"):
        decoded_brush(data, 1, 3, "task 0")
    with pytest.raises(DataError, match="ends too early"):
        decoded_brush(data[:9], 1, 2, "task 0")


def test_cvat_masks_are_runs_of_rows_in_a_box(tmp_path: Path) -> None:
    image = LabeledImage("nut/test/a b.png", 40, 64, tuple(connected("crack", np.pad(ring(), ((2, 33), (3, 55))))))
    root = ElementTree.parse(written("cvat", MASKS, tmp_path, [image])).getroot()
    mask = root.find("image/mask")
    assert mask is not None
    place = {key: mask.get(key) for key in ("left", "top", "width", "height", "label")}
    assert place == {"left": "3", "top": "2", "width": "5", "height": "5", "label": "crack"}
    assert mask.get("rle") == "0, 4, 1, 1, 2, 1, 1, 4, 1, 4, 5, 1", "rows of ring(), its box is 5 x 5"


@pytest.mark.parametrize(
    ("name", "file"),
    [
        ("nut/test/a b.png", "nut/test/a b.png"),
        ("a b.png", "nut/test/a b.png"),
        ("/home/me/parts/nut/test/a b.png", "nut/test/a b.png"),
        ("C:\\parts\\nut\\test\\a b.png", "nut/test/a b.png"),
        ("test/u\N{COMBINING DIAERESIS}/deep", "nut/test/ü/deep.jpg"),
        (image_name("/data/local-files/?d=parts/nut/test/a%20b.png"), "nut/test/a b.png"),
        (image_name("/data/upload/3/0f3c92ab-good.png"), "nut/test/good.png"),
        (image_name("s3://bucket/parts/nut/test/good.png"), "nut/test/good.png"),
    ],
)
def test_images_are_found_by_the_names_that_tools_give(name: str, file: str) -> None:
    image = known().find(name)
    assert image is not None and (image.file, image.height, image.width) == (file, *SIZES[file])


def test_problems_with_images_are_listed() -> None:
    images = KnownImages(["a/1.png", "b/1.png", "b/2.png"], lambda file: (10, 20))
    for name, size in (("1.png", None), ("c/2.png", None), ("b/2.png", (20, 10)), ("b/2.png", (5, 5))):
        assert images.find(name, size=size) is None
    with pytest.raises(DataError) as caught:
        images.check("labels.json")
    assert str(caught.value).splitlines()[1:] == [
        "  1.png fits a/1.png, b/1.png; give more of its path",
        "  c/2.png is no image of the data set",
        "  b/2.png is 20 x 10 pixels; the labels are for 10 x 20 (turned: the tool ignored the EXIF rotation)",
        "  b/2.png is 20 x 10 pixels; the labels are for 5 x 5",
    ]


def edit_json(path: Path, change: Callable[[dict], object]) -> None:
    content = json.loads(path.read_text(encoding="utf-8"))
    change(content)
    path.write_text(json.dumps(content), encoding="utf-8")


COCO_MISTAKES = [
    (lambda file: file.pop("categories"), "categories: the key is missing"),
    (lambda file: file["annotations"][0].update(category_id=9), "annotation 1: category_id 9 is in no entry"),
    (lambda file: file["annotations"][0].update(image_id=9), "annotation 1: image_id 9 is in no entry"),
    (lambda file: file["annotations"][0].pop("segmentation"), "annotation 1: no segmentation"),
    (lambda file: file["annotations"][0].update(segmentation=[[1, 2, 3, 4]]), "a polygon of 4 numbers"),
    (lambda file: file["annotations"][0]["segmentation"].update(size=[4, 4]), "run lengths of size"),
    (lambda file: file["annotations"][0]["segmentation"].update(counts=[1, 2]), "run lengths of 3 pixels"),
    (lambda file: file["annotations"][0]["segmentation"].update(counts=""), "run lengths of 0 pixels"),
    (lambda file: file["annotations"][0]["segmentation"].update(counts="0z"), "run lengths contain 'z'"),
    (
        lambda file: file["annotations"][0]["segmentation"].update(counts="0o"),
        "end in the middle of a number",
    ),
    (lambda file: file["annotations"][0]["segmentation"].update(counts=[-1, 2561]), "the shortest -1"),
    (lambda file: file["images"][0].update(height="high"), "images.0.height: .*found 'high'"),
    (lambda file: file["images"][1].update(id=1), "`images`: several entries have the id 1"),
    (lambda file: file["categories"][1].update(id=1), "`categories`: several entries have the id 1"),
]


@pytest.mark.parametrize(("change", "message"), COCO_MISTAKES)
def test_mistakes_in_coco_are_named(change: Callable[[dict], object], message: str, tmp_path: Path) -> None:
    target = written("coco", MASKS, tmp_path)
    edit_json(target, change)
    with pytest.raises(DataError, match=f"(?s){target}.*{message}"):
        list(FORMATS["coco"].read(target, known()))


@pytest.mark.parametrize(
    ("kind", "file", "old", "new", "message"),
    [
        ("cvat", "", "</version>", "<", "cannot be read as XML"),
        ("cvat", "", "<meta>", "<track/><meta>", "not an export of images"),
        ("cvat", "", "mask", "box", "image 'nut/test/a b.png': a box of 'crack'; expected polygons and masks"),
        ("cvat", "", 'rle="', 'rle="7, ', "a mask of .* pixels for"),
        ("cvat", "", ' left="', ' left="9', "expected as many, in the image's 64 x 40"),
        ("yolo-seg", "labels/nut/test/a b.txt", "0 ", "5 ", "line 1: class 5 has no name"),
        ("yolo-seg", "labels/nut/test/a b.txt", "0 ", "0 0.1 0.1 0.2 0.2\n0 ", "line 1: a box, which is no mask"),
        ("yolo-seg", "labels/nut/test/a b.txt", "0 ", "0 1.5 ", "expected 0 to 1"),
        ("yolo-seg", "labels/nut/test/a b.txt", "0 ", "crack ", "Expected the number of a class"),
        ("yolo-seg", "data.yaml", "names:", "classes:", "data.yaml: no names of classes"),
        ("labelme", "nut/test/a b.json", '"polygon"', '"circle"', "shapes.0: a circle; expected a polygon or a mask"),
        ("labelme", "nut/test/a b.json", '"imageWidth"', '"imageBreadth"', "imageWidth: the key is missing"),
        ("label-studio", "", '"image_rotation": 0', '"image_rotation": 90', "rotated by 90 degrees; expected 0"),
        ("label-studio", "", '"brushlabels": [', '"rectanglelabels": [', "expected polygonlabels or brushlabels"),
        ("label-studio", "", '"annotations": [', '"annotations": [{"result": []}, ', "2 annotations; expected one"),
    ],
)
def test_what_is_no_mask_is_named(kind: str, file: str, old: str, new: str, message: str, tmp_path: Path) -> None:
    target = written(kind, FORMATS[kind].shapes[0], tmp_path)
    path = target / file if file else target
    text = path.read_text(encoding="utf-8")
    assert old in text
    path.write_text(
        text.replace(old, new) if kind == "cvat" and old == "mask" else text.replace(old, new, 1), encoding="utf-8"
    )
    with pytest.raises(DataError, match=message):
        list(FORMATS[kind].read(target, known()))


@pytest.mark.parametrize(
    ("kind", "change", "message"),
    [
        ("labelme", {"mask": "ü"}, "shapes.0: its mask is not a readable PNG"),
        ("labelme", {"points": [[float("nan"), 1], [2, 2]]}, r"shapes.0: its mask lies at \(nan, 1.0\)"),
        ("label-studio", {"rle": [0, 1, 300]}, "result 0: a brush stroke that cannot be read"),
    ],
)
def test_damaged_pictures_are_named(kind: str, change: dict, message: str, tmp_path: Path) -> None:
    target = written(kind, MASKS, tmp_path)
    path = target / "nut/test/a b.json" if kind == "labelme" else target
    edit_json(path, lambda file: (file["shapes"][0] if kind == "labelme" else _first(file)["value"]).update(change))
    with pytest.raises(DataError, match=message):
        list(FORMATS[kind].read(target, known()))


def _first(tasks: list[dict]) -> dict:
    return tasks[0]["annotations"][0]["result"][0]


@pytest.mark.parametrize("kind", ["coco", "cvat", "label-studio"])
def test_an_image_that_is_there_twice_is_named(kind: str, tmp_path: Path) -> None:
    """As in joined exports of two people: neither labels replace the others."""
    images = known()
    list(FORMATS[kind].read(written(kind, MASKS, tmp_path, [*labeled(), labeled()[0]]), images))
    with pytest.raises(DataError, match=r"each once, with their sizes\.\n  nut/test/a b\.png has labels twice"):
        images.check("labels")


def test_addresses_that_are_none_are_names() -> None:
    assert image_name("http://[a.png") == "http://[a.png"


def test_yolo_needs_the_names_of_its_classes(tmp_path: Path) -> None:
    target = written("yolo-seg", POLYGONS, tmp_path)
    for place, message in (("labels", r"labels: no data\.yaml or classes"), ("x", "not a folder with")):
        with pytest.raises(DataError, match=message):
            list(FORMATS["yolo-seg"].read(target / place, known()))


def test_names_of_yolo_classes_are_text(tmp_path: Path) -> None:
    target = written("yolo-seg", POLYGONS, tmp_path)
    (target / "data.yaml").write_text("names: [7, 1.5]")
    names = {region.name for image in FORMATS["yolo-seg"].read(target, known()) for region in image.regions}
    assert names == {"7", "1.5"}


@pytest.mark.parametrize("kind", ["yolo-seg", "labelme"])
def test_a_file_per_image_stays_in_its_folder(kind: str, tmp_path: Path) -> None:
    """Images above the root and with absolute paths, and two that only their suffix tells apart."""
    outside = [LabeledImage("../../other/a.png", 5, 9), LabeledImage(f"{tmp_path}/b.png", 5, 9)]
    target = written(kind, POLYGONS, tmp_path / "x" / "out", outside)
    suffix = ".txt" if kind == "yolo-seg" else ".json"
    assert {path.name for path in target.rglob(f"*{suffix}")} == {f"a{suffix}", f"b{suffix}"}
    assert not (tmp_path / f"b{suffix}").exists() and [path.name for path in tmp_path.iterdir()] == ["x"]
    with pytest.raises(DataError, match=r"a.jpg: another image has the same path but for its suffix"):
        written(kind, POLYGONS, tmp_path / "y", [LabeledImage("a.png", 5, 9), LabeledImage("a.jpg", 5, 9)])


def test_yolo_trees_of_other_tools_are_read(tmp_path: Path) -> None:
    """Labels lie beside the images of each split, and other text beside them."""
    written("yolo-seg", POLYGONS, tmp_path)
    (tmp_path / "yolo/labels").rename(tmp_path / "yolo/moved")
    (tmp_path / "yolo/train").mkdir()
    (tmp_path / "yolo/moved").rename(tmp_path / "yolo/train/labels")
    (tmp_path / "yolo/README.txt").write_text("made by a tool\n")
    images = known()
    assert {image.file for image in FORMATS["yolo-seg"].read(tmp_path / "yolo", images)} == set(SIZES)
    assert not images.problems


def test_yolo_names_may_be_lines_of_a_text_file(tmp_path: Path) -> None:
    target = written("yolo-seg", POLYGONS, tmp_path)
    before = {image.file: [r.name for r in image.regions] for image in FORMATS["yolo-seg"].read(target, known())}
    (target / "data.yaml").unlink()
    with pytest.raises(DataError, match=r"yolo: no data\.yaml or classes\.txt"):
        list(FORMATS["yolo-seg"].read(target, known()))
    (target / "classes.txt").write_text("crack\nscratch, long\n", encoding="utf-8")
    # Some tools put all files into one folder.
    for file in sorted((target / "labels").rglob("*.txt")):
        file.rename(target / file.name)
    images = KnownImages(FULL, lambda name: SIZES[FULL[name]])
    after = {FULL[image.file]: [r.name for r in image.regions] for image in FORMATS["yolo-seg"].read(target, images)}
    assert after == before and not images.problems


def test_other_json_files_beside_images_are_no_labels(tmp_path: Path) -> None:
    target = written("labelme", POLYGONS, tmp_path)
    (target / "nut/settings.json").write_text('{"exposure": 3}')
    (target / "list.json").write_text("[1, 2]")
    assert {image.file for image in FORMATS["labelme"].read(target, known())} == set(SIZES)
    for file in target.rglob("*.json"):
        file.write_text('{"exposure": 3}')
    with pytest.raises(DataError, match=r"labelme: none of 5 \.json files has the key shapes"):
        list(FORMATS["labelme"].read(target, known()))


def test_label_studios_short_form_and_remarks_are_read(tmp_path: Path) -> None:
    """The keys are those that label-studio-converter writes as JSON_MIN."""
    target = written("label-studio", MASKS, tmp_path)
    tasks = json.loads(target.read_text(encoding="utf-8"))
    before = {image.file: image.mask().tolist() for image in FORMATS["label-studio"].read(target, known())}
    short = []
    for number, task in enumerate(tasks):
        results = task["annotations"][0]["result"]
        sizes = [{key: result[key] for key in ("original_width", "original_height")} for result in results]
        drawn = [result["value"] | size for result, size in zip(results, sizes, strict=True)]
        labels = {"mask": drawn} if drawn else {}
        short.append(task["data"] | {"id": number, "verdict": "bad", "annotator": 1, "annotation_id": 7} | labels)
        remark = {"type": "choices", "from_name": "verdict", "value": {"choices": ["bad"]}}
        results += [remark, {"type": "relation", "from_id": "a", "to_id": "b"}]
    for content in (tasks, [*short, {"image": "nut/test/good.png", "id": 9}]):
        target.write_text(json.dumps(content), encoding="utf-8")
        back = {image.file: image.mask().tolist() for image in FORMATS["label-studio"].read(target, known())}
        assert back == before
    short[0]["mask"][0]["rectanglelabels"] = short[0]["mask"][0].pop("brushlabels")
    target.write_text(json.dumps(short), encoding="utf-8")
    with pytest.raises(DataError, match=r"task 0: result 0: of type rectanglelabels; expected polygonlabels"):
        list(FORMATS["label-studio"].read(target, known()))


@pytest.mark.parametrize("prefix", ["", "/data/local-files/?d=parts/", "s3://bucket/parts/"])
def test_label_studio_finds_names_with_signs_of_addresses(prefix: str, tmp_path: Path) -> None:
    files = ["nut/a#1.png", "nut/50%41.png", "nut/b+c & d.png", "nut/ü ?.png"]
    target = written("label-studio", MASKS, tmp_path, [LabeledImage(f, 5, 9) for f in files], image_prefix=prefix)
    images = KnownImages(files, lambda file: (5, 9))
    assert [image.file for image in FORMATS["label-studio"].read(target, images)] == files


def test_polygons_of_one_coco_annotation_are_joined(tmp_path: Path) -> None:
    """Where they overlap too, as pycocotools does."""
    target = written("coco", MASKS, tmp_path)
    square = lambda left: [left, 0, left + 4, 0, left + 4, 4, left, 4]  # noqa: E731
    edit_json(target, lambda file: file["annotations"][0].update(segmentation=[square(2), square(4)]))
    image = next(iter(FORMATS["coco"].read(target, known())))
    assert image.regions[0].mask.shape == (4, 6) and image.regions[0].mask.all()


def test_tasks_that_nobody_finished_say_nothing(tmp_path: Path) -> None:
    target = written("label-studio", MASKS, tmp_path, labeled(score=3.5))
    tasks = json.loads(target.read_text(encoding="utf-8"))
    assert [task["predictions"][0]["score"] for task in tasks] == [3.5] * 3
    assert not list(FORMATS["label-studio"].read(target, known())), "predictions are no ground truth"
    tasks[0]["annotations"] = [{"result": [], "was_cancelled": True}]
    tasks[1]["annotations"] = [{"result": []}]
    target.write_text(json.dumps(tasks), encoding="utf-8")
    back = {image.file: image.regions for image in FORMATS["label-studio"].read(target, known())}
    assert back == {"nut/test/ü/deep.jpg": ()}


@pytest.fixture(scope="module")
def run(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """results/parts and its data set: maps and masks have a quarter of the images' size."""
    folder = tmp_path_factory.mktemp("run")
    images = [
        Made("000", "anomalous", truth=(8, 8, 24, 40), final=(8, 8, 28, 44), score=0.9),
        Made("001", "anomalous", truth=(60, 8, 63, 11), score=0.4),
        Made("002", "normal", score=0.1),
        Made("003", None, final=(40, 40, 60, 60), score=0.7),
    ]
    write_data(folder / "data", folder / "results" / "parts", "nut", "test", images)
    for name in ("superadd", "inp_former"):
        write_run(folder / "results" / "parts" / name, "nut", "test", images)
    return folder


def test_final_masks_have_the_size_of_the_images(run: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    target = tmp_path / "masks.json"
    arguments = ["export", "labels", str(run / "results/parts"), "--format", "coco", "--out", str(target)]
    assert main([*arguments, "--run", "superadd"]) == 0
    assert f"Wrote {target}: 2 regions in 2 of 4 images." in capsys.readouterr().out
    content = json.loads(target.read_text(encoding="utf-8"))
    assert (content["images"][0]["file_name"], content["images"][0]["height"]) == ("nut/test/0.png", 96)
    first, second = content["annotations"]
    assert (first["bbox"], first["area"]) == ([8, 8, 36, 20], 36 * 20)
    assert (second["image_id"], second["bbox"], second["area"]) == (4, [40, 40, 20, 20], 400)
    assert 10 < first["score"] < 210, "the highest value of the map in the region"
    assert main([*arguments, "--run", "superadd"]) == 1
    assert f"{target}: exists already" in capsys.readouterr().err
    assert sorted(path.name for path in tmp_path.iterdir()) == ["masks.json"]


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["--format", "coco"], "--run: .*parts has 2 runs; choose one. Valid: inp_former, superadd."),
        (["--format", "coco", "--run", "superad"], "no run 'superad'.*Did you mean 'superadd'"),
        (["--format", "coco", "--run", "superadd", "--category", "nuts"], "--category: .*Did you mean 'nut'"),
        (["--format", "coco", "--run", "superadd", "--split", "tests"], "--split: .*Did you mean 'test'"),
        (["--format", "yolo-seg", "--run", "superadd", "--shapes", "masks"], "--shapes: yolo-seg has no masks"),
        (["--format", "coco", "--run", "superadd", "--tolerance", "1"], "only polygons have one"),
        (["--format", "coco", "--run", "superadd", "--tolerance", "nan"], "--tolerance: found nan"),
        (["--format", "coco", "--ground-truth"], "--root: ground truth is read from the data set"),
    ],
)
def test_choices_that_cannot_be_exported(
    run: Path, arguments: list[str], message: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    out = tmp_path / "labels"
    assert main(["export", "labels", str(run / "results/parts"), *arguments, "--out", str(out)]) == 1
    assert re.search(message, capsys.readouterr().err)
    assert not list(tmp_path.iterdir())


def test_results_and_data_that_do_not_fit_are_named(
    run: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    arguments = ["--format", "coco", "--out", str(tmp_path / "labels.json")]
    folder = tmp_path / "parts"
    shutil.copytree(run / "results/parts", folder)
    file = folder / "superadd/image_scores/nut/test.parquet"
    pd.read_parquet(file).iloc[:3].to_parquet(file)
    assert main(["export", "labels", str(folder), *arguments, "--run", "superadd"]) == 1
    assert f"{file}: it lacks 003, which is in the sample table. Make it again" in capsys.readouterr().err
    truth = ["--ground-truth", "--root", str(run)]
    assert main(["export", "labels", str(folder), *arguments, *truth]) == 1
    assert f"--root: {run} has no nut/masks/test0.png. Expected the folder of the data" in capsys.readouterr().err
    assert [path.name for path in tmp_path.iterdir()] == ["parts"]


def test_ground_truth_leaves_out_what_is_not_known(run: Path, tmp_path: Path) -> None:
    target = tmp_path / "truth"
    arguments = ["--format", "yolo-seg", "--ground-truth", "--root", str(run / "data"), "--out", str(target)]
    assert main(["export", "labels", str(run / "results/parts"), *arguments]) == 0
    lines = {path.stem: path.read_text().split() for path in (target / "labels/nut/test").iterdir()}
    assert set(lines) == {"0", "1", "2"} and not lines["2"]
    assert "0: bad" in (target / "data.yaml").read_text()


@pytest.fixture
def parts(tmp_path: Path) -> Path:
    """A data set of the layout `folder` with one mask, and its config."""
    root = tmp_path / "parts"
    for name in ("train/0.png", "train/1.png", "test/0.png", "test/1.png", "test/2.png", "test/3.png"):
        write_image(root / "nut" / name, height=20, width=30)
    # Stored 20 x 30, shown 30 x 20.
    exif = Image.Exif()
    exif[0x0112] = 6
    Image.new("RGB", (30, 20)).save(root / "nut/test/turned.jpg", exif=exif)
    config = tmp_path / "config.yaml"
    config.write_text(f"dataset: {{name: parts, layout: folder, root: {root}, splits: [test]}}\n", encoding="utf-8")
    return root


def tool_labels(folder: Path) -> tuple[Path, dict[str, np.ndarray]]:
    """A COCO file as a person would make it: a defect, a turned image, a good image."""
    disk = np.zeros((20, 30), np.uint8)
    cv2.circle(disk, (12, 9), 5, 1, -1)
    tall = np.zeros((30, 20), bool)
    tall[25:29, 2:5] = True
    images = [
        LabeledImage("nut/test/0.png", 20, 30, tuple(connected("crack", disk.astype(bool)))),
        LabeledImage("nut/test/turned.jpg", 30, 20, tuple(connected("scratch, long", tall))),
        LabeledImage("nut/test/1.png", 20, 30),
    ]
    return written("coco", MASKS, folder, images), {image.file: image.mask() for image in images if image.regions}


def imported(labels: Path, root: Path, out: Path) -> int:
    config = str(root.parent / "config.yaml")
    return main(["import", "labels", str(labels), "--format", "coco", "--configfile", config, "--out", str(out)])


@pytest.mark.parametrize("inside", [True, False])
def test_labels_become_ground_truth(
    parts: Path, inside: bool, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    labels, masks = tool_labels(tmp_path)
    out = (parts if inside else tmp_path) / "round 2"
    assert imported(labels, parts, out) == 0
    printed = capsys.readouterr().out
    assert "2 defective images (crack 1, scratch, long 1), 1 good, 4 as before" in printed
    assert ("allow_outside_root: true" in printed) is not inside
    table = "round 2/samples.csv" if inside else str(out / "samples.csv")
    assert f"table: {table}\n" in printed
    source = Source("table", parts, table, allow_outside_root=not inside)
    samples = {sample.image: sample for sample in list_samples(source, "nut", "test")}
    assert {file: (sample.label, sample.defect) for file, sample in samples.items()} == {
        "nut/test/0.png": ("anomalous", "crack"),
        "nut/test/turned.jpg": ("anomalous", "scratch, long"),
        "nut/test/1.png": ("normal", "good"),
        "nut/test/2.png": (None, None),
        "nut/test/3.png": (None, None),
    }
    for file, mask in masks.items():
        np.testing.assert_array_equal(read_mask(parts / str(samples[file].mask)), mask)
    before = {sample.image: sample.sample_id for sample in list_samples(Source("folder", parts), "nut", "test")}
    assert {file: sample.sample_id for file, sample in samples.items()} == before, "results keep their names"
    assert len(list_samples(source, "nut", "train")) == 2


def test_what_the_file_does_not_name_stays(tmp_path: Path) -> None:
    root = tmp_path / "parts"
    for name in ("train/0.png", "test/good/0.png", "test/cut/0.png", "test/cut/1.png"):
        write_image(root / "nut" / name)
    for number in (0, 1):
        write_mask(root / "nut/masks/cut" / f"{number}.png")
    (tmp_path / "config.yaml").write_text(f"dataset: {{name: parts, layout: folder, root: {root}, splits: [test]}}\n")
    labels = written("coco", MASKS, tmp_path, [LabeledImage("cut/0.png", 6, 8)])
    assert imported(labels, root, root / "labels") == 0
    source = Source("table", root, "labels/samples.csv")
    rows = {(sample.image, sample.label, sample.mask) for sample in list_samples(source, "nut", "test")}
    assert rows == {
        ("nut/test/good/0.png", "normal", None),
        ("nut/test/cut/0.png", "normal", None),
        ("nut/test/cut/1.png", "anomalous", "nut/masks/cut/1.png"),
    }


def test_defective_images_that_need_a_mask_now_are_listed(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    root = tmp_path / "parts"
    for name in ("train/0.png", "test/good/0.png", "test/cut/0.png", "test/cut/1.png"):
        write_image(root / "nut" / name)
    (tmp_path / "config.yaml").write_text(f"dataset: {{name: parts, layout: folder, root: {root}, splits: [test]}}\n")
    image = LabeledImage("cut/0.png", 6, 8, tuple(connected("crack", np.ones((6, 8), bool))))
    assert imported(written("coco", MASKS, tmp_path, [image]), root, root / "labels") == 0
    printed = capsys.readouterr().out
    assert "\n1 defective image without a mask, though others" in printed
    assert printed.endswith(":\n  nut/test/cut/1.png\n")


@pytest.mark.parametrize("inside", [True, False])
def test_masks_of_a_linked_data_set_are_found(
    inside: bool, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """`dataset.root` is a link to a folder elsewhere, as on machines with a disk for data."""
    disk = tmp_path / "disks/big/parts"
    for name in ("train/0.png", "test/0.png"):
        write_image(disk / "nut" / name)
    root = tmp_path / "work/data/parts"
    root.parent.mkdir(parents=True)
    root.symlink_to(disk)
    (root.parent / "config.yaml").write_text(f"dataset: {{name: parts, layout: folder, root: {root}, splits: [test]}}")
    mask = np.eye(6, 8, dtype=bool)
    labels = written("coco", MASKS, tmp_path, [LabeledImage("nut/test/0.png", 6, 8, tuple(connected("crack", mask)))])
    out = disk / "next" if inside else root.parent / "next"
    assert imported(labels, root, out) == 0
    table = "next/samples.csv" if inside else str(out / "samples.csv")
    assert f"table: {table}\n" in capsys.readouterr().out
    (sample,) = list_samples(Source("table", root, table, allow_outside_root=not inside), "nut", "test")
    np.testing.assert_array_equal(read_mask(root / str(sample.mask)), mask)


def test_names_that_begin_with_a_blank_stay(tmp_path: Path) -> None:
    root = tmp_path / "parts"
    for name in ("train/0.png", "test/ a.png"):
        write_image(root / "nut" / name)
    (tmp_path / "config.yaml").write_text(f"dataset: {{name: parts, layout: folder, root: {root}, splits: [test]}}\n")
    labels = written("coco", MASKS, tmp_path, [LabeledImage("nut/test/ a.png", 6, 8)])
    assert imported(labels, root, root / "labels") == 0
    (sample,) = list_samples(Source("table", root, "labels/samples.csv"), "nut", "test")
    assert (sample.image, sample.label) == ("nut/test/ a.png", "normal")


def test_masks_of_images_outside_the_root_stay_in_their_folder(tmp_path: Path) -> None:
    """Images above the root, and two that differ only in suffix: each has its own mask, and no image is overwritten."""
    root = tmp_path / "x/parts"
    files = ["../../other/0.png", "test/0.png", "test/0.jpg"]
    for file in ("train/0.png", *files):
        write_image(root / file)
    rows = ["nut,train,train/0.png,normal,,", *(f"nut,test,{file},normal,,{n}" for n, file in enumerate(files))]
    (root / "samples.csv").write_text("\n".join(["category,split,image,label,mask,sample_id", *rows]))
    options = f"name: parts, layout: table, root: {root}, splits: [test], allow_outside_root: true"
    (tmp_path / "x/config.yaml").write_text(f"dataset: {{{options}}}\n")
    masks = [np.arange(48).reshape(6, 8) == n for n in range(3)]
    images = [LabeledImage(file, 6, 8, tuple(connected("crack", masks[n]))) for n, file in enumerate(files)]
    before = {file: (root / file).read_bytes() for file in files}
    assert imported(written("coco", MASKS, tmp_path, images), root, tmp_path / "out") == 0
    assert {file: (root / file).read_bytes() for file in files} == before
    source = Source("table", root, str(tmp_path / "out/samples.csv"), allow_outside_root=True)
    for sample in list_samples(source, "nut", "test"):
        np.testing.assert_array_equal(read_mask(root / str(sample.mask)), masks[files.index(sample.image)])


def test_labels_that_do_not_fit_leave_nothing_behind(
    parts: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    labels, _ = tool_labels(tmp_path)
    out = tmp_path / "out"
    mistakes = [
        (
            lambda file: file["images"][0].update(file_name="nut/test/9.png"),
            "nut/test/9.png is no image of the data set",
        ),
        (lambda file: file["images"][1].update(height=20, width=30), "turned: the tool ignored the EXIF rotation"),
        (
            lambda file: file["images"][0].update(file_name="nut/train/0.png"),
            "training or validation images have defects",
        ),
    ]
    for change, message in mistakes:
        copy = tmp_path / "copy.json"
        copy.write_bytes(labels.read_bytes())
        edit_json(copy, change)
        before = sorted(path.name for path in tmp_path.iterdir())
        assert imported(copy, parts, out) == 1
        assert message in capsys.readouterr().err
        assert sorted(path.name for path in tmp_path.iterdir()) == before
    out.mkdir()
    assert imported(labels, parts, out) == 1
    assert f"{out}: exists already" in capsys.readouterr().err


def test_the_command_line_knows_every_format() -> None:
    assert tuple(FORMATS) == label_commands.FORMATS
