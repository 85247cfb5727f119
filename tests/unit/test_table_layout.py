"""Layouts that list their images in a table: `table` (CSV or Parquet) and `visa`."""

from __future__ import annotations

import os
from pathlib import Path

import pandas as pd
import pytest

from robis.datasets import listed
from robis.datasets.layouts import inspected_splits, list_categories, list_samples, list_splits
from robis.datasets.samples import Source
from robis.detectors.settings import parse
from robis.errors import DataError, RobisError
from robis.io.samples import read_samples
from robis.tiles.files import TileStore
from robis.tiles.store import Cutting, crop_split
from robis.workflow.checks import check_plan
from robis.workflow.project import Project
from tests.unit.trees import index, rows, write_image, write_mask

HEADER = "category,split,image,label,mask,defect\n"


def write_table(root: Path, lines: str, name: str = "samples.csv", header: str = HEADER) -> Source:
    (root / name).parent.mkdir(parents=True, exist_ok=True)
    (root / name).write_text(header + lines, encoding="utf-8")
    return Source("table", root)


@pytest.fixture
def root(tmp_path: Path) -> Path:
    """Two categories, images and masks wherever one likes, and splits of any name."""
    root = tmp_path / "data"
    for name in ("a/1.png", "a/2.png", "a/deep er/3.JPG", "b/ü 1.png", "b/2.png"):
        write_image(root / name)
    write_mask(root / "a" / "2_truth.png")
    write_table(
        root,
        "nut,train,a/1.png,,,\n"
        "nut,line 3,a/2.png,anomalous,a/2_truth.png,crack\n"
        "nut,line 3,a/deep er/3.JPG,good,,\n"
        "bolt,train,b/2.png,0,,\n"
        "bolt,night,b/ü 1.png,,,\n",
    )
    return root


def problems_of(source: Source) -> list[str]:
    with pytest.raises(DataError) as caught:
        list_categories(source)
    return str(caught.value).replace(f"{source.root}/", "").splitlines()


def test_a_table_may_name_the_images_itself(root: Path) -> None:
    header = HEADER.replace("\n", ",sample_id\n")
    source = write_table(root, "nut,train,a/1.png,,,,first one/ü\nnut,train,a/2.png,,,,\n", header=header)
    assert [sample.sample_id for sample in list_samples(source, "nut", "train")] == ["a/2", "first one/ü"]
    names = ["../up", "/top", "a//b", "a/", ".", "a\\b", "a/2"]
    rows = [f"nut,train,{image},,,,{name}" for image, name in zip(["a/1.png"] * 7, names, strict=True)]
    for name, line in zip(names, rows, strict=True):
        source = write_table(root, f"{line}\nnut,train,a/2.png,,,,\n", name=f"{names.index(name)}.csv", header=header)
        source = Source("table", root, f"{names.index(name)}.csv")
        text = "\n".join(problems_of(source))
        assert ("a/2.png" in text) if name == "a/2" else (f"{name!r} leads elsewhere" in text), name


def test_a_table_says_category_split_label_and_mask(root: Path) -> None:
    source = Source("table", root)
    assert list_categories(source) == ["bolt", "nut"]
    assert list_splits(source) == ["train", "line 3", "night"]
    assert inspected_splits(source) == ["line 3", "night"]
    assert rows(root, "line 3", "table") == [
        ("a/2", "a/2.png", "anomalous", "crack", "a/2_truth.png"),
        ("a/deep er/3", "a/deep er/3.JPG", "normal", "good", None),
    ]
    assert rows(root, "train", "table") == [("a/1", "a/1.png", "normal", "good", None)], "train is normal by itself"
    assert rows(root, "night", "table", "bolt") == [("b/ü 1", "b/ü 1.png", None, None, None)]
    assert rows(root, "night", "table", "nut") == []


def test_a_label_of_unknown_is_none(root: Path) -> None:
    source = write_table(root, "nut,test,a/1.png,Unknown,,\nnut,train,a/2.png,unknown,,\n")
    assert problems_of(source)[-1] == "  line 3: 'unknown'", "an image to learn from is normal"
    write_table(root, "nut,test,a/1.png,Unknown,,\n")
    assert rows(root, "test", "table") == [("a/1", "a/1.png", None, None, None)]


@pytest.mark.parametrize(("word", "label"), [(w, "normal") for w in ("normal", "good", "0", "Good")])
def test_words_for_normal(root: Path, word: str, label: str) -> None:
    write_table(root, f"nut,test,a/1.png,{word},,\n")
    assert rows(root, "test", "table")[0][2:4] == (label, "good")


@pytest.mark.parametrize("word", ["anomalous", "anomaly", "bad", "1", "ANOMALY"])
def test_words_for_anomalous(root: Path, word: str) -> None:
    write_table(root, f"nut,test,a/1.png,{word},,\n")
    assert rows(root, "test", "table")[0][2:4] == ("anomalous", None)


def test_spreadsheets_and_parquet_say_the_same(root: Path) -> None:
    expected = [rows(root, split, "table", c) for c, split in (("nut", "line 3"), ("bolt", "night"))]
    text = (root / "samples.csv").read_text()
    (root / "samples.csv").write_text(text.replace(",", ", "))
    assert [rows(root, split, "table", c) for c, split in (("nut", "line 3"), ("bolt", "night"))] == expected
    (root / "samples.csv").write_text(text.replace(",", ";").replace("\n", "\r\n"), encoding="utf-8-sig")
    assert [rows(root, split, "table", c) for c, split in (("nut", "line 3"), ("bolt", "night"))] == expected
    labels = {"a/2.png": True, "a/deep er/3.JPG": False, "b/2.png": False}
    frame = pd.read_csv(root / "samples.csv", sep=";")
    frame["label"] = [labels.get(image) for image in frame["image"]]
    (root / "lists").mkdir()
    for values in (frame["label"], frame["label"].astype("Float64"), frame["label"].astype(float)):
        frame.assign(label=values).to_parquet(root / "lists" / "all.parquet")
        source = Source("table", root, "lists/all.parquet")
        found = [
            [(s.sample_id, s.image, s.label, s.defect, s.mask) for s in list_samples(source, c, split)]
            for c, split in (("nut", "line 3"), ("bolt", "night"))
        ]
        assert found == expected
    frame.assign(label="perhaps").to_parquet(root / "lists" / "all.parquet")
    message = problems_of(source)
    assert message[0] == "lists/all.parquet: 5 problems:"
    assert message[2] == "  row 1: 'perhaps'"


def test_everything_wrong_is_said_at_once_with_its_line(root: Path) -> None:
    write_image(root / "a" / "1.jpg")
    (root / "a" / "notes.txt").touch()
    write_table(
        root,
        "nut,test,a/1.png,fine,,\n"
        "nut,test,a/1.png,0,,\n"
        "nut,test,a/1.jpg,0,,\n"
        "nut,test,,0,,\n"
        "nut,test,a/2.png,1,gone.png,\n"
        "../up,test,b/2.png,0,,\n"
        "nut,,b/2.png,0,,\n"
        "\n"
        "nut,test,../outside.png,0,,\n"
        "nut,test,/etc/other.png,0,,\n"
        "nut,test,a/notes.txt,0,,\n"
        "nut,test,b/2.png,0,,crack\n"
        "nut,train,b/ü 1.png,1,,\n"
        "nut,test,a/deep er/3.JPG,0,,,,\n",
    )
    assert problems_of(Source("table", root)) == [
        "samples.csv: 13 problems:",
        "1 label is unknown. Write normal, good or 0; anomalous, anomaly, bad or 1; or nothing:",
        "  line 2: 'fine'",
        "1 image is listed twice. Keep one of the lines:",
        "  line 3: a/1.png, as in line 2",
        "1 image would share the names of another image's results. Results are named after images without their "
        "suffix. Rename one of each pair:",
        "  line 4: a/1.jpg, and a/1.png in line 2",
        "1 line names no image. Fill the cell, or delete the line:",
        "  line 5: the cell is empty",
        "1 file does not exist. Paths are relative to dataset.root, with / between folders:",
        "  line 6: gone.png",
        "2 lines have unusable names. Rename the category or split:",
        "  line 7: category '../up' contains '/'",
        "  line 8: split '' is empty",
        "2 paths lead out of dataset.root. Write them relative to it, or set dataset.allow_outside_root: true:",
        "  line 10: ../outside.png",
        "  line 11: /etc/other.png",
        "1 file is not an image by its name. Expected .png, .jpg, .jpeg, .jpe, .jfif, .bmp, .dib, .tif, .tiff, .webp, "
        ".pgm, .ppm, .pbm, .pnm:",
        "  line 12: 'a/notes.txt'",
        "1 defect does not fit its label. Name defects of anomalous images only:",
        "  line 13: 'crack', but the image is normal",
        "1 image to learn from is labeled anomalous. Move them to a split that is inspected:",
        "  line 14: b/ü 1.png in train",
        "1 line has another number of cells than the header. Put cells that hold the separator in quotes:",
        "  line 15: 2 more",
    ]


def test_a_job_is_told_of_its_own_rows(root: Path) -> None:
    write_table(root, "nut,test,a/1.png,0,,\nnut,test,a/2.png,fine,,\nbolt,test,b/2.png,0,,\n")
    assert len(rows(root, "test", "table", "bolt")) == 1
    with pytest.raises(DataError, match=r"(?s)samples\.csv: 1 problem:.*line 3: 'fine'"):
        rows(root, "test", "table", "nut")


@pytest.mark.parametrize(
    ("header", "message"),
    [
        ("category,split,image,label\n", r"no column 'mask'; found category, split, image, label; expected category,"),
        ("", r"no column .*; found nut, test, a/1\.png, 0, ,"),
        ("category,split,image,label,mask,image\n", r"samples\.csv: more than one column 'image'; expected one each"),
    ],
)
def test_columns_that_are_missing_or_there_twice_are_named(root: Path, header: str, message: str) -> None:
    with pytest.raises(DataError, match=message):
        list_categories(write_table(root, "nut,test,a/1.png,0,,\n", header=header))


def test_splits_that_no_job_would_read_are_named(root: Path, tmp_path: Path) -> None:
    """Images of a split `Train` would be inspected; layout visa has two splits alone."""
    source = write_table(root, "nut,Train,a/1.png,0,,\nnut,VALIDATION,a/2.png,0,,\nnut,Test,b/2.png,0,,\n")
    assert problems_of(source) == [
        "samples.csv: 2 problems:",
        "2 lines have unusable names. Rename the category or split:",
        "  line 2: split 'Train'; write 'train' for images to learn from",
        "  line 3: split 'VALIDATION'; write 'validation' for images to learn from",
    ]
    source = visa(tmp_path / "visa", VISA.replace(",test,", ",val,"))
    assert "  line 3: split 'val'; this layout has only train and test" in problems_of(source)


def test_tables_that_cannot_be_read_say_why(root: Path) -> None:
    with pytest.raises(DataError, match=r"gone\.csv: cannot be read \(No such file.*dataset\.table names another"):
        list_categories(Source("table", root, "gone.csv"))
    (root / "latin.csv").write_bytes(HEADER.encode() + "nut,test,schön.png,0,,\n".encode("latin-1"))
    with pytest.raises(
        DataError, match=r"latin\.csv, line 2: found the byte 0xf6, which is not UTF-8 \('ö' in Latin-1\)"
    ):
        list_categories(Source("table", root, "latin.csv"))
    (root / "bad.parquet").write_text("text")
    with pytest.raises(DataError, match=r"bad\.parquet: not a readable Parquet table"):
        list_categories(Source("table", root, "bad.parquet"))
    with pytest.raises(DataError, match=r"holds no category of layout 'table': expected samples\.csv, or"):
        list_categories(write_table(root, ""))


def test_paths_may_leave_the_root_where_that_is_allowed(root: Path, tmp_path: Path) -> None:
    write_image(tmp_path / "elsewhere" / "x.png", height=9)
    write_image(tmp_path / "other.png")
    lines = f"nut,test,../other.png,0,,\nnut,test,{tmp_path}/elsewhere/x.png,0,,\nnut,test,{root}/a/./1.png,0,,\n"
    source = write_table(root, lines)
    assert problems_of(source)[1].startswith("2 paths lead out of dataset.root"), "the third is inside"
    samples = list_samples(Source("table", root, allow_outside_root=True), "nut", "test")
    outside = f"{tmp_path}/elsewhere/x"
    assert {(s.sample_id, s.image) for s in samples} == {
        ("other", "../other.png"),
        (outside[1:], f"{outside}.png"),
        ("a/1", "a/1.png"),
    }
    table = index(root, layout="table", allow_outside_root=True)
    assert {sample.height for sample in read_samples(table)} == {6, 9}
    output = TileStore(tmp_path / "t.npy", tmp_path / "t.parquet")
    crop_split(table, root, output, Cutting("image", 0.0, "pad", 8))
    assert len(pd.read_parquet(tmp_path / "t.parquet")) == 3


def test_ids_never_lead_out_of_the_results(root: Path) -> None:
    write_image(root.parent / "1.png")
    source = write_table(root, "nut,test,../1.png,0,,\nnut,test,a/../../1.png,0,,\nnut,test,//b/1.png,0,,\n")
    with pytest.raises(DataError, match="3 paths lead out"):
        list_samples(source, "nut", "test")
    allowed = write_table(root, "nut,test,a/../../1.png,0,,\nnut,test,//b/1.png,0,,\n")
    ids = [sample.sample_id for sample in list_samples(Source("table", root, allow_outside_root=True), "nut", "test")]
    assert allowed.root == root
    assert ids == ["1", "b/1"]


def test_masks_are_optional_as_a_whole_only(root: Path) -> None:
    write_table(root, "nut,test,a/1.png,1,,\nnut,test,a/2.png,1,,\n")
    assert [sample.mask for sample in read_samples(index(root, layout="table"))] == [None, None]
    write_table(root, "nut,test,a/1.png,1,,\nnut,test,a/2.png,1,a/2_truth.png,\n")
    with pytest.raises(DataError, match=r"1 defective image has no mask(.|\n)*a/1\.png"):
        index(root, layout="table")


def test_normal_images_may_share_an_empty_mask_but_not_a_marked_one(root: Path) -> None:
    write_mask(root / "empty.png", defect=False)
    lines = "nut,test,a/1.png,0,empty.png,\nnut,test,b/2.png,0,empty.png,\nnut,test,a/2.png,1,a/2_truth.png,\n"
    write_table(root, lines)
    assert len(read_samples(index(root, layout="table"))) == 3
    write_table(root, lines.replace("a/1.png,0,empty.png", "a/1.png,0,a/2_truth.png"))
    with pytest.raises(DataError, match=r"1 mask of a normal image has defect pixels(.|\n)*2_truth\.png"):
        index(root, layout="table")
    write_table(root, "nut,test,a/1.png,1,a/2_truth.png,\nnut,test,a/2.png,1,a/2_truth.png,\n")
    assert problems_of(Source("table", root))[-1] == "  line 3: a/2_truth.png, as in line 2"


def test_a_table_is_parsed_once_for_all_categories(root: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    lines = "".join(f"c{n:03},{split},img/{n}_{split}.png,0,,\n" for n in range(200) for split in ("train", "test"))
    for n in range(200):
        for split in ("train", "test"):
            (root / "img").mkdir(exist_ok=True)
            (root / "img" / f"{n}_{split}.png").touch()
    source = write_table(root, lines)
    parsed, checked = [], []
    read, check = listed._csv_rows, listed._read_row
    monkeypatch.setattr(listed, "_csv_rows", lambda *a: parsed.append(1) or read(*a))
    monkeypatch.setattr(listed, "_read_row", lambda *a: checked.append(1) or check(*a))
    for category in list_categories(source):
        for split in list_splits(source):
            assert len(list_samples(source, category, split)) == 1
    assert len(parsed) == 1
    assert len(checked) == 2 * 400, "once for the plan, once for its own category and split"
    os.utime(root / "samples.csv", ns=(1, 1))
    assert len(list_categories(source)) == 200
    assert len(parsed) == 2


def project(root: Path, tmp_path: Path, **dataset) -> Project:
    values = {"dataset": {"layout": "table", "root": str(root), "splits": ["line 3"]} | dataset}
    return Project(parse(values | {"refine": {"method": "none"}}), tmp_path / "results")


def test_splits_of_a_table_are_checked_when_it_is_read(root: Path, tmp_path: Path) -> None:
    check_plan(project(root, tmp_path, categories=["nut"]))
    with pytest.raises(RobisError, match=r"1 split without images:\n  bolt/line 3: no images"):
        check_plan(project(root, tmp_path))
    for splits, message in ((["line 4"], "Did you mean 'line 3'"), (["train"], r"Valid: line 3, night\.")):
        with pytest.raises(RobisError, match=f"dataset\\.splits: layout table has no.*{message}"):
            check_plan(project(root, tmp_path, splits=splits))
    overrides = [{"where": {"split": "lin 3"}, "set": {"merge.scale": 1}}]
    wrong = {"dataset": {"layout": "table", "root": str(root), "splits": ["line 3"]}, "overrides": overrides}
    with pytest.raises(RobisError, match=r"'lin 3' matches nothing here\. Valid: train, line 3, night"):
        check_plan(Project(parse(wrong | {"refine": {"method": "none"}}), tmp_path))


def test_a_changed_row_concerns_its_own_category_and_split(root: Path, tmp_path: Path) -> None:
    write_mask(root / "b" / "2_truth.png")
    lines = (
        "nut,train,a/1.png,,,\n"
        "nut,test,a/2.png,1,a/2_truth.png,\n"
        "nut,test,b/2.png,1,b/2_truth.png,\n"
        "nut,test,a/deep er/3.JPG,0,,\n"
        "bolt,test,b/ü 1.png,,,\n"
    )

    def params(text: str, **dataset) -> dict[tuple[str, str], str]:
        write_table(root, text, "other.csv")
        one = project(root, tmp_path, splits=["test"], table="other.csv", **dataset)
        return {
            key: repr(one.params("index", category=key[0], split=key[1]))
            for key in (("nut", "train"), ("nut", "test"), ("bolt", "test"))
        }

    before = params(lines)
    assert params(lines, allow_outside_root=True) == before
    reordered = "\n".join(reversed(lines.splitlines())) + "\n"
    assert params(reordered) == before, "the order of rows says nothing"
    for changed in (
        lines.replace("3.JPG,0", "3.JPG,1"),
        lines.replace("2_truth.png,\nnut", "2_truth.png,dent\nnut", 1),
        lines.replace("a/2_truth", "x").replace("b/2_truth", "a/2_truth").replace("x", "b/2_truth"),
        lines.replace("nut,test,a/deep er/3.JPG,0,,\n", ""),
    ):
        after = params(changed)
        assert {key for key in before if after[key] != before[key]} == {("nut", "test")}, changed


VISA = (
    "object,split,label,image,mask\n"
    "candle,train,normal,candle/Data/Images/Normal/0001.JPG,\n"
    "candle,test,normal,candle/Data/Images/Normal/0002.JPG,\n"
    "candle,test,anomaly,candle/Data/Images/Anomaly/000.JPG,candle/Data/Masks/Anomaly/000.png\n"
    "pcb1,train,normal,pcb1/Data/Images/Normal/0000.JPG,\n"
)


def visa(root: Path, text: str = VISA) -> Source:
    (root / "split_csv").mkdir(parents=True, exist_ok=True)
    (root / "split_csv" / "1cls.csv").write_text(text)
    for name in ("candle/Data/Images/Normal/0001", "candle/Data/Images/Normal/0002", "candle/Data/Images/Anomaly/000"):
        write_image(root / f"{name}.JPG")
    write_image(root / "pcb1/Data/Images/Normal/0000.JPG")
    write_mask(root / "candle" / "Data" / "Masks" / "Anomaly" / "000.png")
    return Source("visa", root)


def test_visa_follows_its_table(tmp_path: Path) -> None:
    source = visa(tmp_path)
    assert list_categories(source) == ["candle", "pcb1"]
    mask = "candle/Data/Masks/Anomaly/000.png"
    assert rows(tmp_path, "test", "visa", "candle") == [
        ("Anomaly/000", "candle/Data/Images/Anomaly/000.JPG", "anomalous", "anomaly", mask),
        ("Normal/0002", "candle/Data/Images/Normal/0002.JPG", "normal", "good", None),
    ]
    visa(tmp_path, "object,split,image\ncandle,train,a.JPG\n")
    with pytest.raises(DataError, match=r"1cls\.csv: no column 'label', 'mask'; found object, split, image; expected"):
        list_categories(source)
    visa(tmp_path, VISA.replace("pcb1/Data/Images/Normal", ".."))
    with pytest.raises(DataError, match=r"1cls\.csv: 1 problem:\n1 path leads out of dataset\.root"):
        list_categories(source)
    (tmp_path / "split_csv" / "1cls.csv").unlink()
    with pytest.raises(DataError, match=r"1cls\.csv: cannot be read"):
        list_categories(source)
