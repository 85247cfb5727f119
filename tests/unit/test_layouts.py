"""Layouts of folders: images, labels and masks from names alone."""

from __future__ import annotations

import os
import re
from pathlib import Path

import pytest

from robis.datasets import layouts
from robis.datasets.layouts import LAYOUTS, held_out, images_in, list_categories, list_samples
from robis.datasets.samples import Source
from robis.demo.layouts import DEMO_LAYOUTS
from robis.errors import DataError
from robis.io.samples import read_samples
from tests.conftest import REPOSITORY
from tests.unit.trees import index, mvtec_ad, rows, write_image, write_mask


def test_mvtec_ad(tmp_path: Path) -> None:
    root = mvtec_ad(tmp_path)
    assert list_categories(Source("mvtec_ad", root)) == ["nut"]
    assert rows(root, "test", "mvtec_ad") == [
        ("crack/000", "nut/test/crack/000.png", "anomalous", "crack", "nut/ground_truth/crack/000_mask.png"),
        ("crack/001", "nut/test/crack/001.PNG", "anomalous", "crack", "nut/ground_truth/crack/001_mask.png"),
        ("good/000", "nut/test/good/000.png", "normal", "good", None),
    ]
    assert rows(root, "train", "mvtec_ad")[0] == ("good/000", "nut/train/good/000.png", "normal", "good", None)
    assert rows(root, "validation", "mvtec_ad") == []


def test_mvtec_ad_2(tmp_path: Path) -> None:
    base = tmp_path / "can"
    write_image(base / "train" / "good" / "000_regular.png")
    write_image(base / "validation" / "good" / "000_regular.png")
    write_image(base / "test_public" / "good" / "000_regular.png")
    write_image(base / "test_public" / "bad" / "000_overexposed.png")
    write_mask(base / "test_public" / "ground_truth" / "bad" / "000_overexposed_mask.png")
    write_image(base / "test_private" / "000_regular.png")
    write_image(base / "test_private_mixed" / "000_mixed.png")
    mask = "can/test_public/ground_truth/bad/000_overexposed_mask.png"
    assert rows(tmp_path, "test_public", "mvtec_ad_2", "can") == [
        ("bad/000_overexposed", "can/test_public/bad/000_overexposed.png", "anomalous", "bad", mask),
        ("good/000_regular", "can/test_public/good/000_regular.png", "normal", "good", None),
    ]
    assert rows(tmp_path, "test_private_mixed", "mvtec_ad_2", "can") == [
        ("000_mixed", "can/test_private_mixed/000_mixed.png", None, None, None)
    ]
    assert rows(tmp_path, "validation", "mvtec_ad_2", "can")[0][:3] == (
        "good/000_regular",
        "can/validation/good/000_regular.png",
        "normal",
    )


def test_folder_layout_with_and_without_labels(tmp_path: Path) -> None:
    write_image(tmp_path / "flat" / "train" / "a.jpg")
    write_image(tmp_path / "flat" / "test" / "b.bmp")
    assert rows(tmp_path, "test", "folder", "flat") == [("b", "flat/test/b.bmp", None, None, None)]
    assert rows(tmp_path, "train", "folder", "flat") == [("a", "flat/train/a.jpg", "normal", "good", None)]
    write_image(tmp_path / "deep" / "train" / "good" / "a.jpg")
    write_image(tmp_path / "deep" / "test" / "dent" / "b.tif")
    write_image(tmp_path / "deep" / "test" / "hole" / "c.tif")
    write_mask(tmp_path / "deep" / "masks" / "dent" / "b.png")
    write_mask(tmp_path / "deep" / "masks" / "c_mask.png")
    assert [row[4] for row in rows(tmp_path, "test", "folder", "deep")] == [
        "deep/masks/dent/b.png",
        "deep/masks/c_mask.png",
    ]


def test_btad_and_mpdd(tmp_path: Path) -> None:
    write_image(tmp_path / "01" / "train" / "ok" / "0000.bmp")
    write_image(tmp_path / "01" / "test" / "ok" / "0000.bmp")
    write_image(tmp_path / "01" / "test" / "ko" / "0000.bmp")
    write_mask(tmp_path / "01" / "ground_truth" / "ko" / "0000.png")
    assert rows(tmp_path, "train", "btad", "01") == [("ok/0000", "01/train/ok/0000.bmp", "normal", "good", None)]
    assert rows(tmp_path, "test", "btad", "01") == [
        ("ko/0000", "01/test/ko/0000.bmp", "anomalous", "ko", "01/ground_truth/ko/0000.png"),
        ("ok/0000", "01/test/ok/0000.bmp", "normal", "good", None),
    ]
    root = mvtec_ad(tmp_path / "mpdd")
    assert rows(root, "test", "mpdd") == rows(root, "test", "mvtec_ad")


def lent(names: list[str]) -> set[str]:
    return held_out("nut", names)


def test_a_tenth_of_the_training_images_is_lent_where_validation_is_missing(tmp_path: Path) -> None:
    root = mvtec_ad(tmp_path)
    train = list_samples(Source("mvtec_ad", root), "nut", "train", hold_out=True)
    validation = list_samples(Source("mvtec_ad", root), "nut", "validation", hold_out=True)
    # The lowest of 12 by `printf nut/good/000 | sha256sum` and so on: 149d58a2, 252dd0bc (004), then 46d36a7e (011).
    assert [sample.sample_id for sample in validation] == ["good/000", "good/004"]
    assert len(train) == 10
    assert not {sample.image for sample in train} & {sample.image for sample in validation}
    assert len(list_samples(Source("mvtec_ad", root), "nut", "train")) == 12


def test_a_tenth_is_rounded_up_and_leaves_one_image_to_learn_from() -> None:
    names = [f"good/{n:03}" for n in range(21)]
    assert [len(lent(names[:count])) for count in (0, 1, 2, 10, 11, 20, 21)] == [0, 0, 1, 1, 2, 2, 3]


def test_one_training_image_more_or_less_exchanges_one_lent_image_at_most() -> None:
    names = [f"good/{n:03}" for n in range(60)]
    before = lent(names)
    assert len(before) == 6
    for name in names:
        after = lent([other for other in names if other != name])
        assert before - {name} <= after, "the others stay"
    assert len(before - lent([*names, "good/new"])) <= 1


def test_images_in_a_folder_named_unknown_have_no_label(tmp_path: Path) -> None:
    for name in ("good/a", "dent/b", "Unknown/c", "Unknown/monday/d", "not yet/e"):
        write_image(tmp_path / "nut" / "test" / f"{name}.png")
    write_image(tmp_path / "nut" / "train" / "good.png")
    write_image(tmp_path / "nut" / "train" / "un-labeled" / "x.png")
    # Not the mask of the unknown image of the same name.
    for name in ("b", "c", "e"):
        write_mask(tmp_path / "nut" / "masks" / f"{name}.png")
    assert [(name, label, defect, mask) for name, _, label, defect, mask in rows(tmp_path, "test", "folder")] == [
        ("Unknown/c", None, None, None),
        ("Unknown/monday/d", None, None, None),
        ("dent/b", "anomalous", "dent", "nut/masks/b.png"),
        ("good/a", "normal", "good", None),
        ("not yet/e", "anomalous", "not yet", "nut/masks/e.png"),
    ]
    assert [row[0] for row in rows(tmp_path, "train", "folder")] == ["good"]


@pytest.mark.parametrize("layout", ["mvtec_ad", "mpdd", "mvtec_loco", "btad", "mvtec_ad_2"])
def test_layouts_of_benchmarks_take_unjudged_images_as_well(tmp_path: Path, layout: str) -> None:
    split = "test_public" if layout == "mvtec_ad_2" else "test"
    write_image(tmp_path / "nut" / split / "UNLABELED" / "a.png")
    write_image(tmp_path / "nut" / split / "good" / "a.png")
    assert [row[:1] + row[2:] for row in rows(tmp_path, split, layout)] == [
        ("UNLABELED/a", None, None, None),
        ("good/a", "normal", "good", None),
    ]


def test_a_root_without_categories_says_what_is_expected(tmp_path: Path) -> None:
    with pytest.raises(DataError, match=r"dataset\.root: .*nowhere is not a folder"):
        list_categories(Source("mvtec_ad", tmp_path / "nowhere"))
    (tmp_path / "empty").mkdir()
    with pytest.raises(
        DataError, match=r"holds no category of layout 'mvtec_ad': expected one folder per category, with train or test"
    ):
        list_categories(Source("mvtec_ad", tmp_path))


def test_two_masks_of_one_image_are_refused(tmp_path: Path) -> None:
    root = mvtec_ad(tmp_path)
    write_mask(root / "nut" / "ground_truth" / "crack" / "000_mask.bmp", height=10)
    with pytest.raises(DataError, match=r"000_mask\.bmp and 000_mask\.png are masks of the same image"):
        list_samples(Source("mvtec_ad", root), "nut", "test")


def test_images_that_would_share_a_mask_are_refused(tmp_path: Path) -> None:
    root = mvtec_ad(tmp_path)
    write_image(root / "nut" / "test" / "crack" / "000.jpg")
    with pytest.raises(DataError, match=r"1 image would share the names of .*\n.*000\.jpg and nut/test/crack/000\.png"):
        list_samples(Source("mvtec_ad", root), "nut", "test")


def test_hidden_and_empty_folders_are_no_defects(tmp_path: Path) -> None:
    write_image(tmp_path / "nut" / "test" / "a.png")
    write_image(tmp_path / "nut" / "test" / ".thumbs" / "a.png")
    (tmp_path / "nut" / "test" / "old").mkdir()
    assert [row[0] for row in rows(tmp_path, "test", "folder")] == ["a"]
    write_image(tmp_path / "nut" / "test" / "dent" / "b.png")
    with pytest.raises(DataError, match=r"nut/test: holds images and folders of images \(dent\)"):
        rows(tmp_path, "test", "folder")


def test_one_mask_for_two_images_is_refused(tmp_path: Path) -> None:
    for defect in ("dent", "hole"):
        write_image(tmp_path / "nut" / "test" / defect / "0.png")
    write_mask(tmp_path / "nut" / "masks" / "0.png")
    with pytest.raises(
        DataError,
        match=r"1 mask would be that of two images.*\n.*masks/0\.png of nut/test/dent/0\.png and of nut/test/hole",
    ):
        rows(tmp_path, "test", "folder")


def test_the_documented_example_of_a_new_layout_works(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """docs/datasets.md: one function and one entry."""
    guide = (REPOSITORY / "docs" / "datasets.md").read_text()
    function, entry = re.findall(r"```python\n(.*?)```", guide[guide.index("## A new layout") :], flags=re.DOTALL)
    names = vars(layouts).copy()
    exec(function + entry.replace("    ...\n", ""), names)
    monkeypatch.setitem(LAYOUTS, "ok_new", names["LAYOUTS"]["ok_new"])
    for name in ("ok/a.png", "ok/b.png", "new/c.png"):
        write_image(tmp_path / "data" / "nut" / name)
    assert list_categories(Source("ok_new", tmp_path / "data")) == ["nut"]
    assert rows(tmp_path / "data", "train", "ok_new")[1] == ("b", "nut/ok/b.png", "normal", "good", None)
    assert rows(tmp_path / "data", "validation", "ok_new") == []
    samples = read_samples(index(tmp_path / "data", layout="ok_new"))
    assert [(s.sample_id, s.label, s.height) for s in samples] == [("c", None, 6)]


def test_every_layout_is_documented_and_can_hold_the_demo() -> None:
    guide = (REPOSITORY / "docs" / "datasets.md").read_text()
    assert set(DEMO_LAYOUTS) == set(LAYOUTS)
    for name in LAYOUTS:
        assert f"### `{name}`" in guide
        assert f"| [`{name}`](#" in guide


def test_hidden_folders_are_no_categories_and_braces_are_refused(tmp_path: Path) -> None:
    for name in (".hidden", "nut"):
        (tmp_path / name / "train").mkdir(parents=True)
    source = Source("folder", tmp_path)
    assert list_categories(source) == ["nut"]
    (tmp_path / "{x}" / "train").mkdir(parents=True)
    with pytest.raises(DataError, match=r"the folder '\{x\}' contains '\{'\. Results are named after a category"):
        list_categories(source)


def test_links_upwards_and_pipes_do_not_hang(tmp_path: Path) -> None:
    masks = tmp_path / "masks" / "dent"
    masks.mkdir(parents=True)
    write_image(masks / "0.png")
    for name in ("up", "up2"):
        (masks / name).symlink_to("..")
    os.mkfifo(masks / "pipe.png")
    assert [path.name for path in images_in(tmp_path / "masks", nested=True)] == ["0.png"]


def test_a_name_that_is_not_utf_8_is_said(tmp_path: Path) -> None:
    write_image(tmp_path / "0.png")
    (tmp_path / "0.png").rename(os.fsdecode(os.fsencode(tmp_path) + b"/Pr\xfcfling.png"))
    with pytest.raises(DataError, match=r"the name b'Pr\\xfcfling\.png' is not UTF-8\. Rename"):
        list(images_in(tmp_path))
