"""The generated demo dataset: what is in it, masks that are exactly what changed, the same bytes for a seed."""

from __future__ import annotations

import json
from functools import cache
from pathlib import Path

import cv2
import numpy as np
import pytest

from robis.datasets.check import check_dataset
from robis.datasets.layouts import LAYOUTS, list_categories, list_samples, list_splits
from robis.datasets.samples import Sample, Source
from robis.demo import generate as demo
from robis.demo.defects import DEFECT_KINDS
from robis.demo.layouts import DEMO_LAYOUTS
from robis.errors import DataError
from robis.io.images import read_image, read_mask


@pytest.fixture
def small(monkeypatch: pytest.MonkeyPatch) -> None:
    """One category with a handful of images: drawing all of them takes a while."""
    monkeypatch.setattr(demo, "CATEGORIES", ("weave",))
    monkeypatch.setattr(demo, "NORMAL", {"train": 1, "test_public": 1, "test_private_mixed": 1})
    monkeypatch.setattr(demo, "ANOMALOUS", {"test_public": 1, "test_private_mixed": 1})


@pytest.fixture
def few(monkeypatch: pytest.MonkeyPatch) -> None:
    """One category with every split and label, each image drawn once for all tests."""
    monkeypatch.setattr(demo, "CATEGORIES", ("weave",))
    monkeypatch.setattr(demo, "NORMAL", {"train": 2, "validation": 1, "test_public": 1, "test_private": 1})
    monkeypatch.setattr(demo, "ANOMALOUS", {"test_public": 2, "test_private": 1})
    monkeypatch.setattr(demo, "draw", _draw_once)


@cache
def _draw_once(spec: demo.ImageSpec, seed: int, draw=demo.draw) -> tuple[np.ndarray, np.ndarray]:
    return draw(spec, seed)


def content(root: Path) -> dict[str, bytes]:
    return {path.relative_to(root).as_posix(): path.read_bytes() for path in root.rglob("*") if path.is_file()}


def test_the_plan_shows_every_kind_both_sizes_and_all_splits() -> None:
    specs = list(demo.plan())
    for category in ("weave", "cans", "grains"):
        own = [spec for spec in specs if spec.category == category]
        assert {spec.split for spec in own} == {
            *("train", "validation", "test_public", "test_private", "test_private_mixed")
        }
        assert not any(spec.is_anomalous for spec in own if spec.split in ("train", "validation"))
        public = [spec for spec in own if spec.split == "test_public" and spec.is_anomalous]
        assert {spec.defect_size for spec in public} == {"small", "large"}
        assert {spec.defect for spec in own} - {"good"} == set(DEFECT_KINDS[category])
    for split in ("train", "test_public"):
        sizes = {(spec.height, spec.width) for spec in specs if spec.category == "grains" and spec.split == split}
        assert len(sizes) == 2, "images of two sizes in one category"


@pytest.mark.parametrize("category", list(DEFECT_KINDS))
def test_masks_are_exactly_the_pixels_that_changed(category: str) -> None:
    scene = demo.draw_scene(category, np.random.default_rng(3), 240, 320)
    for kind in DEFECT_KINDS[category]:
        for size, (least, most) in {"small": (8, 34), "large": (40, 170)}.items():
            image, mask = demo.add_defect(scene, kind, np.random.default_rng(4), size)
            np.testing.assert_array_equal((image != scene.image).any(axis=2), mask)
            rows, cols = np.nonzero(mask)
            extent = max(np.ptp(rows), np.ptp(cols)) + 1
            assert least <= extent <= most, (kind, size)
            contrast = np.abs(image[mask].astype(float) - scene.image[mask]).max(axis=1).mean()
            assert contrast > 15, f"{kind} {size} would be too faint to see"


def test_a_normal_and_a_defective_photograph_differ_inside_the_mask_only() -> None:
    spec = next(spec for spec in demo.plan() if spec.is_anomalous and spec.category == "weave")
    image, mask = demo.draw(spec)
    normal = demo.ImageSpec(**{**spec.__dict__, "defect_size": None})
    plain, none = demo.draw(normal)
    assert not none.any()
    assert (image != plain).any(axis=2)[~mask].sum() == 0
    assert (image != plain).any()


def test_written_in_the_mvtec_ad_2_layout(small: None, tmp_path: Path) -> None:
    root = tmp_path / "demo"
    demo.write_demo(root)
    assert list_categories(Source("mvtec_ad_2", root)) == ["weave"]
    public = list_samples(Source("mvtec_ad_2", root), "weave", "test_public")
    assert [sample.sample_id for sample in public] == ["bad/000_regular", "good/000_regular"]
    mask = cv2.imread(str(root / str(public[0].mask)), cv2.IMREAD_UNCHANGED)
    assert mask.shape == cv2.imread(str(root / public[0].image)).shape[:2]
    assert set(np.unique(mask)) == {0, 255}
    private = list_samples(Source("mvtec_ad_2", root), "weave", "test_private_mixed")
    assert [sample.sample_id for sample in private] == ["000_mixed", "001_mixed"]


def test_a_seed_gives_the_same_bytes_and_another_one_others(small: None, tmp_path: Path) -> None:
    for name, seed in (("a", 0), ("b", 0), ("c", 1)):
        demo.write_demo(tmp_path / name, seed=seed)
    first, same, other = (content(tmp_path / name) for name in "abc")
    assert first == same
    assert first.keys() == other.keys()
    assert all(first[name] != other[name] for name in first if name.endswith("regular.png"))


def test_it_is_written_once_replaced_for_another_seed_and_never_over_foreign_files(small: None, tmp_path: Path) -> None:
    root = tmp_path / "demo"
    demo.write_demo(root)
    before = {path: path.stat().st_mtime_ns for path in root.rglob("*.png")}
    demo.write_demo(root)
    assert {path: path.stat().st_mtime_ns for path in root.rglob("*.png")} == before
    demo.write_demo(root, seed=1)
    assert json.loads((root / "demo.json").read_text())["seed"] == 1
    (root / "notes.txt").write_text("mine")
    with pytest.raises(DataError, match=r"notes\.txt"):
        demo.write_demo(root, seed=2)
    foreign = tmp_path / "foreign"
    foreign.mkdir()
    (foreign / "a.png").touch()
    with pytest.raises(DataError, match=r"exists and is no demo dataset.*stays as it is"):
        demo.write_demo(foreign)
    assert (foreign / "a.png").exists()


# Splits of each layout, and which of them holds the images of `test_public`.
SPLITS = {
    "mvtec_ad_2": (["train", "validation", "test_public", "test_private"], "test_public"),
    "table": (["train", "validation", "test_public", "test_private"], "test_public"),
    **dict.fromkeys(["folder", "mvtec_loco"], (["train", "validation", "test"], "test")),
    **dict.fromkeys(["mvtec_ad", "mpdd", "btad", "visa"], (["train", "test"], "test")),
}


def pixels_of(samples: list[Sample], root: Path) -> list[tuple]:
    """Pixels, label and mask of each image, whatever its name."""
    found = [
        (read_image(root / s.image).tobytes(), s.label, s.mask and read_mask(root / s.mask).tobytes()) for s in samples
    ]
    return sorted(found, key=str)


@pytest.mark.parametrize("layout", list(LAYOUTS))
def test_every_layout_holds_the_same_pixels(layout: str, few: None, tmp_path: Path) -> None:
    demo.write_demo(tmp_path / "reference")
    demo.write_demo(tmp_path / "other", layout=layout)
    reference, other = Source("mvtec_ad_2", tmp_path / "reference"), Source(layout, tmp_path / "other")
    names, public = SPLITS[layout]
    assert list_categories(other) == ["weave"]
    assert [split for split in list_splits(other) if list_samples(other, "weave", split)] == names
    for split in names:
        known = "test_public" if split == public else split
        expected = pixels_of(list_samples(reference, "weave", known), reference.root)
        assert pixels_of(list_samples(other, "weave", split), other.root) == expected, split
    report = check_dataset(other, lambda *image: (0, 0))
    assert report.problems == report.remarks == []
    assert sum(summary.anomalous for summary in report.summaries) == 2
    written = {path.relative_to(other.root).as_posix() for path in other.root.rglob("*") if path.is_file()}
    assert written == {demo.MARKER, *json.loads((other.root / demo.MARKER).read_text())["files"]}


def test_names_and_mask_values_are_those_of_the_public_data_sets(few: None, tmp_path: Path) -> None:
    """VisA numbers its defects from 1, the others mark them by 255; BTAD has bitmaps, MVTec AD a folder per defect."""
    values = {"visa": [0, 1], "btad": [0, 255], "mvtec_ad": [0, 255]}
    masks = {
        "visa": "weave/Data/Masks/Anomaly/000.png",
        "btad": "weave/ground_truth/ko/0000.png",
        "mvtec_ad": "weave/ground_truth/stain/000_mask.png",
    }
    for layout, mask in masks.items():
        demo.write_demo(tmp_path / layout, layout=layout)
        found = cv2.imread(str(tmp_path / layout / mask), cv2.IMREAD_UNCHANGED)
        assert found.ndim == 2
        assert np.unique(found).tolist() == values[layout]
    assert (tmp_path / "visa" / "split_csv" / "1cls.csv").read_text().splitlines()[0] == "object,split,label,image,mask"
    cans = demo.ImageSpec("cans", "test_public", 4, "dent", "large", 8, 8)
    grains = demo.ImageSpec("grains", "test_public", 4, "crumbs", "large", 8, 8)
    paths = [(place.image, place.mask) for place in map(DEMO_LAYOUTS["btad"].place, (cans, grains))]
    assert paths == [
        ("cans/test/ko/0004.bmp", "cans/ground_truth/ko/0004.png"),
        ("grains/test/ko/0004.bmp", "grains/ground_truth/ko/0004.bmp"),
    ]


def test_another_layout_replaces_the_demo(few: None, tmp_path: Path) -> None:
    root = tmp_path / "demo"
    demo.write_demo(root, layout="folder")
    demo.write_demo(root, layout="visa")
    assert not list(root.rglob("train"))
    assert (root / "split_csv").is_dir()
    with pytest.raises(DataError, match=r"'vissa' is no layout\. .*Did you mean 'visa'"):
        demo.write_demo(root, layout="vissa")


def test_unknown_names_are_answered_with_the_valid_ones() -> None:
    with pytest.raises(DataError, match=r"'weav' is no category.*Did you mean 'weave'"):
        demo.draw_scene("weav", np.random.default_rng(0), 50, 50)
    scene = demo.draw_scene("weave", np.random.default_rng(0), 100, 100)
    with pytest.raises(DataError, match=r"'hol' is no defect of 'weave'.*Did you mean 'hole'"):
        demo.add_defect(scene, "hol", np.random.default_rng(0), "small")
