"""The checked sample table, and fingerprints that change with content alone."""

from __future__ import annotations

import os
import shutil
from pathlib import Path

import pytest

from robis.errors import DataError
from robis.io.samples import read_samples
from robis.workflow.fingerprints import fingerprint
from tests.unit.trees import index, mvtec_ad, write_image, write_mask


def test_index_reads_sizes_per_image(tmp_path: Path) -> None:
    samples = read_samples(index(mvtec_ad(tmp_path / "data")))
    assert [(sample.sample_id, sample.height, sample.width) for sample in samples] == [
        ("crack/000", 10, 8),
        ("crack/001", 6, 8),
        ("good/000", 6, 8),
    ]
    assert samples[2].mask is None
    assert samples[2].label == "normal"


def test_index_lists_every_problem_by_kind_and_writes_nothing(tmp_path: Path) -> None:
    root = mvtec_ad(tmp_path / "data")
    images, masks = root / "nut" / "test" / "crack", root / "nut" / "ground_truth" / "crack"
    (root / "nut" / "test" / "good" / "001.png").touch()
    (root / "nut" / "test" / "good" / "002.png").write_text("text")
    for n in range(2, 13):
        write_image(images / f"{n:03}.png")
    for n in range(3, 10):
        write_mask(masks / f"{n:03}_mask.png", height=7)
    write_mask(masks / "010_mask.png", defect=False)
    (masks / "011_mask.png").write_text("text")
    write_mask(masks / "012_mask.png")
    with pytest.raises(DataError) as caught:
        index(root)
    assert str(caught.value).replace(f"{root}/nut/", "").splitlines() == [
        "nut/test: 12 of 16 samples cannot be used:",
        "1 defective image has no mask. Add the masks where they are looked for, or move the images to good:",
        "  test/crack/002.png: there is no nut/ground_truth/crack/002_mask.png",
        "7 masks are of another size than their images. Make both the same:",
        *[f"  ground_truth/crack/{n:03}_mask.png: 8 x 7 pixels; the image has 8 x 6" for n in range(3, 8)],
        "  ... and 2 more",
        "1 mask of a defective image has no defect pixel. Mark the defects, or move the images to good:",
        "  ground_truth/crack/010_mask.png",
        "1 mask cannot be read. Replace the files:",
        "  ground_truth/crack/011_mask.png: not a readable image (unknown format).",
        "2 images cannot be read. Replace the files, or take them out:",
        "  test/good/001.png: not a readable image (empty file).",
        "  test/good/002.png: not a readable image (unknown format).",
        "`robis data check` lists the same for all categories and splits at once.",
    ]
    assert not (tmp_path / "samples.parquet").exists()


def test_an_empty_split_is_an_error(tmp_path: Path) -> None:
    root = mvtec_ad(tmp_path / "data")
    shutil.rmtree(root / "nut" / "test")
    with pytest.raises(
        DataError,
        match=r"nut/test: no images in .*data where layout 'mvtec_ad' has them \(images .*\)\. Folders of nut: ground_",
    ):
        index(root)


def test_masks_are_optional_in_the_folder_layout_as_a_whole_only(tmp_path: Path) -> None:
    root = tmp_path / "data"
    write_image(root / "nut" / "test" / "crack" / "0.png")
    write_image(root / "nut" / "test" / "crack" / "1.png")
    assert [sample.mask for sample in read_samples(index(root, layout="folder"))] == [None, None]
    write_mask(root / "nut" / "masks" / "crack" / "1.png")
    with pytest.raises(DataError, match=r"1 defective image has no mask\. Add the masks.*\n.*crack/0\.png"):
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
    from robis.workflow import fingerprints

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


def test_links_are_followed_and_dead_ones_named(tmp_path: Path) -> None:
    root = mvtec_ad(tmp_path / "data")
    truth = root / "nut" / "ground_truth" / "crack"
    truth.rename(tmp_path / "elsewhere")
    truth.symlink_to(tmp_path / "elsewhere")
    assert len(read_samples(index(root))) == 3
    (root / "nut" / "test" / "good" / "009.png").symlink_to(tmp_path / "nowhere.png")
    with pytest.raises(DataError, match=r"009\.png: not a readable image \(no such file\)"):
        index(root)


def test_masks_that_match_no_image_are_noticed(tmp_path: Path) -> None:
    root = tmp_path / "data"
    write_image(root / "nut" / "test" / "dent" / "0.png")
    write_mask(root / "nut" / "masks" / "dent" / "0_gt.png")
    with pytest.raises(DataError, match=r"1 defective image has no mask\. Add the masks.*\n.*dent/0\.png"):
        index(root, layout="folder")


def test_fingerprints_of_another_tree_are_not_taken_from_memory(tmp_path: Path) -> None:
    for name, value in (("a", 90), ("b", 91)):
        write_image(tmp_path / name / "x.bmp", value=value)
        os.utime(tmp_path / name / "x.bmp", (1, 1))
    memory = tmp_path / "memory.json"
    assert fingerprint(tmp_path / "a", ["x.bmp"], memory) != fingerprint(tmp_path / "b", ["x.bmp"], memory)
