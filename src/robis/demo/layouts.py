"""Where the demo's images lie in each layout, with the names, formats and mask values of the public data sets.

The images of `train` and of the labeled test split are the same in every layout, pixel by pixel. What a layout has
no place for is left out: validation and private images in all but `mvtec_ad_2` and `table`; `folder` and `mvtec_loco`
have validation.
"""

from __future__ import annotations

import csv
import io
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass

import cv2
import numpy as np

# Of the demo's defects, those where something is missing or does not belong, as MVTec LOCO sorts them.
LOGICAL_DEFECTS = ("missing_thread", "foreign_fiber", "foreign_body")


@dataclass(frozen=True)
class ImageSpec:
    """One image of the dataset; `defect` is "good" for a normal image, `defect_size` then None."""

    category: str
    split: str
    index: int
    defect: str
    defect_size: str | None
    height: int
    width: int

    @property
    def is_anomalous(self) -> bool:
        return self.defect != "good"


@dataclass(frozen=True)
class Place:
    """Where an image and its mask lie.

    Attributes:
        image, mask: posix paths below the root; a mask without suffix is a folder of one mask per region.
        defect_value: the value that marks a defect in the mask.
    """

    image: str
    mask: str | None = None
    defect_value: int = 255

    def mask_files(self, mask: np.ndarray) -> Iterator[tuple[str, np.ndarray]]:
        """Give the paths below the root and the uint8 pixels (H, W) of the files that hold a bool mask (H, W)."""
        if self.mask is None:
            return
        if "." in self.mask.rpartition("/")[2]:
            yield self.mask, mask * np.uint8(self.defect_value)
            return
        number, regions = cv2.connectedComponents(mask.astype(np.uint8))
        for region in range(1, number):
            yield f"{self.mask}/{region - 1:03d}.png", (regions == region) * np.uint8(self.defect_value)


@dataclass(frozen=True)
class DemoLayout:
    """How the demo is written in a layout.

    Attributes:
        place: where an image lies; None leaves it out.
        tables: the files besides the images, as path -> text, from every image and its place.
    """

    place: Callable[[ImageSpec], Place | None]
    tables: Callable[[Sequence[tuple[ImageSpec, Place]]], dict[str, str]] = lambda placed: {}


def _mvtec_ad_2(spec: ImageSpec) -> Place:
    """The private splits hold both labels in one folder, normal and anomalous in turn."""
    folder = f"{spec.category}/{spec.split}"
    if spec.split in ("test_private", "test_private_mixed"):
        number = 2 * spec.index + spec.is_anomalous
        return Place(f"{folder}/{number:03d}_{'mixed' if spec.split.endswith('_mixed') else 'regular'}.png")
    stem = f"{spec.index:03d}_regular"
    if not spec.is_anomalous:
        return Place(f"{folder}/good/{stem}.png")
    return Place(f"{folder}/bad/{stem}.png", f"{folder}/ground_truth/bad/{stem}_mask.png")


def _mvtec_ad(spec: ImageSpec) -> Place | None:
    if spec.split not in ("train", "test_public"):
        return None
    base, stem = spec.category, f"{spec.index:03d}"
    mask = f"{base}/ground_truth/{spec.defect}/{stem}_mask.png" if spec.is_anomalous else None
    return Place(f"{base}/{_test(spec)}/{spec.defect}/{stem}.png", mask)


def _mvtec_loco(spec: ImageSpec) -> Place | None:
    """A folder of masks for each defective image, whose value depends on the kind of defect in MVTec LOCO."""
    if spec.split not in ("train", "validation", "test_public"):
        return None
    base, stem = spec.category, f"{spec.index:03d}"
    if not spec.is_anomalous:
        return Place(f"{base}/{'test' if spec.split == 'test_public' else spec.split}/good/{stem}.png")
    group = "logical_anomalies" if spec.defect in LOGICAL_DEFECTS else "structural_anomalies"
    return Place(f"{base}/test/{group}/{stem}.png", f"{base}/ground_truth/{group}/{stem}", 250)


def _btad(spec: ImageSpec) -> Place | None:
    """Images and masks are .bmp or .png, as in BTAD's three products."""
    if spec.split not in ("train", "test_public"):
        return None
    suffix, mask_suffix = {"weave": (".png", ".png"), "cans": (".bmp", ".png")}.get(spec.category, (".bmp", ".bmp"))
    base, stem = spec.category, f"{spec.index:04d}"
    mask = f"{base}/ground_truth/ko/{stem}{mask_suffix}" if spec.is_anomalous else None
    return Place(f"{base}/{_test(spec)}/{'ko' if spec.is_anomalous else 'ok'}/{stem}{suffix}", mask)


def _visa(spec: ImageSpec) -> Place | None:
    """Masks hold small numbers, not 255; images are PNG where VisA has JPEG, which would change their pixels."""
    if spec.split not in ("train", "test_public"):
        return None
    base = f"{spec.category}/Data"
    if spec.is_anomalous:
        stem = f"{spec.index:03d}"
        return Place(f"{base}/Images/Anomaly/{stem}.png", f"{base}/Masks/Anomaly/{stem}.png", 1)
    # One folder holds the normal images of both splits.
    number = spec.index + (1000 if spec.split != "train" else 0)
    return Place(f"{base}/Images/Normal/{number:04d}.png")


def _folder(spec: ImageSpec) -> Place | None:
    base, stem = spec.category, f"{spec.index:03d}"
    if spec.split in ("train", "validation"):
        return Place(f"{base}/{spec.split}/{stem}.png")
    if spec.split != "test_public":
        return None
    mask = f"{base}/masks/{spec.defect}/{stem}.png" if spec.is_anomalous else None
    return Place(f"{base}/test/{spec.defect}/{stem}.png", mask)


def _table(spec: ImageSpec) -> Place:
    """Every image of a category in one folder: the table says which split it is of."""
    kind = "defective" if spec.is_anomalous else "normal"
    stem = f"{spec.split} {kind} {spec.index:03d}"
    known = spec.is_anomalous and spec.split == "test_public"
    return Place(f"{spec.category}/images/{stem}.png", f"{spec.category}/masks/{stem}.png" if known else None)


def _test(spec: ImageSpec) -> str:
    return "train" if spec.split == "train" else "test"


def _visa_table(placed: Sequence[tuple[ImageSpec, Place]]) -> dict[str, str]:
    rows = [
        (spec.category, _test(spec), "anomaly" if spec.is_anomalous else "normal", place.image, place.mask or "")
        for spec, place in placed
    ]
    return {"split_csv/1cls.csv": _csv(("object", "split", "label", "image", "mask"), rows)}


def _table_table(placed: Sequence[tuple[ImageSpec, Place]]) -> dict[str, str]:
    rows = []
    for spec, place in placed:
        secret = spec.split.startswith("test_private")
        label = "" if secret else "anomalous" if spec.is_anomalous else "normal"
        defect = spec.defect if label == "anomalous" else ""
        rows.append((spec.category, spec.split, place.image, label, place.mask or "", defect))
    return {"samples.csv": _csv(("category", "split", "image", "label", "mask", "defect"), rows)}


def _csv(header: Sequence[str], rows: Sequence[Sequence[str]]) -> str:
    text = io.StringIO()
    csv.writer(text, lineterminator="\n").writerows([header, *rows])
    return text.getvalue()


DEMO_LAYOUTS: dict[str, DemoLayout] = {
    "mvtec_ad_2": DemoLayout(_mvtec_ad_2),
    "mvtec_ad": DemoLayout(_mvtec_ad),
    "mvtec_loco": DemoLayout(_mvtec_loco),
    "mpdd": DemoLayout(_mvtec_ad),
    "btad": DemoLayout(_btad),
    "visa": DemoLayout(_visa, _visa_table),
    "folder": DemoLayout(_folder),
    "table": DemoLayout(_table, _table_table),
}
