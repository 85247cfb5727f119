"""`robis data check`: counts worked out by hand, all problems at the end, nothing written."""

from __future__ import annotations

import re
from pathlib import Path

import numpy as np
import pytest
import yaml
from PIL import Image

from robis.cli import main
from robis.datasets.check import check_dataset, format_summary, size_text
from robis.datasets.samples import Source
from robis.detectors.settings import parse
from robis.workflow.tile_budget import tile_counter
from tests.unit.trees import write_image, write_mask


def mask_of(path: Path, pixels: int, height: int = 10, width: int = 10) -> None:
    """A mask whose first `pixels` pixels are marked."""
    path.parent.mkdir(parents=True, exist_ok=True)
    mask = np.zeros(height * width, np.uint8)
    mask[:pixels] = 255
    Image.fromarray(mask.reshape(height, width)).save(path)


@pytest.fixture
def root(tmp_path: Path) -> Path:
    root = tmp_path / "data"
    for n in range(3):
        write_image(root / "nut" / "train" / f"{n}.png", 10, 10)
    write_image(root / "nut" / "train" / "wide.png", 10, 40)
    write_image(root / "nut" / "test" / "good" / "0.png", 10, 10)
    for n, pixels in enumerate((1, 2, 11)):
        write_image(root / "nut" / "test" / ("crack" if n else "dent") / f"{n}.png", 10, 10)
        mask_of(root / "nut" / "masks" / f"{n}.png", pixels)
    write_image(root / "bolt" / "test" / "0.png", 7, 5)
    return root


def count_one(category: str, split: str, height: int, width: int) -> tuple[int, int]:
    return width // 10, 1000


def test_what_is_in_a_data_set(root: Path) -> None:
    summaries, problems = check_dataset(Source("folder", root), count_one, threads=2)
    assert problems == []
    by_split = {(one.category, one.split): one for one in summaries}
    assert list(by_split) == [("bolt", "test"), ("nut", "train"), ("nut", "test")]
    train, test, flat = by_split["nut", "train"], by_split["nut", "test"], by_split["bolt", "test"]
    assert (train.images, train.normal, train.anomalous, train.unlabeled) == (4, 4, 0, 0)
    assert (train.smallest, train.largest, train.sizes) == ((10, 10), (10, 40), 2)
    assert (train.tiles, train.tile_bytes) == (3 * 1 + 4, 4000)
    assert train.mask_shares is None
    assert (test.images, test.normal, test.anomalous) == (4, 1, 3)
    assert test.defects == {"crack": 2, "dent": 1}
    # Of 0.01, 0.02 and 0.11: linear between neighbors, at 0.1 and 1.9 of the way along them.
    np.testing.assert_allclose(test.mask_shares, (0.011, 0.02, 0.101))
    assert (flat.unlabeled, flat.normal, flat.smallest, flat.largest) == (1, 0, (7, 5), (7, 5))
    lines = [line.split("  ") for line in format_summary(summaries).splitlines()]
    cells = [[cell.strip() for cell in line if cell.strip()] for line in lines]
    assert cells[1] == ["bolt", "test", "1", "0", "0", "1", "5 x 7", "-", "0", "1.0 kB"]
    assert cells[2][6:] == ["10 x 10 to 40 x 10 (2 sizes)", "-", "7", "4.0 kB"]
    assert cells[3][6:] == ["10 x 10", "1.1 / 2 / 10", "4", "4.0 kB", "crack 2, dent 1"]
    assert cells[4] == ["all", "9", "5", "3", "1", "11", "9.0 kB"]


def test_all_problems_of_all_splits_come_together(root: Path) -> None:
    (root / "nut" / "train" / "1.png").write_text("text")
    write_image(root / "bolt" / "train" / "a.png")
    write_image(root / "bolt" / "train" / "a.jpg")
    mask_of(root / "nut" / "masks" / "2.png", 3, height=9)
    (root / "empty" / "train").mkdir(parents=True)
    summaries, problems = check_dataset(Source("folder", root), count_one)
    assert [(one.category, one.split, one.images) for one in summaries] == [
        ("bolt", "test", 1),
        ("nut", "train", 4),
        ("nut", "test", 4),
    ]
    assert [problem.text.replace(f"{root}/", "") for problem in problems] == [
        "bolt/train: images that differ in their suffix only would share one mask; rename one of\n"
        "  bolt/train/a.jpg and bolt/train/a.png",
        "empty: none in train, validation, test",
        "nut/train/1.png: not a readable image (unknown format).",
        "nut/masks/2.png: 10 x 9 pixels; the image has 10 x 10",
    ]


def test_tiles_are_those_of_the_config() -> None:
    """Windows of 100, step 90: 1 + ceil(150 / 90) = 3 along 250 pixels, 2 along 120."""
    base = {"tiling": {"window": 100, "overlap": 0.1}, "encoder": {"input_size": 28}}
    assert tile_counter(parse(base))("nut", "test", 120, 250) == (6, 6 * 28 * 28 * 3)
    whole = {"where": {"category": "nut"}, "set": {"tiling.window": "image"}}
    count = tile_counter(parse(base | {"overrides": [whole]}))
    assert count("nut", "test", 120, 250) == (1, 28 * 28 * 3)
    assert count("bolt", "test", 120, 250)[0] == 6
    assert tile_counter(parse({}))("nut", "test", 1024, 1025) == (2, 2 * 518 * 518 * 3), "the encoder's own size"


def test_detectors_with_other_tiles_add_up() -> None:
    both = parse({"detectors": ["inp_former", "musc"], "encoder": {"name": "dinov2_reg_vits14"}})
    assert tile_counter(both)("nut", "test", 2000, 1024) == (3 + 1, 4 * 518 * 518 * 3), "musc takes the whole image"
    same = parse(
        {"detectors": ["inp_former", "musc"], "encoder": {"name": "dinov2_reg_vits14"}, "tiling": {"window": 64}}
    )
    assert tile_counter(same)("nut", "test", 64, 64)[0] == 1, "one store serves both"


@pytest.mark.parametrize(("number", "text"), [(0, "0 B"), (999, "999 B"), (1000, "1.0 kB"), (2.5e12, "2.5 TB")])
def test_bytes_in_words(number: int, text: str) -> None:
    assert size_text(int(number)) == text


@pytest.fixture
def config(tmp_path: Path) -> Path:
    values = {
        "dataset": {"layout": "folder", "root": str(tmp_path / "data"), "splits": ["test"]},
        "tiling": {"window": 16},
        "encoder": {"input_size": 28},
        "detectors": ["musc"],
    }
    (tmp_path / "config.yaml").write_text(yaml.safe_dump(values))
    return tmp_path / "config.yaml"


def test_the_command_prints_a_table_and_writes_nothing(
    root: Path, config: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    before = sorted(root.parent.rglob("*"))
    assert main(["data", "check", "--configfile", str(config), "--threads", "1"]) == 0
    printed = capsys.readouterr().out
    assert printed.startswith(f"{root}, layout folder; tiles as {config} makes them")
    assert "crack 2, dent 1" in printed
    # Four images of one tile, one of 40 pixels: 1 + ceil(24 / 14) = 3.
    assert [line.split()[-2:] for line in printed.splitlines()][-1] == [f"{11 * 28 * 28 * 3 / 1000:.1f}", "kB"]
    assert sorted(root.parent.rglob("*")) == before


def test_the_command_ends_with_all_problems_and_exit_status_1(
    root: Path, config: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    (root / "nut" / "train" / "1.png").write_text("text")
    (root / "nut" / "masks" / "2.png").unlink()
    assert main(["data", "check", str(root), "--layout", "folder", "--configfile", str(config)]) == 1
    printed = capsys.readouterr()
    assert "crack 2, dent 1" in printed.out
    assert f"robis: {root}: 2 problems:\n1 image cannot be read" in printed.err
    assert "1 defective image has no mask" in printed.err
    for n in range(8):
        (root / "nut" / "train" / f"bad{n}.png").touch()
    arguments = ["data", "check", str(root), "--layout", "folder", "--configfile", str(config)]
    for extra, named in (([], 4), (["--all"], 8)):
        assert main([*arguments, *extra]) == 1
        assert capsys.readouterr().err.count("train/bad") == named, "with 1.png five of nine"


def test_training_images_that_a_detector_needs_are_missed(
    root: Path, config: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    config.write_text(config.read_text().replace("musc", "inp_former"))
    assert main(["data", "check", "--configfile", str(config)]) == 1
    printed = capsys.readouterr().err
    assert re.search(r"1 split cannot be listed\..*\n  bolt/train: no images in ", printed)


def test_the_command_takes_a_table_from_anywhere(
    root: Path, config: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    table = tmp_path / "list.csv"
    write_mask(tmp_path / "m.png", 10, 10)
    table.write_text("category,split,image,label,mask\nnut,night,nut/train/0.png,1,../m.png\n")
    arguments = ["data", "check", str(root), "--layout", "table", "--table", str(table), "--configfile", str(config)]
    assert main(arguments) == 1
    assert "1 path leads out of dataset.root" in capsys.readouterr().err
    assert main([*arguments, "--outside-root"]) == 0
    assert "nut       night       1" in capsys.readouterr().out
    assert main(["data", "check", str(root), "--layout", "foldr", "--configfile", str(config)]) == 1
    assert "--layout: 'foldr' is unknown. Valid: mvtec_ad_2" in capsys.readouterr().err
    root.rename(tmp_path / "gone")
    assert main(["data", "check", "--configfile", str(config)]) == 1
    assert "is not a folder" in capsys.readouterr().err
