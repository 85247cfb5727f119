"""Regions that count as normal: which tokens join a memory bank, and what makes a training stale."""

from __future__ import annotations

from dataclasses import asdict
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import pytest
import torch

from robis.detectors.settings import parse
from robis.errors import ConfigError, DataError
from robis.io.ignored import touched
from robis.tiles.allowed import AllowedImage, AllowedTiles
from robis.tiles.store import Cutting
from robis.workflow.checks import check_plan
from robis.workflow.project import Project
from tests.detector_jobs import read_banks, train_job
from tests.unit.test_ignored import BANKS, ENCODER, GRID, SIZE, tiles  # noqa: F401
from tests.unit.trees import mvtec_ad, write_image, write_mask

WHOLE = {"overlap": 0.0, "edge": "shift"}


def picture(path: Path, pixels: np.ndarray) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    cv2.imwrite(str(path), pixels.astype(np.uint8) * (255 if pixels.dtype == bool else 1))
    return path


def test_a_cell_holds_a_region_where_any_part_of_a_pixel_is_marked() -> None:
    marked = np.zeros((8, 12), bool)
    marked[3, 5] = True
    assert touched(marked, 2, 3).tolist() == [[False, True, False], [False, False, False]]
    # Rows of 8 / 3 pixels: the marked row 3 lies in the second; columns of 12 / 5 pixels: column 5 in the third.
    assert np.argwhere(touched(marked, 3, 5)).tolist() == [[1, 2]]
    marked[2] = True
    assert touched(marked, 3, 1).tolist() == [[True], [True], [False]], "row 2 lies in two cells"
    assert touched(marked, 16, 12)[4:6].all() and not touched(marked, 16, 12)[:4].any()


@pytest.mark.parametrize("case", BANKS)
def test_tokens_of_regions_follow_those_of_the_bank(case: str, tiles: Path, tmp_path: Path) -> None:  # noqa: F811
    """The image is the second training tile, whose tokens are known: 1 + 1 pixels lie in two of its 4 x 4 cells."""
    train, options = BANKS[case]
    image = picture(tmp_path / "image.png", np.load(tiles / "t.npy")[1][..., ::-1])
    regions, ignored = np.zeros((2, SIZE, SIZE), bool)
    regions[17, 16] = regions[30, 47] = True
    ignored[16:32, 32:40] = True
    cutting = Cutting("joined", **WHOLE, size=None) if "joined" in case else Cutting(SIZE, **WHOLE, size=SIZE)
    mask, other = picture(tmp_path / "mask.png", regions), picture(tmp_path / "ignored.png", ignored)

    def bank(*images: AllowedImage) -> torch.Tensor:
        allowed = tuple(asdict(of_image) for of_image in images)
        model = tmp_path / "model.safetensors"
        files = (tiles / "t.npy", tiles / "none.parquet", model, tmp_path / "h.parquet")
        train(train_job(*files, encoder=ENCODER, allowed=allowed, **options))
        return next(iter(read_banks(model).values()))

    before, after = bank(), bank(AllowedImage(image, mask, None, cutting))
    assert torch.equal(after[: len(before)], before)
    first, second = GRID * GRID + 1 * GRID + 1, GRID * GRID + 1 * GRID + 2
    torch.testing.assert_close(after[len(before) :], before[[first, second]], rtol=1e-4, atol=1e-4)
    # The second cell is ignored; the image is painted there, so the first token is another one.
    assert len(bank(AllowedImage(image, mask, other, cutting))) == len(before) + 1
    picture(tmp_path / "ignored.png", np.pad(np.ones((SIZE - 1, SIZE), bool), ((1, 0), (0, 0))))
    with pytest.raises(DataError, match=r"mask\.png: dataset\.ignore leaves none of the tokens of the regions"):
        bank(AllowedImage(image, mask, other, cutting))


def test_only_tiles_with_a_region_are_read(tmp_path: Path) -> None:
    """Windows of 32 pixels begin at 0, 32 and 48 of 80 columns, and at 0 and 18 of 50 rows; one column reaches two."""
    pixels = np.random.default_rng(0).integers(0, 256, (50, 80, 3), dtype=np.uint8)
    image, marked = picture(tmp_path / "a.png", pixels), np.zeros((50, 80), bool)
    marked[5, 50] = True
    cutting = Cutting(32, **WHOLE, size=64)
    allowed = AllowedTiles([AllowedImage(image, picture(tmp_path / "m.png", marked), None, cutting)])
    assert len(allowed) == 2
    for number, x in enumerate((32, 48)):
        expected = cv2.cvtColor(pixels, cv2.COLOR_BGR2RGB)[:32, x : x + 32]
        np.testing.assert_allclose(
            allowed[number : number + 1][0][::2, ::2].mean((0, 1)), expected.mean((0, 1)), atol=1
        )
    # Cells of 8 x 8 pixels: row 0, and columns (50 - 32) // 8 and (50 - 48) // 8.
    assert [np.flatnonzero(cells).tolist() for cells in allowed.tokens(4)] == [[2], [0]]


@pytest.mark.parametrize(
    ("mask", "message"),
    [
        (np.ones((6, 9), bool), r"m\.png: 9 x 6 pixels; the image .*a\.png has 8 x 6"),
        (np.zeros((6, 8), bool), r"m\.png: marks nothing; expected the regions of .*a\.png that count as normal"),
    ],
)
def test_masks_that_cannot_be_used_are_named(mask: np.ndarray, message: str, tmp_path: Path) -> None:
    write_image(tmp_path / "a.png")
    image = AllowedImage(tmp_path / "a.png", picture(tmp_path / "m.png", mask), None, Cutting(8, **WHOLE, size=8))
    with pytest.raises(DataError, match=message):
        AllowedTiles([image])


@pytest.fixture
def root(tmp_path: Path) -> Path:
    """Two categories, and a table beside them with a region of each."""
    mvtec_ad(tmp_path / "data")
    write_image(tmp_path / "data/bolt/train/good/0.png")
    write_image(tmp_path / "data/bolt/test/good/0.png")
    table(tmp_path, "nut,nut/test/good/000.png,m/nut.png", "bolt,bolt/test/good/0.png,m/bolt.png")
    for name in ("nut", "bolt"):
        write_mask(tmp_path / f"m/{name}.png")
    return tmp_path


def table(root: Path, *lines: str, name: str = "allowed.csv", header: str = "category,image,mask") -> None:
    (root / name).write_text("\n".join([header, *lines, ""]), encoding="utf-8")


def project(root: Path, allow: str | None = "allowed.csv", **values: Any) -> Project:
    dataset = {"layout": "mvtec_ad", "root": str(root / "data"), "splits": ["test"]}
    section = {"allow": None if allow is None else str(root / allow)}
    config = {"dataset": dataset, "detectors": ["superadd"], "superadd": section, "refine": {"method": "none"}}
    normalization = {"merge": {"normalize": "split"}, "verdict": {"limit": "none"}, "binarize": {"method": "mebin"}}
    return Project(parse(config | normalization | values), root / "results")


def trainings(*arguments: Any, **values: Any) -> dict[str, str]:
    of = project(*arguments, **values)
    return {name: repr(of.params("train", detector="superadd", category=name)) for name in ("bolt", "nut")}


def test_a_training_is_stale_by_the_content_of_its_own_categorys_regions(root: Path) -> None:
    before = trainings(root)
    assert before["nut"] != trainings(root, None)["nut"]
    # The same files elsewhere, rows in another order, and one more region of the other category.
    (root / "m/nut.png").rename(root / "n.png")
    write_mask(root / "m/second.png")
    rows = ("bolt,bolt/train/good/0.png,m/second.png", "bolt,bolt/test/good/0.png,m/bolt.png")
    table(root, *rows, "nut,nut/test/good/000.png,n.png", name="other.csv")
    after = trainings(root, "other.csv")
    assert after["nut"] == before["nut"] and after["bolt"] != before["bolt"]
    write_mask(root / "n.png", height=7)
    assert trainings(root, "other.csv")["nut"] != before["nut"]
    tiling = {"overrides": [{"where": {"split": "test"}, "set": {"tiling.window": 64}}]}
    assert trainings(root, "other.csv", **tiling)["bolt"] != after["bolt"], "tiles of the image's own split"


@pytest.mark.parametrize(
    ("lines", "message"),
    [
        (["nutt,nut/test/good/000.png,m/nut.png"], r"allowed\.csv, line 2: category 'nutt'\..* Did you mean 'nut'\?"),
        (
            ["nut,nut/test/good/00.png,m/nut.png"],
            r"'nut/test/good/00\.png' is no image of nut that .*Did you mean 'nut/",
        ),
        (["nut,nut/test/good/000.png,m/none.png"], r"line 2: there is no file .*m/none\.png"),
        (["nut,,m/nut.png"], r"superadd\.allow: .*allowed\.csv, line 2: an empty cell\. Expected a CSV with"),
    ],
)
def test_rows_that_cannot_be_used_stop_the_plan(lines: list[str], message: str, root: Path) -> None:
    check_plan(project(root))
    table(root, *lines)
    with pytest.raises((ConfigError, DataError), match=message):
        check_plan(project(root))


def test_a_table_without_the_columns_is_named(root: Path) -> None:
    table(root, header="image,mask")
    with pytest.raises(DataError, match=r"superadd\.allow: .*no column 'category'; found image, mask\. Expected a CSV"):
        check_plan(project(root))
    with pytest.raises(DataError, match=r"superadd\.allow: .*none\.csv: cannot be read \(No such file"):
        check_plan(project(root, "none.csv"))
