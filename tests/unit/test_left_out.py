"""Images and masks that other people's data sets have: each is used, or named with the reason why not."""

from __future__ import annotations

import logging
import os
import shutil
import tempfile
import unicodedata
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import cv2
import numpy as np
import pytest
from PIL import Image

from robis.datasets.check import DatasetReport, check_dataset
from robis.datasets.layouts import LAYOUTS, list_categories, list_samples
from robis.datasets.samples import Source, sample_files
from robis.errors import DataError
from robis.io.images import read_mask
from robis.io.samples import read_samples
from tests.unit.trees import index, mvtec_ad, rows, write_image, write_mask

COMPOSED, DECOMPOSED = "Prüfling é", unicodedata.normalize("NFD", "Prüfling é")


def check(root: Path, layout: str) -> DatasetReport:
    return check_dataset(Source(layout, root), lambda *image: (0, 0))


def remarks(root: Path, layout: str) -> dict[str, list[str]]:
    """Texts of the remarks by kind, in the words for one problem of the kind."""
    by_kind: dict[str, list[str]] = {}
    for remark in check(root, layout).remarks:
        by_kind.setdefault(remark.kind.singular, []).append(remark.text.replace(f"{root}/", ""))
    return by_kind


def logged(caplog: pytest.LogCaptureFixture, root: Path, **options: str) -> str:
    """What `index` logs as a warning."""
    caplog.clear()
    with caplog.at_level(logging.WARNING):
        index(root, **options)
    return caplog.text.replace(f"{root}/", "")


def test_layout_folder_uses_every_format_in_any_folder(tmp_path: Path) -> None:
    names = ("a.webp", "2026-11-02/b.png", "2026-11-02/late shift/c.JPE", "line 3/d.pgm", "e.jfif")
    for name in names:
        path = tmp_path / "nut" / "train" / name
        path.parent.mkdir(parents=True, exist_ok=True)
        gray = Image.fromarray(np.full((6, 8), len(name), np.uint8))
        gray.save(path, {"webp": "WEBP", "png": "PNG", "pgm": "PPM"}.get(path.suffix[1:], "JPEG"))
    assert [row[0] for row in rows(tmp_path, "train", "folder")] == [
        "2026-11-02/b",
        "2026-11-02/late shift/c",
        "a",
        "e",
        "line 3/d",
    ]
    report = check(tmp_path, "folder")
    assert (report.problems, report.remarks, report.summaries[0].normal) == ([], [], 5)


def test_defects_may_have_folders_of_their_own(tmp_path: Path) -> None:
    for name in ("good/mon/0", "dent/mon/0", "dent/tue/0", "hole/1", "hole/x/2"):
        write_image(tmp_path / "nut" / "test" / f"{name}.png")
    for name in ("dent/mon/0", "dent/tue/0_mask", "hole/1", "2_mask"):
        write_mask(tmp_path / "nut" / "masks" / f"{name}.png")
    assert [(row[0], row[3], row[4]) for row in rows(tmp_path, "test", "folder")] == [
        ("dent/mon/0", "dent", "nut/masks/dent/mon/0.png"),
        ("dent/tue/0", "dent", "nut/masks/dent/tue/0_mask.png"),
        ("good/mon/0", "good", None),
        ("hole/1", "hole", "nut/masks/hole/1.png"),
        ("hole/x/2", "hole", "nut/masks/2_mask.png"),
    ]
    assert remarks(tmp_path, "folder") == {}


def test_what_is_not_used_is_listed_with_the_reason(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    root = mvtec_ad(tmp_path / "data")
    nut = root / "nut"
    for name in ("train/good/deep/1.png", "train/good/deep/2.png", "extra/a/3.png", "test/flat.png", "top.png"):
        write_image(nut / name)
    for name in ("test/good/photo.heic", "test/good/film.gif", "test/good/note.txt", "test/good/Thumbs.db"):
        (nut / name).write_bytes(b"anything")
    for name in ("scan", "scan.png.bak", "scan.png~"):
        shutil.copy(nut / "test/good/000.png", nut / "test/good" / name)
    for name in ("._000.png", ".hidden.png", ".thumbs/000.png", "@eaDir/000.png", "__MACOSX/000.png"):
        write_image(nut / "test" / "good" / name)
    write_mask(nut / "ground_truth" / "crack" / "999_mask.png")
    found = remarks(root, "mvtec_ad")
    assert found == {
        "image is not used": [
            "nut/top.png",
            "nut/test/flat.png",
            "nut/test/good/film.gif: .gif files are not read; save it as PNG",
            "nut/test/good/photo.heic: .heic files are not read; save it as PNG",
            "nut/test/good/scan: the name has no suffix",
            "nut/test/good/scan.png.bak: the suffix '.bak' is not that of an image",
            "nut/test/good/scan.png~: the suffix '.png~' is not that of an image",
        ],
        "mask belongs to no image": ["nut/ground_truth/crack/999_mask.png"],
        "folder of images is not read": [
            "nut/extra: 1 file, such as nut/extra/a/3.png",
            "nut/train/good/deep: 2 files, such as nut/train/good/deep/1.png",
        ],
    }
    text = logged(caplog, root, split="train")
    assert "nut/train/good/deep: 2 files" in text and "nut/extra: 1 file" in text
    assert "Layout 'mvtec_ad' reads images directly in train/good and test/DEFECT, masks in ground_truth" in text
    assert "nut/test/" not in text, "its own job lists these"
    text = logged(caplog, root, split="test")
    assert "nut/test/flat.png" in text and "film.gif" in text and "999_mask.png" in text
    assert "nut/train/" not in text


def test_files_that_a_table_does_not_list_are_named(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    root = tmp_path / "data"
    for name in ("a/1.png", "a/2.png", "a/3.png", "b/4.png", "extra/5.png"):
        write_image(root / name)
    header = "category,split,image,label,mask\n"
    (root / "samples.csv").write_text(f"{header}nut,train,a/1.png,,\nnut,test,a/2.png,0,\nbolt,test,b/4.png,,\n")
    assert remarks(root, "table") == {
        "image is not used": ["a/3.png"],
        "folder of images is not read": ["extra: 1 file, such as extra/5.png"],
    }
    assert "  a/3.png" in logged(caplog, root, layout="table")
    assert "a/3.png" not in logged(caplog, root, layout="table", category="bolt")


@pytest.mark.parametrize(
    "good",
    ["good", "Good", "OK", "ok", "Normal", "nominal", "defect-free", "Defect_Free", "no defects", "i.O."],
)
def test_usual_names_of_normal_mean_normal(tmp_path: Path, good: str) -> None:
    for layout in ("folder", "mvtec_ad", "btad", "mvtec_loco"):
        base = tmp_path / layout / "nut"
        write_image(base / "train" / good / "0.png")
        write_image(base / "train" / "other" / "9.png")
        write_image(base / "test" / good / "1.png")
        write_image(base / "test" / "Dent" / "2.png")
        assert [row[0] for row in rows(tmp_path / layout, "train", layout)] == [f"{good}/0"]
        labels = {row[0]: row[2:4] for row in rows(tmp_path / layout, "test", layout)}
        assert labels == {f"{good}/1": ("normal", "good"), "Dent/2": ("anomalous", "Dent")}
        assert remarks(tmp_path / layout, layout)["folder of images is not read"] == [
            "nut/train/other: 1 file, such as nut/train/other/9.png"
        ]


@pytest.mark.parametrize("folder", ["masks", "Masks", "ground_truth", "Ground Truth", "GT", "test/ground_truth"])
def test_layout_folder_reads_masks_in_any_of_the_usual_folders(tmp_path: Path, folder: str) -> None:
    write_image(tmp_path / "nut" / "test" / "Good" / "0.png")
    write_image(tmp_path / "nut" / "test" / "dent" / "1.png")
    write_mask(tmp_path / "nut" / folder / "Dent" / "1_MASK.png")
    assert [row[2:] for row in rows(tmp_path, "test", "folder")] == [
        ("normal", "good", None),
        ("anomalous", "dent", f"nut/{folder}/Dent/1_MASK.png"),
    ]
    assert remarks(tmp_path, "folder") == {}


def test_structural_folders_are_found_in_any_case(tmp_path: Path) -> None:
    root = mvtec_ad(tmp_path / "mvtec_ad")
    expected = [row[0] for row in rows(root, "test", "mvtec_ad")]
    for name in ("train", "test", "ground_truth"):
        (root / "nut" / name).rename(root / "nut" / name.title())
    assert list_categories(Source("mvtec_ad", root)) == ["nut"]
    found = rows(root, "test", "mvtec_ad")
    assert [row[0] for row in found] == expected
    assert found[0][1] == "nut/Test/crack/000.png"
    assert found[0][4] == "nut/Ground_Truth/crack/000_mask.png"
    write_image(root / "nut" / "TEST" / "good" / "1.png")
    with pytest.raises(DataError, match=r"the folders 'TEST' and 'Test' all mean 'test'\. Merge them"):
        rows(root, "test", "mvtec_ad")


def test_defective_images_are_not_trained_on_for_lack_of_a_good_folder(tmp_path: Path) -> None:
    for name in ("monday/0.png", "bad/1.png", "NG/2.png", "masks/3.png", "4.png"):
        write_image(tmp_path / "nut" / "train" / name)
    assert [row[0] for row in rows(tmp_path, "train", "folder")] == ["4", "monday/0"]
    assert [text.partition(":")[0] for text in remarks(tmp_path, "folder")["folder of images is not read"]] == [
        "nut/train/NG",
        "nut/train/bad",
        "nut/train/masks",
    ]


def test_a_labeled_split_without_normal_images_is_remarked(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    root = tmp_path / "data"
    for name in ("2026-11-02", "2026-11-03"):
        write_image(root / "nut" / "test" / name / "0.png")
    assert remarks(root, "folder") == {"labeled split has no normal images": ["nut/test: 2026-11-02, 2026-11-03"]}
    assert "Every folder counts as a kind of defect" in logged(caplog, root, layout="folder")


def test_masks_beside_their_images_are_remarked(tmp_path: Path) -> None:
    for name in ("good/0", "dent/1", "dent/1_mask", "dent/2_mask"):
        write_image(tmp_path / "nut" / "test" / f"{name}.png")
    assert remarks(tmp_path, "folder") == {
        "mask is used as an image": ["nut/test/dent/1_mask.png, beside the image dent/1"]
    }


def disk(radius: int, size: int = 60) -> np.ndarray:
    mask = np.zeros((size, size), np.uint8)
    cv2.circle(mask, (size // 2, size // 2), radius, 255, -1)
    return mask


def write_masks(root: Path, masks: dict[str, Image.Image]) -> None:
    write_image(root / "nut" / "test" / "good" / "0.png")
    (root / "nut" / "masks" / "dent").mkdir(parents=True)
    for name, mask in masks.items():
        stem, _, suffix = name.partition(".")
        write_image(root / "nut" / "test" / "dent" / f"{stem}.png", mask.height, mask.width)
        lossless = {"lossless": True} if "lossless" in name else {}
        mask.save(root / "nut" / "masks" / "dent" / f"{stem}.{suffix}", **lossless)


def test_masks_that_do_not_look_like_masks_are_remarked(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    root = tmp_path / "data"
    soft = cv2.GaussianBlur(disk(12), (9, 9), 2)
    # Sixteen classes, each in a square of its own.
    classes = np.pad(np.kron(np.arange(1, 17, dtype=np.uint8).reshape(4, 4), np.ones((10, 10), np.uint8)), 10)
    border = np.full((60, 60), 255, np.uint8)
    border[20:55, 15:55] = 0
    large = np.full((60, 60), 255, np.uint8)
    large[:20] = 0
    write_masks(
        root,
        {
            "sharp.png": Image.fromarray(disk(12)),
            "classes.png": Image.fromarray(classes),
            "large.png": Image.fromarray(large),
            "lossy.jpg": Image.fromarray(disk(12)),
            "lossy_tiff.tif": Image.fromarray(np.dstack([disk(12)] * 3)),
            "lossy_web.webp": Image.fromarray(disk(12)),
            "lossless.webp": Image.fromarray(disk(12)),
            "soft.png": Image.fromarray(soft),
            "inverted.png": Image.fromarray(255 - disk(3)),
            "inverted_large.png": Image.fromarray(border),
        },
    )
    tiff = root / "nut" / "masks" / "dent" / "lossy_tiff.tif"
    Image.fromarray(np.dstack([disk(12)] * 3)).save(tiff, compression="jpeg")
    levels = len(np.unique(soft)) - 1
    place = "nut/masks/dent"
    assert remarks(root, "folder") == {
        "mask marks nearly all of its image": [
            # A disk of radius 3 has 29 pixels of 3600: 99.2 % of the rest; the hole has 35 * 40: 61.1 %.
            f"{place}/inverted.png: 99.2 % of the pixels",
            f"{place}/inverted_large.png: 61.1 % of the pixels",
        ],
        "mask was saved with loss": [f"{place}/lossy.jpg", f"{place}/lossy_tiff.tif", f"{place}/lossy_web.webp"],
        "mask has many gray levels": [f"{place}/soft.png: {levels} values above 0"],
    }
    assert check(root, "folder").problems == []
    text = logged(caplog, root, layout="folder")
    assert "3 masks were saved with loss. JPEG and lossy WebP leave gray around defects" in text
    assert len(read_samples(index(root, layout="folder"))) == 11, "what is valid is accepted"


@pytest.mark.parametrize(("on_disk", "asked"), [(COMPOSED, DECOMPOSED), (DECOMPOSED, COMPOSED)])
def test_names_are_compared_in_either_form_of_unicode(tmp_path: Path, on_disk: str, asked: str) -> None:
    root = tmp_path / "data"
    for layout, mask in (("folder", "masks/{}/{}.png"), ("mvtec_ad", "ground_truth/{}/{}_mask.png")):
        base = root / layout / f"c {on_disk}"
        write_image(base / "train" / "good" / f"{on_disk}.png")
        write_image(base / "test" / on_disk / f"{on_disk}.png")
        write_mask(base / mask.format(asked, asked))
        source = Source(layout, root / layout)
        assert list_categories(source) == [f"c {COMPOSED}"]
        for category in (f"c {on_disk}", f"c {asked}"):
            sample = list_samples(source, category, "test")[0]
            assert (sample.sample_id, sample.defect) == (f"{COMPOSED}/{COMPOSED}", COMPOSED)
            assert sample.image == f"c {on_disk}/test/{on_disk}/{on_disk}.png", "as the disk spells it"
            assert sample.mask == f"c {on_disk}/{mask.format(asked, asked)}"
        assert check(root / layout, layout).problems == []
        assert "mask belongs to no image" not in remarks(root / layout, layout)
        assert len(read_samples(index(root / layout, layout=layout, category=f"c {COMPOSED}"))) == 1


@pytest.mark.parametrize(("on_disk", "asked"), [(COMPOSED, DECOMPOSED), (DECOMPOSED, COMPOSED)])
def test_rows_of_a_table_find_files_in_either_form_of_unicode(tmp_path: Path, on_disk: str, asked: str) -> None:
    root = tmp_path / "data"
    write_image(root / on_disk / f"{on_disk}.png")
    write_mask(root / f"{on_disk}_mask.png")
    header = "category,split,image,label,mask,defect\n"
    row = f"{asked},{asked},{asked}/{asked}.png,1,{asked}_mask.png,{asked}\n"
    (root / "samples.csv").write_text(header + row, encoding="utf-8")
    source = Source("table", root)
    assert list_categories(source) == [COMPOSED]
    assert rows(root, COMPOSED, "table", COMPOSED) == [
        (f"{COMPOSED}/{COMPOSED}", f"{on_disk}/{on_disk}.png", "anomalous", COMPOSED, f"{on_disk}_mask.png")
    ]
    assert "image is not used" not in remarks(root, "table")
    (root / "samples.csv").write_text(header + row.replace("_mask", "_gone"), encoding="utf-8")
    with pytest.raises(DataError, match="1 file does not exist"):
        list_categories(source)


def test_one_name_in_two_forms_of_unicode_is_refused(tmp_path: Path) -> None:
    for name in (COMPOSED, DECOMPOSED):
        write_image(tmp_path / "nut" / "test" / f"{name}.png")
    with pytest.raises(DataError, match=r"1 image would share the names of another image's results"):
        rows(tmp_path, "test", "folder")
    for name in (COMPOSED, DECOMPOSED):
        write_image(tmp_path / name / "test" / "0.png")
    with pytest.raises(DataError, match="have the same name in two forms of Unicode"):
        list_categories(Source("folder", tmp_path))


def test_identical_images_are_named(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    root = mvtec_ad(tmp_path / "data")
    nut = root / "nut"
    shutil.copy(nut / "train/good/003.png", nut / "test/good/777.png")
    shutil.copy(nut / "train/good/005.png", nut / "train/good/006.png")
    for name in ("test/good/1.bmp", "test/good/2.bmp"):
        # The same size and the same bytes at the beginning, in the middle and at the end.
        pixels = np.zeros((40, 40, 3), np.uint8)
        pixels[10 if name.endswith("1.bmp") else 11, 5] = 1
        Image.fromarray(pixels).save(nut / name)
    shared = {
        "image to inspect is also one to learn from": [
            "nut/test/good/777.png (nut/test) is nut/train/good/003.png (nut/train)"
        ],
        "image is there more than once": ["nut/train/good/005.png (nut/train) is nut/train/good/006.png (nut/train)"],
    }
    assert remarks(root, "mvtec_ad") == shared
    text = logged(caplog, root, split="test")
    assert "nut/test/good/777.png (nut/test) is nut/train/good/003.png" in text
    assert "005.png" not in text, "the job of train says so"
    assert "005.png (nut/train) is nut/train/good/006.png" in logged(caplog, root, split="train")


def test_one_file_in_two_splits_of_a_table_is_named(tmp_path: Path) -> None:
    write_image(tmp_path / "a.png")
    (tmp_path / "samples.csv").write_text("category,split,image,label,mask\nnut,train,a.png,,\nnut,test,a.png,0,\n")
    assert remarks(tmp_path, "table") == {
        "image to inspect is also one to learn from": ["a.png (nut/test) is a.png (nut/train)"]
    }


def mvtec_loco(root: Path) -> Path:
    for split in ("train", "validation", "test"):
        write_image(root / "box" / split / "good" / "000.png")
    for group, parts in (("logical_anomalies", 2), ("structural_anomalies", 1)):
        write_image(root / "box" / "test" / group / "000.png")
        folder = root / "box" / "ground_truth" / group / "000"
        folder.mkdir(parents=True)
        for part in range(parts):
            mask = np.zeros((6, 8), np.uint8)
            mask[2 * part, 3] = 200 + part
            Image.fromarray(mask).save(folder / f"{part:03}.png")
    return root


def test_mvtec_loco_joins_the_masks_of_an_image(tmp_path: Path) -> None:
    root = mvtec_loco(tmp_path / "data")
    truth = "box/ground_truth"
    assert rows(root, "test", "mvtec_loco", "box") == [
        ("good/000", "box/test/good/000.png", "normal", "good", None),
        (
            "logical_anomalies/000",
            "box/test/logical_anomalies/000.png",
            "anomalous",
            "logical_anomalies",
            f"{truth}/logical_anomalies/000",
        ),
        (
            "structural_anomalies/000",
            "box/test/structural_anomalies/000.png",
            "anomalous",
            "structural_anomalies",
            f"{truth}/structural_anomalies/000/000.png",
        ),
    ]
    assert [row[0] for row in rows(root, "validation", "mvtec_loco", "box")] == ["good/000"]
    joined = read_mask(root / truth / "logical_anomalies" / "000")
    assert np.argwhere(joined).tolist() == [[0, 3], [2, 3]]
    report = check(root, "mvtec_loco")
    assert report.problems == report.remarks == []
    # Two pixels of 48, and one.
    np.testing.assert_allclose(report.summaries[2].mask_shares, np.percentile([2 / 48, 1 / 48], (5, 50, 95)))
    sample = list_samples(Source("mvtec_loco", root), "box", "test")[1]
    assert sample_files(root, sample) == [sample.image, f"{sample.mask}/000.png", f"{sample.mask}/001.png"]
    write_mask(root / truth / "logical_anomalies" / "000" / "002.png", height=7)
    (problem,) = check(root, "mvtec_loco").problems
    assert "002.png: 8 x 7 pixels; 000.png, a mask of the same image, has 8 x 6. Make both the same" in problem.text


def test_layout_folder_joins_several_masks_too(tmp_path: Path) -> None:
    root = mvtec_loco(tmp_path / "data")
    expected = [row[4] for row in rows(root, "test", "mvtec_loco", "box")]
    assert [row[4] for row in rows(root, "test", "folder", "box")] == expected


def test_messages_about_missing_masks_say_where_they_were_looked_for(tmp_path: Path) -> None:
    root = mvtec_loco(tmp_path / "data")
    texts = [problem.text.replace(f"{root}/", "") for problem in check(root, "mvtec_ad").problems]
    assert texts[0] == (
        "box/test/logical_anomalies/000.png: there is no box/ground_truth/logical_anomalies/000_mask.png. "
        "Layout mvtec_loco reads several masks of one image, as in box/ground_truth/logical_anomalies/000"
    )
    (root / "box" / "ground_truth" / "logical_anomalies").rename(root / "box" / "ground_truth" / "logical")
    (problem,) = check(root, "mvtec_loco").problems
    assert problem.text.endswith("there is no box/ground_truth/logical_anomalies/000/000.png")


def test_masks_of_normal_images_are_read_where_they_are_given(tmp_path: Path) -> None:
    root = mvtec_ad(tmp_path / "data")
    write_mask(root / "nut" / "ground_truth" / "good" / "000_mask.png", defect=False)
    assert rows(root, "test", "mvtec_ad")[2][4] == "nut/ground_truth/good/000_mask.png"
    assert remarks(root, "mvtec_ad") == {}
    write_mask(root / "nut" / "ground_truth" / "good" / "000_mask.png")
    (problem,) = check(root, "mvtec_ad").problems
    assert problem.kind.singular == "mask of a normal image has defect pixels"


def test_every_layout_says_where_it_reads() -> None:
    assert all(layout.reads for layout in LAYOUTS.values())
    assert all(layout.mask_name or layout.listed_files for layout in LAYOUTS.values())


def test_names_that_cannot_be_printed_are_escaped(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    root = mvtec_ad(tmp_path / "data")
    write_image(root / "nut" / "extra" / "a\n\x1b[31m.png")
    write_image(root / "nut" / "0.png")
    (root / "nut" / "0.png").rename(os.fsdecode(os.fsencode(root) + b"/nut/Pr\xfcfling.png"))
    found = remarks(root, "mvtec_ad")
    assert found["image is not used"] == ["nut/Pr\\udcfcfling.png"]
    assert found["folder of images is not read"] == ["nut/extra: 1 file, such as nut/extra/a\\n\\x1b[31m.png"]
    logged(caplog, root).encode()


def test_a_folder_that_is_not_utf_8_is_refused(tmp_path: Path) -> None:
    write_image(tmp_path / "nut" / "test" / "dent" / "0.png")
    (tmp_path / "nut" / "test" / "dent").rename(os.fsdecode(os.fsencode(tmp_path) + b"/nut/test/Pr\xfcf"))
    with pytest.raises(DataError, match=r"'nut/test/Pr\\udcfcf/0\.png' is not UTF-8"):
        rows(tmp_path, "test", "folder")


def test_a_folder_that_cannot_be_read_hides_nothing_else(tmp_path: Path) -> None:
    """What nobody reads stops neither `index` nor `data check`."""
    root = mvtec_ad(tmp_path / "data")
    write_image(root / "nut" / "extra" / "0.png")
    write_image(root / "nut" / "secret" / "0.png")
    with unreadable(root / "nut" / "secret", tmp_path):
        found = remarks(root, "mvtec_ad")
        index(root)
    assert found == {
        "image is not used": ["nut/secret: cannot be read (Permission denied)"],
        "folder of images is not read": ["nut/extra: 1 file, such as nut/extra/0.png"],
    }


@contextmanager
def unreadable(folder: Path, above: Path) -> Iterator[None]:
    """Take away the right to list a folder; root has every right and becomes nobody in the meantime."""
    rights = {folder: 0}
    if os.geteuid() == 0:
        temporary = Path(tempfile.gettempdir())
        between = [place for place in above.parents if temporary in place.parents]
        rights |= {above: 0o777, **dict.fromkeys(between, 0o711)}
    before = {place: place.stat().st_mode for place in rights}
    for place, mode in rights.items():
        place.chmod(mode)
    user = os.geteuid()
    if user == 0:
        os.seteuid(65534)
    try:
        yield
    finally:
        os.seteuid(user)
        for place, mode in before.items():
            place.chmod(mode)
