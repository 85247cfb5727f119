"""The same images in every layout run to the same metrics."""

from __future__ import annotations

from pathlib import Path

import cv2
import numpy as np
import pandas as pd
import pytest

from robis.datasets.layouts import LAYOUTS
from robis.demo.layouts import DEMO_LAYOUTS, ImageSpec
from robis.evaluation.metrics import METRICS
from robis.io.images import read_mask
from tests.workflow.conftest import Workspace

pytestmark = pytest.mark.workflow

SIZES = [(96, 128), (72, 104)]


def draw(seed: int, defect: bool) -> tuple[np.ndarray, np.ndarray]:
    """Noise, with two bright disks where there is a defect."""
    height, width = SIZES[seed % 2]
    image = np.random.default_rng(seed).integers(60, 140, (height, width, 3), dtype=np.uint8)
    mask = np.zeros((height, width), np.uint8)
    if defect:
        cv2.circle(mask, (30 + seed % 40, 40), 6 + seed % 9, 1, -1)
        cv2.circle(mask, (12, 12), 3 + seed % 5, 1, -1)
        image[mask > 0] = (230, 240, 250)
    return cv2.GaussianBlur(image, (5, 5), 1), mask


def write_tree(root: Path, layout: str) -> None:
    specs = [ImageSpec("nut", "train", n, "good", None, *SIZES[n % 2]) for n in range(4)]
    specs += [ImageSpec("nut", "test_public", n, "good", None, *SIZES[n % 2]) for n in range(2)]
    specs += [ImageSpec("nut", "test_public", n, "disk", "large", *SIZES[n % 2]) for n in range(3)]
    placed = [(spec, place) for spec in specs if (place := DEMO_LAYOUTS[layout].place(spec))]
    for spec, place in placed:
        number = spec.index + 100 * (spec.split == "train") + 200 * spec.is_anomalous
        image, mask = draw(number, spec.is_anomalous)
        (root / place.image).parent.mkdir(parents=True, exist_ok=True)
        cv2.imwrite(str(root / place.image), image)
        for name, pixels in place.mask_files(mask):
            (root / name).parent.mkdir(parents=True, exist_ok=True)
            cv2.imwrite(str(root / name), pixels)
    for name, text in DEMO_LAYOUTS[layout].tables(placed).items():
        (root / name).parent.mkdir(parents=True, exist_ok=True)
        (root / name).write_text(text)


def prepare(folder: Path, layout: str) -> tuple[Workspace, str]:
    write_tree(folder / "data", layout)
    workspace = Workspace(folder)
    split = "test_public" if layout in ("mvtec_ad_2", "table") else "test"
    workspace.write_config({"dataset": {"layout": layout, "splits": [split]}})
    return workspace, split


def run(folder: Path, layout: str) -> pd.Series:
    workspace, split = prepare(folder, layout)
    workspace.snakemake("metrics")
    return pd.read_parquet(workspace.results / f"inp_former/metrics/nut/{split}.parquet").iloc[0]


@pytest.fixture(scope="module")
def reference(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("mvtec_ad_2")


@pytest.fixture(scope="module")
def expected(reference: Path) -> pd.Series:
    found = run(reference, "mvtec_ad_2")
    assert found[list(METRICS)].between(0, 1).all()
    assert found["pixel_auroc"] > 0.5, "numbers that could not be otherwise would prove nothing"
    return found


def test_folders_of_masks_give_the_same_numbers(tmp_path: Path, expected: pd.Series) -> None:
    """Masks that are not 0 and 255 in one file are where evaluating could go wrong."""
    found = run(tmp_path, "mvtec_loco")
    same = [*METRICS, "images", "anomalous_images", "defects"]
    pd.testing.assert_series_equal(found[same], expected[same], check_exact=True)


@pytest.mark.parametrize("layout", ["mvtec_ad", "mpdd", "folder", "visa", "table", "btad"])
def test_layouts_give_the_same_tiles_and_masks(
    tmp_path: Path, expected: pd.Series, reference: Path, layout: str
) -> None:
    """All that later stages read, in whatever order a layout's names bring the images."""
    workspace, split = prepare(tmp_path, layout)
    targets = [f"results/tiny/tiles/nut/{one}.npy" for one in ("train", split)]
    workspace.snakemake(*targets)
    other = Workspace(reference).results
    for one, same in (("train", "train"), (split, "test_public")):
        stores = workspace.results / f"tiles/nut/{one}.npy", other / f"tiles/nut/{same}.npy"
        found, wanted = (sorted(tile.tobytes() for tile in np.load(store)) for store in stores)
        assert found == wanted
    tables = workspace.results / f"samples/nut/{split}.parquet", other / "samples/nut/test_public.parquet"
    (found_masks, wanted_masks) = (
        sorted(read_mask(folder / "data" / mask).tobytes() for mask in masks)
        for folder, masks in zip(
            (tmp_path, reference), (pd.read_parquet(table)["mask"].dropna() for table in tables), strict=True
        )
    )
    assert found_masks == wanted_masks and len(found_masks) == 3


def test_every_layout_is_tried() -> None:
    assert {"visa", "table", "btad", "mvtec_loco", "mvtec_ad", "mpdd", "folder", "mvtec_ad_2"} == set(LAYOUTS)
