"""The generated demo dataset: what is in it, masks that are exactly what changed, the same bytes for a seed."""

from __future__ import annotations

import json
from pathlib import Path

import cv2
import numpy as np
import pytest

from robis.datasets import demo
from robis.datasets.demo_defects import DEFECT_KINDS
from robis.datasets.layouts import list_categories, list_samples
from robis.errors import DataError


@pytest.fixture
def small(monkeypatch: pytest.MonkeyPatch) -> None:
    """One category with a handful of images: drawing all of them takes a while."""
    monkeypatch.setattr(demo, "CATEGORIES", ("weave",))
    monkeypatch.setattr(demo, "NORMAL", {"train": 1, "test_public": 1, "test_private_mixed": 1})
    monkeypatch.setattr(demo, "ANOMALOUS", {"test_public": 1, "test_private_mixed": 1})


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
        assert {spec.defect_size for spec in public} == {"tiny", "large"}
        assert {spec.defect for spec in own} - {"good"} == set(DEFECT_KINDS[category])
    for split in ("train", "test_public"):
        sizes = {(spec.height, spec.width) for spec in specs if spec.category == "grains" and spec.split == split}
        assert len(sizes) == 2, "images of two sizes in one category"


@pytest.mark.parametrize("category", list(DEFECT_KINDS))
def test_masks_are_exactly_the_pixels_that_changed(category: str) -> None:
    scene = demo.draw_scene(category, np.random.default_rng(3), 240, 320)
    for kind in DEFECT_KINDS[category]:
        for size, (least, most) in {"tiny": (2, 20), "large": (20, 170)}.items():
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
    assert list_categories("mvtec_ad_2", root) == ["weave"]
    public = list_samples("mvtec_ad_2", root, "weave", "test_public")
    assert [sample.sample_id for sample in public] == ["bad/000_regular", "good/000_regular"]
    mask = cv2.imread(str(root / str(public[0].mask)), cv2.IMREAD_UNCHANGED)
    assert mask.shape == cv2.imread(str(root / public[0].image)).shape[:2]
    assert set(np.unique(mask)) == {0, 255}
    private = list_samples("mvtec_ad_2", root, "weave", "test_private_mixed")
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


def test_unknown_names_are_answered_with_the_valid_ones() -> None:
    with pytest.raises(DataError, match=r"'weav' is no category.*Did you mean 'weave'"):
        demo.draw_scene("weav", np.random.default_rng(0), 50, 50)
    scene = demo.draw_scene("weave", np.random.default_rng(0), 100, 100)
    with pytest.raises(DataError, match=r"'hol' is no defect of 'weave'.*Did you mean 'hole'"):
        demo.add_defect(scene, "hol", np.random.default_rng(0), "tiny")
