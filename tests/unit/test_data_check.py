"""`robis data check`: counts worked out by hand, all problems at the end, nothing written."""

from __future__ import annotations

import re
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import yaml
from PIL import Image

from robis.cli import main
from robis.datasets.check import check_dataset, format_summary, size_text
from robis.datasets.samples import Source
from robis.detectors.settings import load, parse
from robis.errors import RobisError
from robis.workflow.checks import check_plan
from robis.workflow.data_check import check_for_config
from robis.workflow.project import Project
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


@pytest.fixture
def whole(root: Path) -> Path:
    """The same with all that a detector needs to learn."""
    write_image(root / "bolt" / "train" / "0.png", 7, 5)
    return root


def count_one(category: str, split: str, height: int, width: int) -> tuple[int, int]:
    return width // 10, 1000


def test_what_is_in_a_data_set(root: Path) -> None:
    report = check_dataset(Source("folder", root), count_one, threads=2)
    summaries = report.summaries
    assert report.problems == report.elsewhere == report.remarks == []
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
    report = check_dataset(Source("folder", root), count_one)
    assert [(one.category, one.split, one.images) for one in report.summaries] == [
        ("bolt", "test", 1),
        ("nut", "train", 4),
        ("nut", "test", 4),
    ]
    assert [problem.text.replace(f"{root}/", "") for problem in report.problems] == [
        "bolt/train/a.jpg and bolt/train/a.png",
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
    joined = parse({"detectors": ["superadd"], "tiling": {"window": "joined"}})
    assert tile_counter(joined)("nut", "test", 120, 250) == (1, 120 * 250 * 3), "images as they are"
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
        "detectors": ["inp_former"],
        "refine": {"method": "none"},
    }
    (tmp_path / "config.yaml").write_text(yaml.safe_dump(values))
    return tmp_path / "config.yaml"


def total(printed: str) -> list[str]:
    """The cells of the line for all categories and splits."""
    return next(line.split() for line in printed.splitlines() if line.startswith("all "))


def test_the_command_prints_a_table_and_writes_nothing(
    whole: Path, config: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    before = sorted(whole.parent.rglob("*"))
    assert main(["data", "check", "--configfile", str(config), "--threads", "1"]) == 0
    printed = capsys.readouterr().out
    assert printed.startswith(f"{whole}, layout folder; tiles as {config} makes them")
    assert "crack 2, dent 1" in printed
    assert printed.endswith("\n\nNo problems.\n")
    # Nine images of one tile, one of 40 pixels: 1 + ceil(24 / 14) = 3.
    assert total(printed)[-2:] == [f"{12 * 28 * 28 * 3 / 1000:.1f}", "kB"]
    assert sorted(whole.parent.rglob("*")) == before


def test_the_command_ends_with_all_problems_and_exit_status_1(
    whole: Path, config: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    (whole / "nut" / "train" / "1.png").write_text("text")
    (whole / "nut" / "masks" / "2.png").unlink()
    arguments = ["data", "check", str(whole), "--layout", "folder", "--configfile", str(config)]
    assert main(arguments) == 1
    printed = capsys.readouterr()
    assert "crack 2, dent 1" in printed.out
    assert f"robis: {whole}: 2 problems:\n1 image cannot be read" in printed.err
    assert "1 defective image has no mask" in printed.err
    looked_for = "nut/masks/crack/2.png, nor a mask in the other places that docs/datasets.md lists"
    assert f"test/crack/2.png: there is no {looked_for}\n" in f"{printed.err}\n"
    assert "No problems" not in printed.out
    for n in range(8):
        (whole / "nut" / "train" / f"bad{n}.png").touch()
    for extra, named in (([], 4), (["--all"], 8)):
        assert main([*arguments, *extra]) == 1
        assert capsys.readouterr().err.count("train/bad") == named, "with 1.png five of nine"


def test_remarks_are_printed_and_stop_nothing(whole: Path, config: Path, capsys: pytest.CaptureFixture[str]) -> None:
    for n in range(7):
        write_image(whole / "nut" / "spare" / f"{n}.png")
    arguments = ["data", "check", "--configfile", str(config)]
    for extra, named in (([], 1), (["--all"], 8)):
        assert main([*arguments, *extra]) == 0
        printed = capsys.readouterr().out
        assert "Usable, but likely to be mistakes:\n1 folder of images is not read. Layout 'folder' reads" in printed
        assert f"nut/spare: 7 files, such as {whole}/nut/spare/0.png" in printed
        assert printed.count("nut/spare/") == named


def test_training_images_that_validate_are_named(whole: Path, config: Path, capsys: pytest.CaptureFixture[str]) -> None:
    for n in range(50):
        write_image(whole / "nut" / "train" / f"{n}.png", 10, 10)
    arguments = ["data", "check", "--configfile", str(config)]
    assert main(arguments) == 0
    assert "held out" not in capsys.readouterr().out
    values = yaml.safe_load(config.read_text())
    config.write_text(yaml.safe_dump(values | {"binarize": {"calibrate": "validation"}}))
    # The six lowest of 51 by `printf nut/0 | sha256sum` and so on, in the order of their names. bolt has one image.
    lent = ["0", "15", "26", "29", "30", "wide"]
    for extra, named in (([], [*lent[:5], "and 1 more"]), (["--all"], lent)):
        main([*arguments, *extra])
        text = f"Training images held out for validation:\n  nut: {', '.join(named)}\n"
        assert text in capsys.readouterr().out


def test_training_images_that_a_detector_needs_are_missed(
    root: Path, config: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(["data", "check", "--configfile", str(config)]) == 1
    printed = capsys.readouterr().err
    assert re.search(r"1 problem:\n1 split cannot be listed\..*\n  bolt/train: no images in ", printed)


def test_what_a_config_does_not_run_stops_nothing(root: Path, config: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """Category bolt lacks training images, and the images of another split have one name."""
    for suffix in ("png", "jpg"):
        write_image(root / "nut" / "validation" / f"0.{suffix}")
    values = yaml.safe_load(config.read_text())
    values["dataset"]["categories"] = ["nut"]
    values["verdict"] = {"limit": "none"}
    config.write_text(yaml.safe_dump(values))
    assert main(["data", "check", "--configfile", str(config)]) == 0
    printed = capsys.readouterr().out
    assert f"In categories and splits that {config} does not run:\n1 image would share the names" in printed


def validation_is_missing(root: Path, values: dict) -> None:
    (root / "nut" / "train" / "wide.png").unlink()
    for n in range(1, 3):
        (root / "nut" / "train" / f"{n}.png").unlink()
    values["merge"] = {"normalize": "validation"}


def two_images_of_one_name(root: Path, values: dict) -> None:
    write_image(root / "nut" / "train" / "0.webp")


def images_and_folders(root: Path, values: dict) -> None:
    write_image(root / "nut" / "test" / "flat.png")


def masks_of_one_image(root: Path, values: dict) -> None:
    write_mask(root / "nut" / "masks" / "0.bmp")


def long_name(root: Path, values: dict) -> None:
    write_image(root / "nut" / "train" / f"{'x' * 251}.png")


def odd_category(root: Path, values: dict) -> None:
    (root / "nut").rename(root / "n<u>t")


def no_test_images(root: Path, values: dict) -> None:
    (root / "bolt" / "test" / "0.png").rename(root / "bolt" / "0.png")


def unknown_category(root: Path, values: dict) -> None:
    values["dataset"]["categories"] = ["nutt"]


def unknown_split(root: Path, values: dict) -> None:
    values["dataset"]["splits"] = ["tset"]


def unknown_override(root: Path, values: dict) -> None:
    values["overrides"] = [{"where": {"category": "nutt"}, "set": {"merge.scale": 0.5}}]


def too_few_images_for_musc(root: Path, values: dict) -> None:
    values["detectors"] = ["musc"]


def missing_weights(root: Path, values: dict) -> None:
    values["encoder"]["weights"] = "absent.safetensors"


def no_data(root: Path, values: dict) -> None:
    root.rename(root.parent / "gone")


def nothing(root: Path, values: dict) -> None:
    pass


@pytest.mark.parametrize(
    "spoil",
    [
        *(validation_is_missing, two_images_of_one_name, images_and_folders, masks_of_one_image, long_name),
        *(odd_category, no_test_images, unknown_category, unknown_split, unknown_override, too_few_images_for_musc),
        *(missing_weights, no_data, nothing),
    ],
)
def test_data_check_and_the_plan_agree(
    whole: Path, config: Path, capsys: pytest.CaptureFixture[str], spoil: Callable[[Path, dict], None]
) -> None:
    values = yaml.safe_load(config.read_text())
    spoil(whole, values)
    config.write_text(yaml.safe_dump(values))
    refusal = ""
    try:
        check_plan(Project(load(config), whole.parent / "results"))
    except RobisError as error:
        refusal = str(error)
    assert bool(refusal) == (spoil is not nothing)
    assert main(["data", "check", "--configfile", str(config)]) == bool(refusal)
    printed = capsys.readouterr().err
    reason = [line.strip() for line in refusal.splitlines()][-1 if "without images" not in refusal else 1 :][:1]
    assert all(line in printed for line in reason), printed
    assert "Traceback" not in printed


def test_a_split_that_lends_images_is_checked_as_it_is_run(whole: Path, config: Path) -> None:
    values = yaml.safe_load(config.read_text())
    values["merge"] = {"normalize": "validation"}
    values["dataset"]["categories"] = ["nut"]
    settings = parse(values)
    report = check_for_config(settings, Source("folder", whole))
    assert report.dataset.problems == []
    images = {(summary.category, summary.split): summary.images for summary in report.dataset.summaries}
    assert images == {
        ("bolt", "train"): 1,
        ("bolt", "test"): 1,
        ("nut", "train"): 3,
        ("nut", "validation"): 1,
        ("nut", "test"): 4,
    }


def test_the_command_needs_no_config(
    whole: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    (tmp_path / "elsewhere").mkdir()
    monkeypatch.chdir(tmp_path / "elsewhere")
    assert main(["data", "check", str(whole), "--layout", "folder"]) == 0
    printed = capsys.readouterr().out
    assert printed.startswith(f"{whole}, layout folder; tiles as the default settings make them")
    # The default settings resize windows to 518 pixels. Those of nut have 10 pixels, its shortest side: one tile for
    # each of seven images, 1 + ceil(30 / 9) = 5 for the wide one. Bolt's two images have one tile each.
    assert total(printed)[-3:] == ["14", f"{14 * 518 * 518 * 3 / 1e6:.1f}", "MB"]
    assert main(["data", "check"]) == 1
    assert "config/config.yaml: no such file. Give the data set's folder, or a --configfile" in capsys.readouterr().err
    assert main(["data", "check", str(whole), "--configfile", "absent.yaml"]) == 1
    assert "absent.yaml: this config file cannot be read" in capsys.readouterr().err


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
