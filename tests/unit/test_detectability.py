"""Synthetic defects, trials, and the stage on a tiny pack."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import pandas as pd
import pytest

from robis.detectability.stage import Options, measure_detectability
from robis.detectability.synthetic import (
    BORDER,
    KINDS,
    Placed,
    crop_stamp,
    free_area,
    line_cover,
    put,
    read_crops,
    room_in,
)
from robis.detectability.trials import Bench, Design, Trial, defect_area, is_hit, planned
from robis.detectors.settings import parse
from robis.errors import ConfigError, DataError
from robis.report.detectability import CURVES, TRIALS
from robis.workflow import results
from robis.workflow.detectability import crop_files
from robis.workflow.summary import finished_text
from tests.script_jobs import ScriptJobs
from tests.unit.test_detector_contract import data, own_process  # noqa: F401
from tests.unit.test_packs import Packed, packed  # noqa: F401

SIZES = (2.0, 3.3, 8.0, 20.0, 33.0)
DESIGN = Design(["stain", "blur"], [4.0, 9.0], [30, 60], 3, 0, "nut")


def grain(height: int = 90, width: int = 120, seed: int = 0) -> np.ndarray:
    """A gray image with fine structure, uint8 (H, W, 3)."""
    gray = np.random.default_rng(seed).integers(90, 160, (height, width), np.uint8)
    return np.dstack([gray] * 3)


def placed(
    kind: str, size: float, image: np.ndarray, allowed: np.ndarray | None = None, seed: int = 1
) -> Placed | None:
    rng = np.random.default_rng(seed)
    allowed = free_area(*image.shape[:2]) if allowed is None else allowed
    return put(image, KINDS[kind](size, 40.0, rng), room_in(allowed), rng)


@pytest.mark.parametrize("size", SIZES)
@pytest.mark.parametrize("kind", [kind for kind in KINDS if kind != "scratch"])
def test_a_defect_has_the_area_of_the_circle_of_its_size(kind: str, size: float) -> None:
    cover = KINDS[kind](size, 40.0, np.random.default_rng(2)).cover
    assert 2 * np.sqrt(cover.sum() / np.pi) == pytest.approx(size, rel=0.02)


@pytest.mark.parametrize("size", SIZES)
def test_a_scratch_is_as_long_as_its_size_and_at_most_4_pixels_wide(size: float) -> None:
    """A line of length L and width w whose round ends are part of it covers (L - w) w + pi w**2 / 4."""
    width = min(max(size / 12, 1.0), 4.0)
    cover = line_cover(size, np.random.default_rng(3))
    assert cover.sum() == pytest.approx((size - width) * width + np.pi / 4 * width**2, rel=0.15)


@pytest.mark.parametrize("kind", KINDS)
def test_a_defect_changes_its_own_pixels_and_no_others(kind: str) -> None:
    image = grain()
    defect = placed(kind, 14.0, image)
    assert defect is not None
    changed = (defect.image != image).any(axis=2)
    assert changed[defect.mask].mean() > 0.9
    near = cv2.dilate(defect.mask.astype(np.uint8), np.ones((3, 3), np.uint8)) > 0
    assert not changed[~near].any()
    # By the contrast, where it is one of gray levels.
    if kind in ("stain", "scratch"):
        difference = np.abs(defect.image.astype(int) - image)[defect.mask]
        assert difference.max() == 40


@pytest.mark.parametrize("kind", KINDS)
def test_a_defect_stays_in_the_allowed_area(kind: str) -> None:
    image, allowed = grain(), np.zeros((90, 120), bool)
    allowed[5:50, 60:110] = True
    for seed in range(20):
        defect = placed(kind, 9.0, image, allowed, seed)
        assert defect is not None and not (defect.image != image).any(axis=2)[~allowed].any()
    assert placed(kind, 60.0, image, allowed) is None


def test_no_defect_touches_the_border() -> None:
    free = free_area(20, 30)
    assert free.sum() == (20 - 2 * BORDER) * (30 - 2 * BORDER) and not free[[0, 1, -1, -2]].any()


def test_no_defect_touches_ignored_pixels() -> None:
    ignored = np.zeros((90, 120), bool)
    ignored[:, 40:] = True
    for seed in range(20):
        defect = placed("stain", 9.0, grain(), free_area(90, 120, ignored), seed)
        assert defect is not None and not defect.mask[ignored].any()


def test_a_defect_goes_where_it_can_be_seen() -> None:
    """Blur changes nothing on the black half of the image."""
    image = grain()
    image[:, :90] = 0
    for seed in range(10):
        defect = placed("blur", 7.0, image, seed=seed)
        assert defect is not None and defect.change >= 2


def test_a_stain_is_darker_on_bright_and_brighter_on_dark_images() -> None:
    for level, sign in ((250, -1), (5, 1)):
        image = np.full((60, 60, 3), level, np.uint8)
        defect = placed("stain", 12.0, image)
        assert defect is not None
        assert set(np.unique(defect.image[defect.mask].astype(int) - level)) <= set(range(sign * 40, 0, -sign))


def test_a_hit_is_a_new_pixel_at_the_defect() -> None:
    defect = np.zeros((40, 80), bool)
    defect[16:20, 40:48] = True  # rows 4, columns 10 and 11 of a map of a quarter of the size
    area = defect_area(defect, 10, 20)
    assert np.argwhere(area).min(axis=0).tolist() == [3, 9] and np.argwhere(area).max(axis=0).tolist() == [5, 12]
    clean, mask = np.zeros((10, 20), bool), np.zeros((10, 20), bool)
    mask[3, 13] = True
    assert not is_hit(mask, clean, area)
    mask[3, 12] = True
    assert is_hit(mask, clean, area)
    clean[3, 12] = True
    assert not is_hit(mask, clean, area)


def test_trials_are_spread_over_the_images_and_blur_has_no_contrast() -> None:
    trials = planned(DESIGN, 4)
    # Two contrasts of stains, one curve of blur; two sizes, three each.
    assert len(trials) == 3 * 2 * 3
    assert [trial.image for trial in trials[:6]] == [0, 1, 2, 3, 0, 1]
    assert {trial.contrast for trial in trials if trial.kind == "blur"} == {None}


def test_a_trial_depends_on_no_other_trial() -> None:
    first = Trial("stain", 9.0, 30, 1, 0)
    draw = first.generator(DESIGN).random()
    others = Design(["pit", "stain"], [9.0], [30], 50, 0, "nut")
    assert first.generator(others).random() == draw
    for changed in (Trial("pit", 9.0, 30, 1, 0), Trial("stain", 9.5, 30, 1, 0), Trial("stain", 9.0, 30, 2, 0)):
        assert changed.generator(DESIGN).random() != draw
    assert first.generator(Design(["stain"], [9.0], [30], 3, 1, "nut")).random() != draw
    assert first.generator(Design(["stain"], [9.0], [30], 3, 0, "bolt")).random() != draw


def test_a_size_without_a_place_is_named() -> None:
    bench = Bench(DESIGN, lambda pixels, name: pytest.fail("inspected"))
    with pytest.raises(DataError, match=r"sizes: a stain of 80 pixels has no place on nut.png \(120 x 90 pixels\)"):
        list(bench.outcomes(grain(), "nut.png", None, [Trial("stain", 80.0, 30, 0, 0)], free_area(90, 120)))  # type: ignore[arg-type]


def write_crop(file: Path, alpha: int = 255) -> Path:
    """A red square of 10 x 10 opaque pixels in a transparent frame."""
    pixels = np.zeros((20, 30, 4), np.uint8)
    pixels[5:15, 10:20] = (0, 0, 200, alpha)
    file.parent.mkdir(exist_ok=True)
    cv2.imwrite(str(file), pixels)
    return file


def test_crops_are_scaled_to_the_size_and_keep_their_colors(tmp_path: Path) -> None:
    crops = read_crops([write_crop(tmp_path / "a.png")])
    for size in (5.0, 11.3, 30.0):
        stamp = crop_stamp(crops, size, np.random.default_rng(0))
        assert 2 * np.sqrt(stamp.cover.sum() / np.pi) == pytest.approx(size, rel=0.04)
    image = grain()
    defect = put(image, stamp, room_in(free_area(90, 120)), np.random.default_rng(0))
    assert defect is not None and defect.image[defect.y, defect.x].tolist() == [200, 0, 0]


def test_transparent_pixels_of_a_crop_count_neither_as_color_nor_as_place(tmp_path: Path) -> None:
    """A gray defect in a corner of a large canvas, white where it is transparent, on a gray image of the same value."""
    pixels = np.full((400, 400, 4), (255, 255, 255, 0), np.uint8)
    pixels[2:13, 3:14] = (90, 90, 90, 255)
    pixels[4, 14] = (90, 90, 90, 128)
    cv2.imwrite(str(tmp_path / "a.png"), pixels)
    crops, image = read_crops([tmp_path / "a.png"]), np.full((90, 120, 3), 90, np.uint8)
    for size in (5.0, 30.0):
        stamp = crop_stamp(crops, size, np.random.default_rng(0))
        defect = put(image, stamp, room_in(free_area(90, 120)), np.random.default_rng(0))
        assert defect is not None and (defect.image == 90).all()


@pytest.mark.parametrize(
    ("write", "words"),
    [
        (
            lambda file: cv2.imwrite(str(file), np.zeros((5, 5, 3), np.uint8)),
            "expected a PNG of 8 bits with colors and",
        ),
        (lambda file: file.write_bytes(b""), "expected a PNG of 8 bits with colors and"),
        (lambda file: write_crop(file, 100), "no pixel is opaque"),
    ],
)
def test_other_files_are_no_crops(write: Callable[[Path], Any], words: str, tmp_path: Path) -> None:
    write(tmp_path / "a.png")
    with pytest.raises(DataError, match=rf"a\.png: {words}"):
        read_crops([tmp_path / "a.png"])


def test_a_config_without_defects_is_refused(tmp_path: Path) -> None:
    for section, words in (
        ({"crops": str(tmp_path)}, r"detectability.crops: .* has no .png files"),
        ({"kinds": []}, r"detectability.kinds: found \[\]; expected a kind, or a folder in detectability.crops"),
    ):
        with pytest.raises(ConfigError, match=words):
            crop_files(parse({"detectability": section}))


@pytest.fixture(scope="module")
def measured(packed: Packed, tmp_path_factory: pytest.TempPathFactory) -> tuple[ScriptJobs, Path]:  # noqa: F811
    """The stage after a run whose threshold lets many pixels through."""
    crops = tmp_path_factory.mktemp("crops")
    write_crop(crops / "red.png")
    section = {
        **{"kinds": ["stain"], "sizes": [3.0, 8.0, 20.0], "contrasts": [100], "defects_per_size": 2},
        **{"pixel_size": 0.05, "crops": str(crops)},
    }
    jobs, packs = packed("patchcore", detectability=section)
    run = next(iter(packs))
    folder = jobs.place(results.DETECTABILITY, run)
    inputs = {"pack": str(packs[run]), "samples": str(jobs.place(results.SAMPLES, split="validation"))}
    jobs.run("measure_detectability", inputs, {"folder": folder}, detector=run)
    return jobs, folder


def test_the_stage_writes_a_row_per_defect_and_a_sentence_per_kind(measured: tuple[ScriptJobs, Path]) -> None:
    jobs, folder = measured
    trials, curves = pd.read_parquet(folder / TRIALS), pd.read_parquet(folder / CURVES)
    assert trials["kind"].tolist() == ["stain"] * 6 + ["crop"] * 6
    assert trials["size"].tolist() == [3, 3, 8, 8, 20, 20] * 2
    assert trials["contrast"].isna().tolist() == [False] * 6 + [True] * 6
    held_out = {sample.sample_id for sample in jobs.project.samples(jobs.category, "validation")}
    assert set(trials["sample_id"]) <= held_out
    # The defects are seen: the map is higher at most of the large ones.
    large = trials[trials["size"] == 20]
    assert (large["peak"] > large["clean_peak"]).all()
    assert curves["hits"].tolist() == [trials[trials["kind"] == kind]["hit"].sum() for kind in ("stain", "crop")]
    assert "20 px (1 mm)" in curves["sentence"][0]
    names = {path.name for path in folder.iterdir()}
    assert {"stain_100.svg", "crop.svg", "stain_100_examples.jpg", "crop_examples.jpg", "curves.csv"} <= names
    # Three sizes of 160 pixels and the gaps between.
    assert cv2.imread(str(folder / "crop_examples.jpg")).shape[1] == 3 * 160 + 2 * 4


def test_crops_count_by_their_content(measured: tuple[ScriptJobs, Path]) -> None:
    jobs, folder = measured
    params = jobs.project.params("measure_detectability", detector=folder.parent.parent.name, category=jobs.category)
    (digest,) = params["crop_digests"]
    assert digest in repr(params) and params["crops"][0] not in repr(params)


def test_threads_do_not_change_the_results(measured: tuple[ScriptJobs, Path], tmp_path: Path) -> None:
    jobs, folder = measured
    run = folder.parent.parent.name
    section = jobs.project.settings.detectability
    measure_detectability(
        tmp_path / "again",
        jobs.place(results.PACK, run),
        jobs.place(results.SAMPLES, split="validation"),
        Options(section.kinds, section.sizes, section.contrasts, section.defects_per_size, section.pixel_size, 0),
        root=jobs.project.root,
        crops=crop_files(jobs.project.settings),
        threads=3,
    )
    for file in folder.iterdir():
        assert (tmp_path / "again" / file.name).read_bytes() == file.read_bytes(), file.name


def test_metrics_end_with_the_sentences(measured: tuple[ScriptJobs, Path]) -> None:
    jobs, folder = measured
    (jobs.project.results / "report").mkdir(exist_ok=True)
    (jobs.project.results / "report" / "summary.txt").write_text("summary\n")
    said = finished_text(jobs.project.results)
    sentence = pd.read_parquet(folder / CURVES)["sentence"][0]
    assert f"held-out good images:\n  {jobs.category}, {folder.parent.parent.name}: {sentence}\n" in said
    assert "marks something on" in said
