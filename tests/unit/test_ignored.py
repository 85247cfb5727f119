"""Ignored pixels, stage by stage: they are left out of ranges, thresholds, scores, masks and metrics."""

from __future__ import annotations

import warnings
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import pandas as pd
import pytest
import torch
import torch.nn.functional as F
from safetensors.torch import load_file
from sklearn.metrics import average_precision_score, f1_score, roc_auc_score

from robis.binarization.stage import SplitMaps, Thresholding, binarize_split
from robis.cli import main
from robis.datasets.check import check_dataset
from robis.datasets.index import index_split
from robis.datasets.layouts import list_categories, list_samples
from robis.datasets.samples import Source
from robis.detectors.anomalydino.train import train_category as anomalydino
from robis.detectors.dinomaly.model import DinomalyLoss
from robis.detectors.ignored import lowest_where
from robis.detectors.inp_former.model import coherence_loss, soft_mining_loss
from robis.detectors.musc.infer import infer_split as infer_musc
from robis.detectors.musc.scores import Scoring as MuscScoring
from robis.detectors.musc.scores import mutual_scores
from robis.detectors.patchcore.train import train_category as patchcore
from robis.detectors.settings import parse
from robis.detectors.subspace.tokens import joint_tokens, make_encoder
from robis.detectors.subspace.train import train_category as subspace
from robis.detectors.superadd.train import train_category as superadd
from robis.detectors.winclip.scores import score as winclip_score
from robis.errors import ConfigError, DataError
from robis.evaluation.counts import PixelCounts, resize_map
from robis.evaluation.stage import EvaluatedRun, SplitFiles, evaluate_split
from robis.io.ignored import covered, decode, encode, filled, left_out, left_out_at
from robis.io.maps import read_map, read_written_mask, write_map, write_mask
from robis.io.samples import IndexedSample, read_samples, write_samples
from robis.io.tables import write_table
from robis.refinement.methods import Refining
from robis.refinement.stage import refine_split
from robis.report.page import build_report
from robis.scoring.image_scores import Scoring, detector_scores, image_score, score_images
from robis.scoring.judge import HeldOut, Judging, judge_split
from robis.tiles.files import TileMaps, TileStore
from robis.tiles.ignored import contributing, tile_ignored
from robis.tiles.merge import Scaling, merge_split, merged_map, scaling_of
from robis.tiles.store import Cutting, crop_split, open_tiles
from robis.tiles.windows import Window
from robis.workflow import results
from robis.workflow.checks import check_plan
from robis.workflow.packs import check_pack
from robis.workflow.project import Project
from tests.detector_jobs import infer_job, train_job
from tests.made_results import Made, box, made_facts, made_files, report_files, write_data, write_run
from tests.script_jobs import ScriptJobs
from tests.unit import trees
from tests.unit.test_detector_contract import own_process  # noqa: F401

NOTHING = np.zeros((4, 4), bool)


def corner(height: int, width: int, size: tuple[int, int], shape: tuple[int, int] | None = None) -> np.ndarray:
    """A mask with `size` marked at the upper left."""
    mask = np.zeros(shape or (height, width), bool)
    mask[: size[0], : size[1]] = True
    return mask


# The rule.


def test_a_cell_is_ignored_where_at_least_half_of_it_is() -> None:
    ignored = np.array([[1, 1, 0, 0, 1, 0], [0, 0, 1, 0, 0, 0]], bool)
    assert covered(ignored, 1, 3).tolist() == [[True, False, False]]
    # Cells of 2 x 1.5 pixels, of which 1.5, 1.5, 0.5 and 0.5 of 3 are ignored.
    assert covered(ignored, 1, 4).tolist() == [[True, True, False, False]]
    assert covered(ignored, 2, 6).tolist() == ignored.tolist()


def test_cells_smaller_than_a_pixel_are_as_the_pixel_at_their_center() -> None:
    ignored = np.array([[True, False]])
    assert covered(ignored, 2, 4).tolist() == [[True, True, False, False]] * 2
    assert covered(ignored, 1, 3)[0].tolist() == [True, False, False]


def test_what_counts_leaves_at_least_one_cell() -> None:
    """Of a strip of one pixel in cells of four, a quarter counts: less than half, but nothing else does."""
    ignored = np.ones((8, 8), bool)
    ignored[:, 7] = False
    assert covered(ignored, 2, 2).all()
    assert left_out(ignored, 2, 2).tolist() == [[True, False]] * 2
    assert left_out(corner(8, 8, (8, 3)), 2, 2).tolist() == [[True, False]] * 2
    assert left_out(np.ones((8, 8), bool), 2, 2).all()
    assert left_out_at(encode(ignored), 2, 2).tolist() == [[True, False]] * 2  # type: ignore[union-attr]


def test_ignored_pixels_are_painted_with_the_mean_of_the_others() -> None:
    image = np.full((2, 2, 3), 100, np.uint8)
    image[1, 1] = (0, 255, 7)
    image[0, 0] = (104, 100, 97)
    ignored = np.array([[False, False], [False, True]])
    painted = filled(image, ignored)
    assert painted[1, 1].tolist() == [101, 100, 99]
    assert (painted[~ignored] == image[~ignored]).all() and image[1, 1].tolist() == [0, 255, 7]
    assert filled(image, None) is image


def test_a_region_is_the_same_once_it_was_stored() -> None:
    ignored = np.random.default_rng(0).random((37, 53)) > 0.5
    assert (decode(encode(ignored)) == ignored).all()


# The sample table.


def write_ignore(path: Path, mask: np.ndarray) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    cv2.imwrite(str(path), mask.astype(np.uint8) * 9)


@pytest.fixture
def nuts(tmp_path: Path) -> Path:
    """Images of 6 x 8 pixels, one of 10 x 8, and a mask of ignored pixels for the smaller ones."""
    root = trees.mvtec_ad(tmp_path / "images")
    write_ignore(root / "ignore" / "nut.png", corner(6, 8, (3, 4)))
    return root


def test_the_sample_table_says_which_pixels_are_ignored(nuts: Path, tmp_path: Path) -> None:
    samples = read_samples(trees.index(nuts, "train", ignore="ignore/{category}.png"))
    assert {sample.ignore for sample in samples} == {"ignore/nut.png"}
    assert all((sample.ignored_pixels == corner(6, 8, (3, 4))).all() for sample in samples)
    # Columns of 2 x 2 pixels; of the second row of cells one half is ignored.
    assert (samples[0].ignored_at((3, 4)) == corner(3, 4, (2, 2))).all()
    without = read_samples(trees.index(nuts, "train"))
    assert [(sample.ignore, sample.ignored, sample.ignored_pixels) for sample in without] == [(None, None, None)] * 12


def test_images_can_have_masks_of_their_own(nuts: Path) -> None:
    write_ignore(nuts / "masks" / "test" / "crack" / "001.png", corner(6, 8, (6, 7)))
    write_ignore(nuts / "masks" / "train" / "good" / "003.png", corner(6, 8, (1, 1)))
    pattern = "masks/{split}/{name}.png"
    by_id = {
        sample.sample_id: sample.ignore
        for sample in list_samples(Source("mvtec_ad", nuts, ignore=pattern), "nut", "test")
    }
    assert by_id == {"crack/000": None, "crack/001": "masks/test/crack/001.png", "good/000": None}
    # A held-out training image still lies in train.
    lent = list_samples(Source("mvtec_ad", nuts, ignore=pattern), "nut", "validation", hold_out=True, hold_out_every=3)
    assert [sample.ignore for sample in lent] == [None, "masks/train/good/003.png", None, None]
    elsewhere = Source("mvtec_ad", nuts, ignore=f"{nuts}/masks/{{split}}/{{name}}.png")
    assert list_samples(elsewhere, "nut", "test")[1].ignore == "masks/test/crack/001.png"


def test_the_folder_of_the_masks_is_no_category(nuts: Path) -> None:
    write_ignore(nuts / "ignore" / "test" / "crack" / "001.png", corner(6, 8, (1, 1)))
    assert list_categories(Source("mvtec_ad", nuts)) == ["ignore", "nut"]
    assert list_categories(Source("mvtec_ad", nuts, ignore="ignore/{split}/{name}.png")) == ["nut"]


def test_however_the_folder_of_the_masks_is_written_it_is_no_category(nuts: Path) -> None:
    write_ignore(nuts / "ignore" / "test" / "crack" / "001.png", corner(6, 8, (1, 1)))
    for folder in (f"{nuts}/ignore", f"../{nuts.name}/ignore", "./ignore"):
        assert list_categories(Source("mvtec_ad", nuts, ignore=f"{folder}/{{split}}/{{name}}.png")) == ["nut"]
    (nuts / "ignore").rename(nuts.parent / "elsewhere")
    (nuts / "ignore").symlink_to(nuts.parent / "elsewhere")
    assert list_categories(Source("mvtec_ad", nuts, ignore="ignore/{split}/{name}.png")) == ["nut"]


def test_a_category_that_holds_its_mask_stays_one(nuts: Path) -> None:
    write_ignore(nuts / "nut" / "ignore.png", corner(6, 8, (1, 1)))
    assert list_categories(Source("mvtec_ad", nuts, ignore="nut/ignore.png")) == ["nut"]


def test_a_category_with_masks_among_its_images_stays_one(nuts: Path) -> None:
    write_ignore(nuts / "nut" / "train" / "good" / "000_ignore.png", corner(6, 8, (1, 1)))
    source = Source("mvtec_ad", nuts, ignore="nut/{split}/{name}_ignore.png")
    assert list_categories(source) == ["nut"]
    assert [sample.ignore for sample in list_samples(source, "nut", "train")][:2] == [
        "nut/train/good/000_ignore.png",
        None,
    ]


@pytest.mark.parametrize("pattern", ["{category}/train/good/a.png", "{category}/{split}/{name}_ignore.png"])
def test_masks_among_the_images_are_no_images(nuts: Path, pattern: str) -> None:
    ids = [sample.sample_id for sample in list_samples(Source("mvtec_ad", nuts), "nut", "train")]
    for name in ids:
        write_ignore(nuts / pattern.format(category="nut", split="train", name=name), corner(6, 8, (1, 1)))
    samples = list_samples(Source("mvtec_ad", nuts, ignore=pattern), "nut", "train")
    assert [sample.sample_id for sample in samples] == ids and all(sample.ignore for sample in samples)


def test_no_image_is_its_own_mask(nuts: Path) -> None:
    source = Source("mvtec_ad", nuts, ignore="{category}/{split}/{name}.png")
    with pytest.raises(DataError, match=r"takes nut/train/good/000\.png, an image of nut/train, for its own mask"):
        list_samples(source, "nut", "train")


def test_doubtful_masks_are_named_once(nuts: Path, caplog: pytest.LogCaptureFixture) -> None:
    # Painted in black on transparent ground: no color is above 0.
    cv2.imwrite(
        str(nuts / "ignore" / "nut.png"), np.dstack([np.zeros((6, 8, 3), np.uint8), corner(6, 8, (3, 4)) * 255])
    )
    samples = read_samples(trees.index(nuts, "train", ignore="ignore/{category}.png"))
    assert all(sample.ignored is None for sample in samples)
    assert "1 mask of ignored pixels ignores nothing. Pixels above 0 are ignored" in caplog.text
    write_ignore(nuts / "ignore" / "nut.jpg", corner(6, 8, (3, 4)))
    trees.index(nuts, "train", ignore="ignore/{category}.jpg")
    assert "1 mask of ignored pixels was saved with loss" in caplog.text


def test_masks_that_cannot_be_used_are_listed(nuts: Path, tmp_path: Path) -> None:
    source = Source("mvtec_ad", nuts, ignore="ignore/{name}.png")
    write_ignore(nuts / "ignore" / "crack" / "000.png", corner(6, 8, (2, 2)))
    write_ignore(nuts / "ignore" / "crack" / "001.png", np.ones((6, 8), bool))
    (nuts / "ignore" / "good").mkdir()
    (nuts / "ignore" / "good" / "000.png").write_bytes(b"no image")
    with pytest.raises(DataError) as raised:
        index_split(tmp_path / "samples.parquet", source, category="nut", split="test")
    text = str(raised.value)
    assert "1 mask of ignored pixels is of another size than its image. Make both the same:" in text
    assert "000.png: 8 x 6 pixels; the image nut/test/crack/000.png has 8 x 10" in text
    assert "1 image is ignored completely" in text and "nut/test/crack/001.PNG, by " in text
    assert "1 mask of ignored pixels cannot be read" in text


def test_a_defect_that_is_ignored_completely_is_pointed_out(nuts: Path, caplog: pytest.LogCaptureFixture) -> None:
    (nuts / "nut" / "test" / "crack" / "000.png").unlink()
    (nuts / "nut" / "ground_truth" / "crack" / "000_mask.png").unlink()
    # The mask marks rows 1 and 2, columns 2 and 3.
    samples = read_samples(trees.index(nuts, "test", ignore="ignore/{category}.png"))
    assert [sample.label for sample in samples] == ["anomalous", "normal"]
    assert "1 defective image has its defects in ignored pixels alone" in caplog.text
    assert "nut/test/crack/001.PNG" in caplog.text
    assert "nut/ignore" not in caplog.text and "not used" not in caplog.text


def test_data_check_says_how_much_is_ignored(nuts: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (nuts / "nut" / "test" / "crack" / "000.png").unlink()
    (nuts / "nut" / "ground_truth" / "crack" / "000_mask.png").unlink()
    config = tmp_path / "config.yaml"
    dataset = f"{{layout: mvtec_ad, root: {nuts}, splits: [test], ignore: 'ignore/{{category}}.png'}}"
    config.write_text(f"dataset: {dataset}\nrefine: {{method: none}}\n")
    assert main(["data", "check", "--configfile", str(config)]) == 0
    printed = capsys.readouterr().out
    assert "Ignored by dataset.ignore:\n  nut/train: 25 % of the pixels of 12 of 12 images\n" in printed
    assert "ignore/nut.png" not in printed, "used"
    report = check_dataset(Source("mvtec_ad", nuts), lambda *_: (0, 0))
    assert any("ignore/nut.png" in remark.text for remark in report.remarks), "not used without dataset.ignore"


def planned(root: Path, **dataset: Any) -> Project:
    tiny = {"layout": "mvtec_ad", "root": str(root), "splits": ["test"]}
    encoder = {"name": "vit_tiny_patch16_224", "weights": "random", "input_size": 32, "blocks": [1, 3]}
    return Project(
        parse({"dataset": tiny | dataset, "encoder": encoder, "refine": {"method": "none"}}), remembers=False
    )


def test_a_path_without_any_mask_stops_the_plan(nuts: Path) -> None:
    check_plan(planned(nuts, ignore="ignore/{category}.png"))
    with pytest.raises(ConfigError, match=r"dataset.ignore: found 'mask/{category}.png', which no image of nut has a "):
        check_plan(planned(nuts, ignore="mask/{category}.png"))
    with pytest.raises(ConfigError, match=r"such as .*/x/train/good/000.png|such as .*/x/test/crack/000.png"):
        check_plan(planned(nuts, ignore="x/{split}/{name}.png"))
    with pytest.raises(ConfigError, match=r"dataset.ignore: .*unknown {image}; expected {category}, {split}, {name}"):
        parse({"dataset": {"ignore": "ignore/{image}.png"}})


def test_one_category_may_have_no_mask_unless_each_image_may_have_one(nuts: Path) -> None:
    for n in range(3):
        trees.write_image(nuts / "bolt" / "train" / "good" / f"{n:03}.png")
        trees.write_image(nuts / "bolt" / "test" / "good" / f"{n:03}.png")
    check_plan(planned(nuts, ignore="ignore/{category}.png"))
    write_ignore(nuts / "each" / "nut" / "good" / "000.png", corner(6, 8, (1, 1)))
    with pytest.raises(ConfigError, match="which no image of bolt has a file for"):
        check_plan(planned(nuts, ignore="each/{category}/{name}.png"))


def test_packs_have_no_masks_of_single_images(nuts: Path) -> None:
    with pytest.raises(ConfigError, match=r"dataset.ignore: found {name} in the path"):
        check_pack(planned(nuts, ignore="ignore/{name}.png"), "inp_former", "nut")


# From images to maps.


def sample(
    name: str = "a", ignored: np.ndarray | None = None, size: tuple[int, int] = (4, 4), **other: Any
) -> IndexedSample:
    values = {"label": None, "defect": None, "mask": None} | other
    png = None if ignored is None else encode(ignored)
    return IndexedSample(name, "test", f"{name}.png", **values, height=size[0], width=size[1], ignored=png)


def test_tiles_do_not_depend_on_what_ignored_pixels_show(tmp_path: Path) -> None:
    rng = np.random.default_rng(0)
    ignored = corner(48, 64, (20, 30))
    pixels = rng.integers(0, 256, (48, 64, 3), dtype=np.uint8)
    write_samples(tmp_path / "samples.parquet", [sample(ignored=ignored, size=(48, 64))])
    stores = []
    for number in range(2):
        pixels[ignored] = rng.integers(0, 256, (600, 3))
        cv2.imwrite(str(tmp_path / "a.png"), pixels)
        store = TileStore(tmp_path / f"{number}.npy", tmp_path / f"{number}.parquet")
        crop_split(tmp_path / "samples.parquet", tmp_path, store, Cutting(32, 0.0, "pad", 16))
        stores.append(open_tiles(store.tiles, store.table))
    (first, rows), (second, _) = stores
    assert (first == second).all() and len(rows) == 4
    # Windows of 32 x 32 at (0, 0), (32, 0), (0, 32) and (32, 32): the first one alone has ignored pixels.
    assert [png is not None for png in rows["ignored"]] == [True, False, False, False]
    assert (decode(rows["ignored"][0]) == corner(32, 32, (20, 30))).all()


def test_tables_of_tiles_without_ignored_pixels_are_as_ever(tmp_path: Path) -> None:
    cv2.imwrite(str(tmp_path / "a.png"), np.zeros((4, 4, 3), np.uint8))
    write_samples(tmp_path / "samples.parquet", [sample()])
    store = TileStore(tmp_path / "t.npy", tmp_path / "t.parquet")
    crop_split(tmp_path / "samples.parquet", tmp_path, store, Cutting("image", 0.0, "pad", 4))
    assert "ignored" not in pd.read_parquet(store.table)


def raw_maps(folder: Path, name: str, values: np.ndarray, ignored: np.ndarray | None) -> TileMaps:
    """Raw maps (n, 4, 4) of images "a", "b", ... of one tile each, all with the same ignored pixels."""
    maps = TileMaps(folder / f"{name}.npy", folder / f"{name}_tiles.parquet")
    np.save(maps.maps, values.astype(np.float32))
    place = {"row": 0, "col": 0, "x": 0, "y": 0, "width": 4, "height": 4}
    names = [chr(ord("a") + n) for n in range(len(values))]
    table = pd.DataFrame({"tile": range(len(values)), "sample_id": names, **place})
    if ignored is not None:
        table["ignored"] = encode(ignored)
    write_table(maps.table, table)
    return maps


def test_the_range_is_that_of_the_pixels_that_count(tmp_path: Path) -> None:
    """Values from 10 to 20; a 99 and a 1 lie in the ignored corner."""
    ignored = corner(4, 4, (2, 2))
    values = np.full((2, 4, 4), 12.0)
    values[0, 3, 3], values[1, 2, 2] = 20, 10
    values[0, 0, 0], values[1, 1, 1] = 99, 1
    write_samples(tmp_path / "s.parquet", [sample("a", ignored), sample("b", ignored)])
    maps = raw_maps(tmp_path, "maps", values, ignored)
    merge_split(
        tmp_path / "s.parquet", maps, maps.maps, tmp_path / "out", scale=1.0, blend="mean", range_table=maps.table
    )
    first, second = (read_map(tmp_path / "out" / f"{name}.tiff") for name in "ab")
    assert (first[ignored] == 0).all() and (second[ignored] == 0).all()
    assert (first[3, 3], second[2, 2], first[3, 0]) == (255, 0, 51)


def test_the_narrow_rest_of_a_tile_does_not_set_the_range(tmp_path: Path) -> None:
    """Of the second tile less than half of each map pixel counts; of the last images that is so everywhere."""
    rest = np.ones((4, 4), bool)
    rest[:, 3] = False
    values = np.stack([np.linspace(10, 20, 4).reshape(2, 2), np.full((2, 2), 1.0), np.full((2, 2), 99.0)])
    maps = raw_maps(tmp_path, "maps", values, None)
    regions = [encode(corner(4, 4, (2, 2))), encode(rest), None]
    write_table(maps.table, pd.read_parquet(maps.table).assign(ignored=regions)[:2])
    np.save(maps.maps, values[:2].astype(np.float32))
    scaling = scaling_of(maps.maps, maps.table)
    assert (scaling.low, scaling.factor) == pytest.approx((10 + 10 / 3, 255 / (20 - 10 - 10 / 3)))
    write_table(maps.table, pd.read_parquet(maps.table).assign(ignored=encode(rest)))
    values[:, :, 1] = [[3, 4], [5, 7], [0, 0]]
    np.save(maps.maps, values[:2].astype(np.float32))
    scaling = scaling_of(maps.maps, maps.table)
    assert (scaling.low, scaling.factor) == pytest.approx((3, 255 / 4))


STRIP = np.ones((4, 6), bool)
STRIP[:, 3:] = False


def two_tiles(folder: Path, ignored: np.ndarray) -> TileMaps:
    """Two tiles of 4 x 4 pixels that overlap by two, with raw maps of 1, and from 10 to 20."""
    maps = TileMaps(folder / "two.npy", folder / "two.parquet")
    values = np.stack([np.ones((4, 4)), np.tile([10, 20, 10, 10], (4, 1))]).astype(np.float32)
    np.save(maps.maps, values)
    windows = [Window(0, col, 2 * col, 0, 4, 4) for col in (0, 1)]
    rows = {"tile": range(2), "sample_id": "a", "row": 0, "col": range(2), "x": [0, 2], "y": 0, "width": 4, "height": 4}
    regions = [tile_ignored(encode(ignored), window) for window in windows]
    write_table(maps.table, pd.DataFrame(rows).assign(ignored=regions, score=[30.0, 20.0]))
    return maps


def test_other_tiles_show_the_narrow_rest_of_a_tile(tmp_path: Path) -> None:
    """Of the first of two tiles one column counts, which the second one sees too: map, range and score are its."""
    ignored = STRIP
    write_samples(tmp_path / "s.parquet", [sample("a", ignored, (4, 6))])
    maps = two_tiles(tmp_path, ignored)
    merge_split(
        tmp_path / "s.parquet", maps, maps.maps, tmp_path / "out", scale=1.0, blend="mean", range_table=maps.table
    )
    assert read_map(tmp_path / "out" / "a.tiff").tolist() == [[0, 0, 0, 255, 0, 0]] * 4
    assert detector_scores(maps.table, ["a"]) == [20]
    # With half of its columns, or with one that no other tile sees, it has a part in the map.
    half = ignored.copy()
    half[:, 2] = False
    half[0, 1] = False
    maps = two_tiles(tmp_path, half)
    assert scaling_of(maps.maps, maps.table).low == 1 and detector_scores(maps.table, ["a"]) == [30]
    places = ((0, 0, 4, 4), (2, 0, 4, 4))
    regions = [tile_ignored(encode(ignored), Window(0, 0, *place)) for place in places]
    assert contributing(places, tuple(regions)) == (False, True)
    assert contributing(((0, 0, 4, 4), (4, 0, 4, 4)), (regions[0], None)) == (True, True)
    # Of two that see the same, one stays; of one that is ignored completely nothing does.
    assert contributing((places[0],) * 2, (regions[0],) * 2) == (True, False)
    assert contributing(((0, 0, 4, 4), (8, 0, 4, 4)), (encode(np.ones((4, 4), bool)), None)) == (False, True)


def test_a_hole_between_tiles_is_filled_from_the_nearest_tile() -> None:
    """The fourth tile of a 2 x 2 grid is missing; tiles of 5 pixels have 2 x 2 map pixels, the map 5 x 5."""
    places = [(0, 0, 5, 5), (5, 0, 5, 5), (0, 5, 5, 5)]
    maps = [np.full((2, 2), value, np.float16) for value in (1, 2, 3)]
    merged = merged_map(maps, places, (10, 10), Scaling(0.0, 1.0), scale=0.5, blend="mean")
    # Rounding leaves the last row and the last column without a tile.
    assert merged[:2].tolist() == [[1, 1, 2, 2, 2]] * 2
    assert merged[2:, :2].tolist() == [[3, 3]] * 3
    assert (merged[2, 3:] == 2).all() and (merged[3:, 2] == 3).all(), "next to one of the tiles"
    assert np.isin(merged[2:, 2:], (2, 3)).all()


def test_a_map_of_which_hardly_anything_is_left_keeps_it(tmp_path: Path) -> None:
    # Three quarters of each pixel of the first column are ignored, and all of the second.
    ignored = np.ones((4, 4), bool)
    ignored[::2, 0] = False
    write_samples(tmp_path / "s.parquet", [sample("a", ignored)])
    maps = raw_maps(tmp_path, "maps", np.arange(1, 5).reshape(1, 2, 2), ignored)
    merge_split(tmp_path / "s.parquet", maps, None, tmp_path / "out", scale=0.5, blend="mean")
    assert read_map(tmp_path / "out" / "a.tiff").tolist() == [[1, 0], [3, 0]]


def test_a_map_of_which_nothing_is_left_is_an_error(tmp_path: Path) -> None:
    ignored = np.ones((4, 4), bool)
    write_samples(tmp_path / "s.parquet", [sample("a", ignored)])
    maps = raw_maps(tmp_path, "maps", np.ones((1, 2, 2)), ignored)
    with pytest.raises(DataError, match=r"a\.png: dataset\.ignore leaves none of its 2 x 2 map pixels"):
        merge_split(tmp_path / "s.parquet", maps, None, tmp_path / "out", scale=0.5, blend="mean")


def test_scores_and_limits_leave_ignored_pixels_out(tmp_path: Path) -> None:
    """A quarter of 16 pixels is ignored; the highest quarter of the other 12 are 3 pixels."""
    values = np.arange(16, dtype=np.float16).reshape(4, 4)
    ignored = np.zeros((4, 4), bool)
    ignored[3] = True
    assert image_score(values, 0.25) == 13.5
    assert image_score(values, 0.25, ignored) == 10
    assert image_score(values, 0.0, ignored) == 11

    write_samples(tmp_path / "s.parquet", [sample("a", ignored)])
    maps = raw_maps(tmp_path, "maps", values[None], ignored)
    merge_split(tmp_path / "s.parquet", maps, None, tmp_path / "maps", scale=1.0, blend="mean")
    write_mask(tmp_path / "masks" / "a.png", NOTHING)
    score_images(
        tmp_path / "s.parquet",
        tmp_path / "maps",
        tmp_path / "masks",
        maps.table,
        tmp_path / "scores.parquet",
        Scoring(0.25, "none"),
    )
    assert pd.read_parquet(tmp_path / "scores.parquet")["score"].tolist() == [10]

    # Held-out maps are 10 higher; their ignored pixels are 999.
    held_values = np.where(ignored, 999, values + 10)
    held = HeldOut(
        tmp_path / "s.parquet", raw_maps(tmp_path, "held", held_values[None], ignored), None, tmp_path / "held.parquet"
    )
    judge_split(
        tmp_path / "s.parquet",
        tmp_path / "maps",
        maps.table,
        held,
        tmp_path / "v.parquet",
        Judging(0.25, 0.0, 1.0, "mean"),
    )
    verdicts = pd.read_parquet(tmp_path / "v.parquet")
    assert (verdicts["score"][0], verdicts["limit"][0]) == (10, 20)


# Masks.


def binarized(
    folder: Path, values: np.ndarray, ignored: np.ndarray | None, **options: Any
) -> tuple[pd.Series, np.ndarray]:
    write_samples(folder / "s.parquet", [sample("a", ignored, values.shape)])
    write_map(folder / "maps" / "a.tiff", values)
    split = SplitMaps(folder / "s.parquet", folder / "maps")
    binarize_split(split, split, folder / "masks", folder / "t.parquet", Thresholding(**options))
    return pd.read_parquet(folder / "t.parquet").iloc[0], read_written_mask(
        folder / "masks" / "a.png", stage="binarize"
    )


def test_thresholds_are_those_of_the_pixels_that_count(tmp_path: Path) -> None:
    rng = np.random.default_rng(0)
    values = (rng.random((16, 16)) * 200).astype(np.float16)
    ignored = corner(16, 16, (16, 10))
    values[ignored] = 0
    row, mask = binarized(tmp_path, values, ignored, method="mean_std", std_factor=1.0, erosion_size=1)
    kept = values[~ignored].astype(np.float64)
    assert row["threshold"] == pytest.approx(kept.mean() + kept.std(), rel=1e-6)
    assert mask.any() and not mask[ignored].any()
    row, _ = binarized(
        tmp_path, values, ignored, method="percentile", percentile=90.0, percentile_factor=1.0, erosion_size=1
    )
    assert row["threshold"] == pytest.approx(np.percentile(kept, 90), rel=1e-6)


def test_closing_does_not_fill_ignored_pixels(tmp_path: Path) -> None:
    values = np.full((16, 16), 1, np.float16)
    values[4:12, 4:12] = 100
    ignored = np.zeros((16, 16), bool)
    ignored[7:9, 7:9] = True
    values[ignored] = 0
    options = {
        "method": "percentile",
        "percentile": 50.0,
        "percentile_factor": 1.0,
        "closing_sizes": [5],
        "erosion_size": 1,
    }
    _, closed = binarized(tmp_path / "all", values, None, **options)
    _, mask = binarized(tmp_path / "kept", values, ignored, **options)
    assert closed[ignored].all() and not mask[ignored].any()
    assert mask[4:12, 4:12][~ignored[4:12, 4:12]].all()


def test_refinement_does_not_grow_into_ignored_pixels(tmp_path: Path) -> None:
    """A bright square, the right half of which is ignored, and a coarse mask around it."""
    image = np.full((40, 40, 3), 60, np.uint8)
    image += np.random.default_rng(0).integers(0, 9, image.shape, dtype=np.uint8)
    image[10:30, 10:30] = 240
    cv2.imwrite(str(tmp_path / "a.png"), image)
    coarse = np.zeros((40, 40), bool)
    coarse[8:32, 8:20] = True
    ignored = np.zeros((40, 40), bool)
    ignored[:, 18:] = True
    masks = []
    for number, region in enumerate((None, ignored)):
        write_samples(tmp_path / "s.parquet", [sample("a", region, (40, 40))])
        write_mask(tmp_path / "coarse" / "a.png", coarse)
        refine_split(tmp_path / "s.parquet", tmp_path, tmp_path / "coarse", tmp_path / f"{number}", Refining("grabcut"))
        masks.append(read_written_mask(tmp_path / f"{number}" / "a.png", stage="refine"))
    assert masks[0][ignored].any() and not masks[1][ignored].any()
    assert masks[1][12:28, 12:18].all()


# Metrics.


def test_metrics_are_those_of_the_pixels_that_count(tmp_path: Path) -> None:
    """Compared with scikit-learn on the pixels that are left; a defect that is ignored completely leaves its label."""
    rng = np.random.default_rng(0)
    size = (24, 32)
    ignored = corner(*size, (24, 12))
    boxes = {"a": (4, 4, 10, 20), "b": (2, 2, 8, 8), "c": None}
    samples, kept_maps, kept_truth, kept_final = [], [], [], []
    for name, corners in boxes.items():
        truth = box(size, corners)
        values = (rng.random(size) * 100 + 80 * truth).astype(np.float16)
        values[ignored] = 0
        final = values > 90
        write_map(tmp_path / "maps" / f"{name}.tiff", values)
        write_mask(tmp_path / "masks" / f"{name}.png", final)
        label = {"label": "anomalous" if corners else "normal", "mask": f"{name}_mask.png" if corners else None}
        write_mask(tmp_path / f"{name}_mask.png", truth)
        samples.append(sample(name, ignored, size, defect="bad", **label))
        for parts, part in ((kept_maps, values), (kept_truth, truth), (kept_final, final)):
            parts.append(part[~ignored])
    write_samples(tmp_path / "s.parquet", samples)
    scores = {"sample_id": list("abc"), "rescored": [3.0, 1.0, 2.0], "is_anomalous": [True, True, False]}
    write_table(tmp_path / "scores.parquet", pd.DataFrame(scores))
    files = SplitFiles(
        tmp_path / "s.parquet", tmp_path, tmp_path / "maps", tmp_path / "masks", tmp_path / "scores.parquet"
    )
    evaluate_split(files, tmp_path / "m.parquet", tmp_path / "c.parquet", EvaluatedRun("d", "c", "s"))
    row = pd.read_parquet(tmp_path / "m.parquet").iloc[0]

    values, truth, final = (np.concatenate(parts) for parts in (kept_maps, kept_truth, kept_final))
    assert row["pixel_auroc"] == pytest.approx(roc_auc_score(truth, values))
    assert row["pixel_ap"] == pytest.approx(average_precision_score(truth, values))
    assert row["seg_f1"] == pytest.approx(f1_score(truth, final))
    assert (row["anomalous_images"], row["defects"]) == (2, 1), "of b's defect nothing is left"
    assert row["image_auroc"] == 0.5, "b stays anomalous"


def test_a_region_that_is_cut_up_stays_one(tmp_path: Path) -> None:
    """A defect of 9 pixels in a row, the middle one ignored, of which half of the rest lies above all normal pixels.

    The curve of AU-PRO then starts at 0.5 and reaches 1 where all normal pixels are reached: up to 30 % it is 0.5.
    """
    truth, ignored = np.zeros((3, 9), bool), np.zeros((3, 9), bool)
    truth[1], ignored[1, 4] = True, True
    values = np.full((3, 9), 5, np.float16)
    values[1] = [9, 9, 9, 9, 0, 1, 1, 1, 1]
    write_map(tmp_path / "maps" / "a.tiff", values)
    write_mask(tmp_path / "masks" / "a.png", truth)
    write_mask(tmp_path / "truth.png", truth)
    label = {"label": "anomalous", "defect": "bad", "mask": "truth.png"}
    write_samples(tmp_path / "s.parquet", [sample("a", ignored, (3, 9), **label)])
    write_table(
        tmp_path / "scores.parquet", pd.DataFrame({"sample_id": ["a"], "rescored": [1.0], "is_anomalous": [True]})
    )
    files = SplitFiles(
        tmp_path / "s.parquet", tmp_path, tmp_path / "maps", tmp_path / "masks", tmp_path / "scores.parquet"
    )
    evaluate_split(files, tmp_path / "m.parquet", tmp_path / "c.parquet", EvaluatedRun("d", "c", "s"))
    row = pd.read_parquet(tmp_path / "m.parquet").iloc[0]
    assert row["defects"] == 1
    assert row["aupro_0.30"] == pytest.approx(0.5)


def test_a_region_that_is_ignored_beside_another_divides_nothing_by_zero() -> None:
    mask = np.array([[True, False, True, True]])
    counts = PixelCounts()
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        counts.add(np.array([[1, 2, 3, 3]], np.float16), mask, np.array([[True, False, False, False]]))
    assert (counts.regions, counts.coverage.sum()) == (1, 1.0)


# The report.


def test_the_report_shows_what_is_ignored(tmp_path: Path) -> None:
    images = [
        Made("bad/000", "anomalous", truth=(8, 8, 24, 40), final=(8, 8, 24, 24), score=3.0),
        Made("good/000", score=1.0),
    ]
    root, run = tmp_path / "data", tmp_path / "shop" / "alpha"
    write_data(root, run.parent, "nut", "test", images)
    write_run(run, "nut", "test", images)
    table = run.parent / "samples" / "nut" / "test.parquet"
    # Columns 24 to 96 of the defect and of the image are ignored: what is left of the defect is found exactly.
    ignored = np.zeros((96, 128), bool)
    ignored[:, 24:96] = True
    first, second = read_samples(table)
    write_samples(table, [IndexedSample(**{**vars(first), "ignored": encode(ignored)}), second])
    outputs = report_files(tmp_path / "report")
    build_report([made_files(run, "nut", "test")], outputs, made_facts(root, "alpha"), images=5, vis="split")
    page = outputs.page.read_text()
    assert 'data-layer="ignored"' in page
    outlines = (outputs.assets / "001" / "ignored-0.js").read_text()
    assert outlines.count("M") == 1 and "null" in outlines
    assert '"ignored":[0.5625,null]' in (outputs.assets / "001" / "samples.js").read_text()
    assert pd.read_csv(outputs.images)["seg_f1"][0] == 1

    write_samples(table, [first, second])
    build_report([made_files(run, "nut", "test")], outputs, made_facts(root, "alpha"), images=5, vis="split")
    assert 'data-layer="ignored"' not in outputs.page.read_text()
    assert not (outputs.assets / "001" / "ignored-0.js").exists()


# MuSc's own scores.


def test_muscs_own_score_is_that_of_the_pixels_that_count(tmp_path: Path) -> None:
    rng = np.random.default_rng(0)
    np.save(tmp_path / "t.npy", rng.integers(0, 256, (3, 64, 64, 3), dtype=np.uint8))
    place = {"row": 0, "col": 0, "x": 0, "y": 0, "width": 64, "height": 64}
    table = pd.DataFrame({"tile": range(3), "sample_id": list("abc"), **place})
    encoder = {"name": "vit_tiny_patch16_224", "weights": "random", "input_size": 64, "blocks": [1]}
    options = {"neighborhood_sizes": [1], "averaged_fraction": [0.0, 1.0], "subsets": 1, "seed": 0, "memory_gb": 1.0}
    paths = [tmp_path / name for name in ("t.npy", "t.parquet", "maps.npy", "maps.parquet")]
    job = infer_job(*paths, encoder=encoder, window="image", scale=1.0, **options)
    tables, maps = [], []
    for ignored in (None, corner(64, 64, (64, 40))):
        write_table(paths[1], table if ignored is None else table.assign(ignored=encode(ignored)))
        infer_musc(job)
        tables.append(pd.read_parquet(paths[3]))
        maps.append(np.load(paths[2]).astype(np.float32))
    assert tables[0]["score"].to_numpy() == pytest.approx(maps[0].max((1, 2)), rel=1e-3)
    assert tables[1]["score"].to_numpy() == pytest.approx(maps[1][:, :, 40:].max((1, 2)), rel=1e-3)


def test_musc_compares_with_no_ignored_token() -> None:
    """Against all distances to the tokens that are left; one tile of the second image is ignored completely."""
    rng = np.random.default_rng(0)
    values = rng.standard_normal((4, 4, 5)).astype(np.float32)
    values /= np.linalg.norm(values, axis=-1, keepdims=True)
    images = np.array([0, 1, 1, 2])
    ignored = rng.random((4, 4)) > 0.5
    ignored[1], ignored[2, 0], ignored[[0, 3], 1] = True, False, False
    scoring = MuscScoring(
        [1], (0.0, 1.0), [np.arange(3)], 10**9, lambda *_: torch.empty(0), torch.device("cpu"), torch.float32
    )
    (scores,) = mutual_scores([torch.from_numpy(values)], images, 2, scoring, ignored=ignored)
    for tile, token in np.argwhere(~ignored):
        nearest = [
            np.linalg.norm(values[images == other][~ignored[images == other]] - values[tile, token], axis=1).min()
            for other in {0, 1, 2} - {images[tile]}
        ]
        assert scores[tile, token] == pytest.approx(np.mean(nearest), abs=1e-5)
    ignored[2] = True
    with pytest.raises(DataError, match=r"dataset\.ignore: leaves none of the tokens of an image"):
        next(mutual_scores([torch.from_numpy(values)], images, 2, scoring, ignored=ignored))


# Maps of tokens, and what detectors learn from.


def test_scores_of_ignored_tokens_spread_nothing() -> None:
    scores = torch.tensor([[[9.0, 2.0], [3.0, 4.0]], [[1.0, 2.0], [3.0, 4.0]]])
    ignored = torch.tensor([[[True, False], [False, False]], [[True, True], [True, True]]])
    assert lowest_where(ignored, scores).tolist() == [[[2, 2], [3, 4]], [[0, 0], [0, 0]]]
    assert lowest_where(None, scores) is scores


def test_ignored_tokens_have_no_loss_and_no_gradient() -> None:
    """The loss of the tokens that are left alone; an image without any has none."""
    rng = torch.Generator().manual_seed(0)
    encoded, decoded = (torch.randn(3, 6, 4, generator=rng, dtype=torch.float64) for _ in range(2))
    kept = torch.tensor([[True, False, True, True, False, True]] * 2 + [[False] * 6])
    for loss in (
        lambda *maps: soft_mining_loss(*maps[:2], 3.0, *maps[2:]),
        lambda *maps: DinomalyLoss(0.5, 0.1, 1)((maps[0], maps[1]), 1, *maps[2:])[0],
    ):
        whole, part = decoded.clone().requires_grad_(), decoded[:2][:, kept[0]].clone().requires_grad_()
        of_all = loss([encoded], [whole], kept)
        alone = loss([encoded[:2][:, kept[0]]], [part])
        of_all.backward()
        alone.backward()
        assert of_all.item() == pytest.approx(alone.item())
        assert torch.equal(whole.grad[~kept], torch.zeros(10, 4, dtype=torch.float64))
        assert torch.allclose(whole.grad[:2][:, kept[0]], part.grad)
    x, inps = encoded, decoded[:, :2]
    expected = (1 - F.cosine_similarity(x[:2, :, None], inps[:2, None], dim=-1).amax(-1))[kept[:2]].mean()
    assert coherence_loss(x, inps, kept).item() == pytest.approx(expected.item())


SIZE, GRID = 64, 4


@pytest.fixture(scope="module")
def tiles(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Three tiles of noise, of which the first has its left half ignored, the third a quarter."""
    folder = tmp_path_factory.mktemp("tiles")
    rng = np.random.default_rng(0)
    np.save(folder / "t.npy", rng.integers(0, 256, (3, SIZE, SIZE, 3), dtype=np.uint8))
    place = {"row": 0, "col": 0, "x": 0, "y": 0, "width": SIZE, "height": SIZE}
    table = pd.DataFrame({"tile": range(3), "sample_id": list("abc"), **place})
    write_table(folder / "none.parquet", table)
    pngs = [encode(corner(SIZE, SIZE, (SIZE, SIZE // 2))), None, encode(corner(SIZE, SIZE, (SIZE // 2, SIZE // 2)))]
    write_table(folder / "some.parquet", table.assign(ignored=pngs))
    return folder


KEPT = np.ones((3, GRID, GRID), bool)
KEPT[0, :, :2], KEPT[2, :2, :2] = False, False
ENCODER = {"name": "vit_tiny_patch16_224", "weights": "random", "input_size": SIZE, "blocks": [1]}
SUPERADD = {
    "rounds": 1,
    "redraw_subsets": False,
    "neighbors": 3,
    "radius_growth": 1.1,
    "brightness_jitter": 0.0,
    "overlap": 0.0,
    "image_scale": 1.0,
    "seed": 0,
    "memory_gb": 1.0,
    "bank_size": 1000,
}
BANKS: dict[str, tuple[Any, dict[str, Any]]] = {
    "patchcore": (patchcore, {"coreset_fraction": 1.0, "start_points": 2, "projected_width": 8, "seed": 0}),
    "anomalydino": (anomalydino, {"shots": 0, "reference_seed": 0, "references": [], "rotations": 0}),
    "superadd": (superadd, SUPERADD | {"window": SIZE}),
    "superadd, joined": (superadd, SUPERADD | {"window": "joined"}),
}


def trained(train: Any, tiles: Path, table: str, folder: Path, **options: Any) -> dict[str, torch.Tensor]:
    model = folder / f"{table}.safetensors"
    train(
        train_job(tiles / "t.npy", tiles / f"{table}.parquet", model, folder / "h.parquet", encoder=ENCODER, **options)
    )
    return load_file(model)


@pytest.mark.parametrize("case", BANKS)
def test_no_ignored_token_gets_into_a_bank(case: str, tiles: Path, tmp_path: Path) -> None:
    train, options = BANKS[case]
    (places, whole), (kept_places, bank) = (
        trained(train, tiles, name, tmp_path, **options).values() for name in ("none", "some")
    )
    assert len(whole) == KEPT.size
    assert torch.equal(bank, whole[torch.from_numpy(KEPT.reshape(-1))])
    of_tiles = KEPT.reshape(-1, GRID, GRID)
    assert places.tolist() == np.argwhere(np.ones_like(of_tiles)).tolist(), "tile, row, column"
    assert kept_places.tolist() == np.argwhere(of_tiles).tolist()


def test_copies_are_ignored_where_their_pixels_are(tiles: Path, tmp_path: Path) -> None:
    """A copy turned by 180 degrees: what was ignored at the left is at the right."""
    options = {"shots": 1, "reference_seed": 0, "references": ["a"], "rotations": 1}
    whole, some = (trained(anomalydino, tiles, name, tmp_path, **options) for name in ("none", "some"))
    kept = np.stack([KEPT[0], KEPT[0][::-1, ::-1]])
    assert torch.equal(some["tokens"], whole["tokens"][torch.from_numpy(kept.reshape(-1))])
    shown = np.argwhere(np.ones((1, GRID, GRID)))
    turned = [[0, GRID - 1 - row, GRID - 1 - column] for _, row, column in shown]
    assert whole["origins"].tolist() == [*shown.tolist(), *turned], "where a turned copy's tokens come from"


def test_the_subspace_is_that_of_the_tokens_that_count(tiles: Path, tmp_path: Path) -> None:
    tokens = trained(anomalydino, tiles, "none", tmp_path, **BANKS["anomalydino"][1])
    assert tokens["tokens"].shape[0] == KEPT.size
    options = {"shots": 0, "reference_seed": 0, "references": [], "rotations": 0, "explained_variance": 0.9}
    network = make_encoder(ENCODER)
    with torch.inference_mode():
        joint = joint_tokens(network, torch.from_numpy(np.load(tiles / "t.npy"))).flatten(0, 1)
    mean = trained(subspace, tiles, "some", tmp_path, **options)["mean"]
    assert torch.allclose(mean, joint[torch.from_numpy(KEPT.reshape(-1))].mean(0), atol=1e-5)


def test_a_training_of_which_nothing_is_left_is_an_error(tiles: Path, tmp_path: Path) -> None:
    table = pd.read_parquet(tiles / "none.parquet").assign(ignored=encode(np.ones((SIZE, SIZE), bool)))
    write_table(tiles / "all.parquet", table)
    for train, options in BANKS.values():
        with pytest.raises(DataError, match=r"dataset\.ignore leaves none of the tokens of the normal images"):
            trained(train, tiles, "all", tmp_path, **options)


def test_winclip_takes_no_score_and_no_reference_from_ignored_tokens(tmp_path: Path) -> None:
    """The first of four tokens is unlike any reference: the image's score is that of the others."""
    patches = F.normalize(torch.eye(4)[None], dim=-1)
    features = {"image": torch.tensor([[1.0, 0.0]]), "patches": patches}
    text = {"normal": torch.tensor([1.0, 0.0]), "anomalous": torch.tensor([0.0, 1.0])}
    references = {"patches": F.normalize(torch.eye(4)[1:] + 0.5, dim=-1)}
    options = {"grid": 2, "scales": [], "temperature": 1.0}
    ignored = torch.tensor([[[True, False], [False, False]]])
    normal = 1 / (1 + np.e)
    scores = [
        winclip_score(features, text, references, **options, ignored=region)[0].item() for region in (None, ignored)
    ]
    # Half of one minus the cosine, of (0, 1, 0, 0) and of (1, 0, 0, 0) with (0.5, 1.5, 0.5, 0.5).
    near, far = ((1 - value / 3**0.5) / 2 for value in (1.5, 0.5))
    assert scores == pytest.approx([(normal + far) / 2, (normal + near) / 2], abs=1e-5)


def test_a_tile_that_is_ignored_completely_has_no_score_by_winclip() -> None:
    features = {"image": torch.tensor([[0.0, 1.0], [0.0, 1.0]])}
    text = {"normal": torch.tensor([1.0, 0.0]), "anomalous": torch.tensor([0.0, 1.0])}
    ignored = torch.tensor([[[True, True], [True, True]], [[True, True], [True, False]]])
    scores, _ = winclip_score(features, text, grid=2, scales=[], temperature=1.0, ignored=ignored)
    assert scores.tolist() == pytest.approx([0, np.e / (1 + np.e)])


# A whole run.


def test_a_defect_that_is_ignored_is_in_no_mask_and_in_no_metric(tmp_path: Path) -> None:
    """Every image has its upper left ignored; one of two defects lies there. By the scripts of all stages."""
    rng = np.random.default_rng(0)
    ignored = corner(64, 96, (32, 48))
    places = {"a": (slice(8, 20), slice(10, 24)), "b": (slice(40, 52), slice(60, 76))}
    root = tmp_path / "data"
    write_ignore(root / "ignore" / "nut.png", ignored)
    for part in ("train/good/0", "train/good/1", "train/good/2", "test/good/0", "test/bad/a", "test/bad/b"):
        image = cv2.GaussianBlur(rng.integers(60, 140, (64, 96, 3), dtype=np.uint8), (5, 5), 1)
        name = part[-1]
        if name in places:
            image[places[name]] = 255
            truth = np.zeros((64, 96), bool)
            truth[places[name]] = True
            write_mask(root / "nut" / "ground_truth" / "bad" / f"{name}_mask.png", truth)
        path = root / "nut" / f"{part}.png"
        path.parent.mkdir(parents=True, exist_ok=True)
        cv2.imwrite(str(path), image)
    config = {
        "dataset": {
            "name": "tiny",
            "layout": "mvtec_ad",
            "root": str(root),
            "splits": ["test"],
            "ignore": "ignore/{category}.png",
        },
        "detectors": ["subspace"],
        "encoder": {"name": "vit_tiny_patch16_224", "weights": "random", "input_size": 64, "blocks": [1, 3]},
        "tiling": {"window": 32, "overlap": 0.25, "edge": "shift"},
        "subspace": {"shots": 0},
        "merge": {"scale": 0.5, "normalize": "validation"},
        "binarize": {"method": "mean_std", "std_factor": 1.0, "calibrate": "validation", "erosion_size": 1},
        "refine": {"method": "grabcut"},
        "score_images": {"top_fraction": 0.01},
    }
    jobs = ScriptJobs(config, tmp_path / "results")
    check_plan(jobs.project)
    ranges = [str(jobs.place(results.TILE_MAPS, "subspace", "validation"))]
    for split in ("validation", "test"):
        jobs.finish("subspace", split)
        jobs.merge("subspace", split, ranges)
    jobs.masks("subspace", "test", ranges)

    def place(pattern: str) -> Path:
        return jobs.place(pattern, "subspace", "test")

    inputs = {
        "samples": results.SAMPLES,
        "maps": results.ANOMALY_MAPS,
        "masks": results.MASKS,
        "scores": results.IMAGE_SCORES,
    }
    outputs = {"metrics": place(results.METRICS), "curves": place(results.CURVES)}
    jobs.run(
        "evaluate",
        {name: place(pattern) for name, pattern in inputs.items()},
        outputs,
        detector="subspace",
        split="test",
    )

    values, truths, finals = [], [], []
    for image in read_samples(place(results.SAMPLES)):
        anomaly_map = read_map(place(results.ANOMALY_MAPS) / f"{image.sample_id}.tiff")
        final = read_written_mask(place(results.MASKS) / f"{image.sample_id}.png", stage="refine")
        assert not anomaly_map[:16, :24].any() and not final[:16, :24].any(), image.sample_id
        truth = np.zeros((64, 96), bool)
        if image.sample_id == "bad/b":
            truth[places["b"]] = True
            assert final[21:25, 31:37].all()
        values.append(resize_map(anomaly_map, 64, 96)[~ignored])
        truths.append(truth[~ignored])
        finals.append(final.repeat(2, 0).repeat(2, 1)[~ignored])
    row = pd.read_parquet(place(results.METRICS)).iloc[0]
    value, truth, final = (np.concatenate(parts) for parts in (values, truths, finals))
    assert row["pixel_auroc"] == pytest.approx(roc_auc_score(truth, value))
    assert row["pixel_ap"] == pytest.approx(average_precision_score(truth, value))
    assert row["seg_f1"] == pytest.approx(f1_score(truth, final))
    assert (row["defects"], row["anomalous_images"]) == (1, 2)
