"""Layouts, the checked sample table, and fingerprints that change with content alone."""

from __future__ import annotations

import os
import shutil
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from robis.datasets.fingerprints import fingerprint
from robis.datasets.index import index_split
from robis.datasets.layouts import list_categories, list_samples
from robis.datasets.table import read_samples
from robis.errors import DataError


def write_image(path: Path, height: int = 6, width: int = 8, value: int = 90) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    Image.fromarray(np.full((height, width, 3), value, np.uint8)).save(path)


def write_mask(path: Path, height: int = 6, width: int = 8, *, defect: bool = True) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    mask = np.zeros((height, width), np.uint8)
    mask[1:3, 2:4] = 255 * defect
    Image.fromarray(mask).save(path)


def mvtec_ad(root: Path) -> Path:
    for n in range(12):
        write_image(root / "nut" / "train" / "good" / f"{n:03}.png")
    write_image(root / "nut" / "test" / "good" / "000.png")
    write_image(root / "nut" / "test" / "crack" / "000.png", height=10)
    write_image(root / "nut" / "test" / "crack" / "001.PNG")
    write_mask(root / "nut" / "ground_truth" / "crack" / "000_mask.png", height=10)
    write_mask(root / "nut" / "ground_truth" / "crack" / "001_mask.png")
    (root / "readme.txt").touch()
    (root / "notes").mkdir()
    return root


def rows(root: Path, split: str, layout: str, category: str = "nut") -> list[tuple]:
    return [
        (sample.sample_id, sample.image, sample.label, sample.defect, sample.mask)
        for sample in list_samples(layout, root, category, split)
    ]


def test_mvtec_ad(tmp_path: Path) -> None:
    root = mvtec_ad(tmp_path)
    assert list_categories("mvtec_ad", root) == ["nut"]
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


def test_visa_follows_its_table(tmp_path: Path) -> None:
    table = tmp_path / "split_csv" / "1cls.csv"
    table.parent.mkdir()
    table.write_text(
        "object,split,label,image,mask\n"
        "candle,train,normal,candle/Data/Images/Normal/0001.JPG,\n"
        "candle,test,normal,candle/Data/Images/Normal/0002.JPG,\n"
        "candle,test,anomaly,candle/Data/Images/Anomaly/000.JPG,candle/Data/Masks/Anomaly/000.png\n"
        "pcb1,train,normal,pcb1/Data/Images/Normal/0000.JPG,\n"
    )
    assert list_categories("visa", tmp_path) == ["candle", "pcb1"]
    mask = "candle/Data/Masks/Anomaly/000.png"
    assert rows(tmp_path, "test", "visa", "candle") == [
        ("Anomaly/000", "candle/Data/Images/Anomaly/000.JPG", "anomalous", "anomaly", mask),
        ("Normal/0002", "candle/Data/Images/Normal/0002.JPG", "normal", "good", None),
    ]
    table.write_text("object,split,image\ncandle,train,a.JPG\n")
    with pytest.raises(DataError, match=r"1cls\.csv, line 2: no 'label'; expected object, split, label"):
        list_categories("visa", tmp_path)
    table.unlink()
    with pytest.raises(DataError, match=r"1cls\.csv: cannot be read"):
        list_categories("visa", tmp_path)


def test_every_tenth_training_image_is_lent_where_validation_is_missing(tmp_path: Path) -> None:
    root = mvtec_ad(tmp_path)
    train = list_samples("mvtec_ad", root, "nut", "train", hold_out=True)
    validation = list_samples("mvtec_ad", root, "nut", "validation", hold_out=True)
    assert [sample.sample_id for sample in validation] == ["good/000", "good/010"]
    assert len(train) == 10
    assert not {sample.image for sample in train} & {sample.image for sample in validation}
    assert len(list_samples("mvtec_ad", root, "nut", "train")) == 12


def test_a_root_without_categories_says_what_is_expected(tmp_path: Path) -> None:
    with pytest.raises(DataError, match=r"dataset\.root: .*nowhere is not a folder"):
        list_categories("mvtec_ad", tmp_path / "nowhere")
    (tmp_path / "empty").mkdir()
    with pytest.raises(
        DataError, match=r"holds no category of layout 'mvtec_ad': expected one folder per category, with train or test"
    ):
        list_categories("mvtec_ad", tmp_path)


def test_two_masks_of_one_image_are_refused(tmp_path: Path) -> None:
    root = mvtec_ad(tmp_path)
    write_mask(root / "nut" / "ground_truth" / "crack" / "000_mask.bmp", height=10)
    with pytest.raises(DataError, match=r"000_mask\.bmp and 000_mask\.png are masks of the same image"):
        list_samples("mvtec_ad", root, "nut", "test")


def test_images_that_would_share_a_mask_are_refused(tmp_path: Path) -> None:
    root = mvtec_ad(tmp_path)
    write_image(root / "nut" / "test" / "crack" / "000.jpg")
    with pytest.raises(DataError, match=r"000\.jpg and nut/test/crack/000\.png"):
        list_samples("mvtec_ad", root, "nut", "test")


def index(root: Path, split: str = "test", layout: str = "mvtec_ad", category: str = "nut") -> Path:
    table = root.parent / "table.parquet"
    index_split(table, layout=layout, root=root, category=category, split=split, threads=2)
    return table


def test_index_reads_sizes_per_image(tmp_path: Path) -> None:
    samples = read_samples(index(mvtec_ad(tmp_path / "data")))
    assert [(sample.sample_id, sample.height, sample.width) for sample in samples] == [
        ("crack/000", 10, 8),
        ("crack/001", 6, 8),
        ("good/000", 6, 8),
    ]
    assert samples[2].mask is None
    assert samples[2].label == "normal"


def test_index_lists_every_problem_and_writes_nothing(tmp_path: Path) -> None:
    root = mvtec_ad(tmp_path / "data")
    base = root / "nut"
    (base / "test" / "good" / "001.png").touch()
    (base / "test" / "good" / "002.png").write_text("text")
    write_image(base / "test" / "crack" / "002.png")
    write_image(base / "test" / "crack" / "003.png")
    write_mask(base / "ground_truth" / "crack" / "003_mask.png", height=7)
    write_image(base / "test" / "crack" / "004.png")
    write_mask(base / "ground_truth" / "crack" / "004_mask.png", defect=False)
    write_image(base / "test" / "crack" / "005.png")
    (base / "ground_truth" / "crack" / "005_mask.png").write_text("text")
    with pytest.raises(DataError) as caught:
        index(root)
    message = str(caught.value)
    assert message.startswith("nut/test: 6 of 9 samples cannot be used")
    assert "001.png: not a readable image (empty file)" in message
    assert "002.png: not a readable image (unknown format)" in message
    assert "crack/002.png: defective, but has no mask" in message
    assert "003_mask.png: mask of 8 x 7 pixels; expected its image's 8 x 6" in message
    assert "004_mask.png: mask without a defect pixel" in message
    assert "005_mask.png: not a readable image" in message
    assert not (tmp_path / "table.parquet").exists()


def test_an_empty_split_is_an_error(tmp_path: Path) -> None:
    root = mvtec_ad(tmp_path / "data")
    shutil.rmtree(root / "nut" / "test")
    with pytest.raises(DataError, match="nut/test: no images below"):
        index(root)


def test_masks_are_optional_in_the_folder_layout_as_a_whole_only(tmp_path: Path) -> None:
    root = tmp_path / "data"
    write_image(root / "nut" / "test" / "crack" / "0.png")
    write_image(root / "nut" / "test" / "crack" / "1.png")
    assert [sample.mask for sample in read_samples(index(root, layout="folder"))] == [None, None]
    write_mask(root / "nut" / "masks" / "crack" / "1.png")
    with pytest.raises(DataError, match=r"crack/0\.png: defective, but has no mask"):
        index(root, layout="folder")


def test_fingerprints_follow_content_not_time_or_place(tmp_path: Path) -> None:
    root, memory = tmp_path / "data", tmp_path / "memory.json"
    names = ["a.png", "b.png"]
    for name in names:
        write_image(root / name)
    first = fingerprint(root, names, memory)
    assert fingerprint(root, names[::-1], memory) == first
    os.utime(root / "a.png", (1, 1))
    assert fingerprint(root, names, memory) == first
    shutil.copytree(root, tmp_path / "copy")
    assert fingerprint(tmp_path / "copy", names, tmp_path / "other.json") == first
    write_image(root / "a.png", value=91)
    changed = fingerprint(root, names, memory)
    assert changed != first
    assert fingerprint(root, names[:1], memory) not in (first, changed)
    assert fingerprint(root, names, memory, extra="other labels") != changed
    memory.write_text("damaged")
    assert fingerprint(root, names, memory) == changed


def test_fingerprints_read_each_file_once(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    from robis.datasets import fingerprints

    write_image(tmp_path / "a.png")
    write_image(tmp_path / "b.png")
    read: list[str] = []
    digest = fingerprints.sha256
    monkeypatch.setattr(fingerprints, "sha256", lambda path: read.append(path.name) or digest(path))
    for _ in range(2):
        fingerprint(tmp_path, ["a.png", "b.png"], tmp_path / "memory.json")
    assert sorted(read) == ["a.png", "b.png"]
    write_image(tmp_path / "b.png", value=7)
    fingerprint(tmp_path, ["a.png", "b.png"], tmp_path / "memory.json")
    assert sorted(read) == ["a.png", "b.png", "b.png"]
    with pytest.raises(DataError, match=r"c\.png: cannot be read"):
        fingerprint(tmp_path, ["c.png"], tmp_path / "memory.json")


def test_hidden_and_empty_folders_are_no_defects(tmp_path: Path) -> None:
    write_image(tmp_path / "nut" / "test" / "a.png")
    write_image(tmp_path / "nut" / "test" / ".thumbs" / "a.png")
    (tmp_path / "nut" / "test" / "old").mkdir()
    assert [row[0] for row in rows(tmp_path, "test", "folder")] == ["a"]
    write_image(tmp_path / "nut" / "test" / "dent" / "b.png")
    with pytest.raises(DataError, match=r"nut/test: holds images and folders of images \(dent\)"):
        rows(tmp_path, "test", "folder")


def test_links_are_followed_and_dead_ones_named(tmp_path: Path) -> None:
    root = mvtec_ad(tmp_path / "data")
    truth = root / "nut" / "ground_truth" / "crack"
    truth.rename(tmp_path / "elsewhere")
    truth.symlink_to(tmp_path / "elsewhere")
    assert len(read_samples(index(root))) == 3
    (root / "nut" / "test" / "good" / "009.png").symlink_to(tmp_path / "nowhere.png")
    with pytest.raises(DataError, match=r"009\.png: not a readable image \(no such file\)"):
        index(root)


def test_one_mask_for_two_images_is_refused(tmp_path: Path) -> None:
    for defect in ("dent", "hole"):
        write_image(tmp_path / "nut" / "test" / defect / "0.png")
    write_mask(tmp_path / "nut" / "masks" / "0.png")
    with pytest.raises(
        DataError, match=r"masks/0\.png: would be the mask of nut/test/dent/0\.png and of nut/test/hole"
    ):
        rows(tmp_path, "test", "folder")


def test_masks_that_match_no_image_are_noticed(tmp_path: Path) -> None:
    root = tmp_path / "data"
    write_image(root / "nut" / "test" / "dent" / "0.png")
    write_mask(root / "nut" / "masks" / "dent" / "0_gt.png")
    with pytest.raises(DataError, match=r"dent/0\.png: defective, but has no mask"):
        index(root, layout="folder")


def test_fingerprints_of_another_tree_are_not_taken_from_memory(tmp_path: Path) -> None:
    for name, value in (("a", 90), ("b", 91)):
        write_image(tmp_path / name / "x.bmp", value=value)
        os.utime(tmp_path / name / "x.bmp", (1, 1))
    memory = tmp_path / "memory.json"
    assert fingerprint(tmp_path / "a", ["x.bmp"], memory) != fingerprint(tmp_path / "b", ["x.bmp"], memory)
