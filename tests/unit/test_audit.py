"""The audit of good images: robust outliers, copies, sharpness, places of defects, and the order of the findings."""

from __future__ import annotations

import tracemalloc
from dataclasses import replace
from pathlib import Path

import cv2
import numpy as np
import pandas as pd
import pytest
from scipy import stats
from skimage.measure import blur_effect

from robis.audit.copies import ROWS_AT_ONCE, Pair, candidates, find_copies, largest
from robis.audit.findings import Audited, find, in_words, order
from robis.audit.measures import Measures, measure, sharpness, shrunk
from robis.audit.outliers import robust_z
from robis.audit.stage import COLUMNS, AuditFiles, audit_category
from robis.audit.unlike import Unlikeness, beyond_usual, find_unlike
from robis.detectors.jobs import Compute
from robis.errors import DataError
from robis.io.ignored import encode, filled
from robis.io.tables import write_table
from robis.tiles.files import TileStore
from robis.tiles.store import Cutting, crop_split
from tests.unit.trees import index


def test_robust_z_is_scipys_and_survives_equal_values(rng: np.random.Generator) -> None:
    values = np.append(rng.normal(10, 2, 50), 40.0)
    scaled = np.abs(values - np.median(values)).max() / stats.median_abs_deviation(values, scale=0.6745)
    assert robust_z(values).max() == pytest.approx(scaled)
    assert robust_z(np.array([1.0, 2.0, 3.0, 4.0, 100.0])).tolist() == pytest.approx(
        [-1.349, -0.6745, 0.0, 0.6745, 65.4265]
    )
    # A median deviation of 0: nine equal values, and the mean deviation of 0.5 stands in.
    assert robust_z(np.array([2.0] * 9 + [7.0]))[-1] == pytest.approx(5 / (1.253314 * 0.5))
    assert not robust_z(np.full(4, 3.0)).any()


def photos(rng: np.random.Generator, count: int, height: int = 120, width: int = 160) -> list[np.ndarray]:
    """Photos of parts on a fixed camera, uint8 (H, W): the same scene in all, with texture and noise of their own."""
    scene = np.full((height, width), 90, np.float32)
    cv2.circle(scene, (width // 2, height // 2), 40, 170, -1)
    textures = [cv2.GaussianBlur(rng.normal(0, 12, scene.shape).astype(np.float32), (0, 0), 1.5) for _ in range(count)]
    return [
        np.clip(scene + 3 * texture + rng.normal(0, 2, scene.shape), 0, 255).astype(np.uint8) for texture in textures
    ]


def compressed(image: np.ndarray) -> np.ndarray:
    return cv2.imdecode(cv2.imencode(".jpg", image, [cv2.IMWRITE_JPEG_QUALITY, 75])[1], cv2.IMREAD_GRAYSCALE)


def shifted(image: np.ndarray) -> np.ndarray:
    moved = np.array([[1, 0, 6], [0, 1, -3]], float)
    return cv2.warpAffine(image, moved, image.shape[::-1], borderMode=cv2.BORDER_REPLICATE)


@pytest.mark.parametrize(
    "changed",
    [
        lambda image: image.copy(),
        compressed,
        lambda image: np.clip(image * 1.05 + 2, 0, 255).astype(np.uint8),
        shifted,
        lambda image: compressed(shifted(image)),
    ],
)
def test_copies_are_told_from_photos_of_alike_parts(rng: np.random.Generator, changed) -> None:
    images = photos(rng, 20)
    images.append(changed(images[7]))
    pairs = find_copies([image.tobytes().hex() for image in images], [shrunk(image, 256) for image in images])
    assert [(pair.first, pair.second) for pair in pairs] == [(7, 20)]
    assert (pairs[0].distance == 0) == np.array_equal(images[20], images[7])


def test_photos_of_alike_parts_are_no_copies_however_few(rng: np.random.Generator) -> None:
    for count in (1, 2, 5, 40):
        images = photos(rng, count)
        assert find_copies([str(n) for n in range(count)], [shrunk(image, 256) for image in images]) == []


def test_blank_images_are_no_copies_of_others() -> None:
    blank = [np.full((64, 96), value, np.float16) for value in (104, 110, 114, 118)]
    assert find_copies(list("abcd"), blank) == []


def test_every_copy_is_paired_with_the_first() -> None:
    flat = np.zeros((20, 30), np.float32)
    assert find_copies(["a", "b", "a", "a"], [flat, flat + 1, flat, flat])[:2] == [Pair(0, 2, 0.0), Pair(0, 3, 0.0)]


def test_candidates_have_the_most_similar_deviations_from_the_mean_spectrum(rng: np.random.Generator) -> None:
    # More images than are compared at a time.
    spectra = rng.normal(5, 1, (ROWS_AT_ONCE + 40, 30)).astype(np.float32)
    centered = spectra - spectra.mean(0)
    lengths = np.linalg.norm(centered, axis=1)
    likeness = (centered @ centered.T) / np.outer(lengths, lengths)
    np.fill_diagonal(likeness, -2)
    nearest = np.argsort(-likeness, axis=1)[:, :5]
    expected = {(min(a, b), max(a, b)) for a, row in enumerate(nearest.tolist()) for b in row}
    assert candidates(spectra.copy()) == sorted(expected)


def test_of_equal_values_the_first_are_the_largest() -> None:
    assert largest(np.array([1.0, 3.0, 2.0, 2.0, 0.0, 2.0]), 3) == [1, 2, 3]
    assert largest(np.zeros(6), 2) == [0, 1]


def test_textures_of_all_images_are_not_in_memory_together(rng: np.random.Generator) -> None:
    pictures = [rng.integers(0, 255, (256, 256)).astype(np.float16) for _ in range(64)]
    tracemalloc.start()
    try:
        assert find_copies([str(number) for number in range(64)], pictures) == []
        _, peak = tracemalloc.get_traced_memory()
    finally:
        tracemalloc.stop()
    # float32 textures of all 64: 17 MB.
    assert peak < 12_000_000


def test_sharpness_is_one_minus_scikit_images_blur_effect(rng: np.random.Generator) -> None:
    (image,) = photos(rng, 1)
    values = []
    for sigma in (0.1, 1.0, 2.5):
        gray = cv2.GaussianBlur(image.astype(np.float32), (0, 0), sigma)
        values.append(sharpness(gray))
        assert values[-1] == pytest.approx(1 - blur_effect(gray / 255), abs=1e-4)
        # Neither brightness nor contrast matter.
        assert sharpness(0.5 * gray + 20) == pytest.approx(values[-1], abs=1e-4)
    assert values == sorted(values, reverse=True)
    assert sharpness(np.zeros((40, 40), np.float32)) == sharpness(np.zeros((2, 2), np.float32)) == 0


def test_an_image_is_measured_as_it_is_stored(tmp_path: Path) -> None:
    image = np.zeros((10, 20), np.uint8)
    image[:5] = 255
    image[0, :4] = 100
    cv2.imwrite(str(tmp_path / "a.png"), image)
    cv2.imwrite(str(tmp_path / "b.bmp"), cv2.cvtColor(image, cv2.COLOR_GRAY2BGR))
    gray, color = (measure(tmp_path / name) for name in ("a.png", "b.bmp"))
    assert gray.digest == color.digest
    assert (gray.mode, color.mode, gray.height, gray.width) == ("L", "RGB", 10, 20)
    assert gray.brightness == pytest.approx((96 * 255 + 4 * 100) / 200)
    assert (gray.dark, gray.bright) == (0.5, 0.48)


def test_ignored_pixels_do_not_count_in_measures(tmp_path: Path) -> None:
    image = np.full((10, 20), 100, np.uint8)
    image[:, 12:] = 255
    ignored = image == 255
    cv2.imwrite(str(tmp_path / "a.png"), image)
    plain, measured = measure(tmp_path / "a.png"), measure(tmp_path / "a.png", ignored=ignored)
    assert (measured.brightness, measured.bright) == (100, 0) and plain.bright == 0.4
    assert measured.digest == plain.digest
    assert (measured.small == 100).all() and measured.sharpness == 0


def test_the_usual_score_of_a_place_does_not_count() -> None:
    """The border of every tile is 0.5 unlike; one token elsewhere is 0.3 unlike."""
    scores = np.zeros((6, 2, 2), np.float32)
    scores[:, 0, 0], scores[4, 1, 1] = 0.5, 0.3
    rows = pd.DataFrame({"row": [0] * 6, "col": [0] * 6})
    beyond = beyond_usual(scores, rows)
    assert np.unravel_index(beyond.argmax(), beyond.shape) == (4, 1, 1)
    assert beyond.max() == pytest.approx(0.3)


def test_ignored_pixels_are_not_unlike_the_others(tmp_path: Path) -> None:
    """One of eight images has a painted area, and another one a defect: the place that is marked is the defect's."""
    rng = np.random.default_rng(0)
    tiles = np.stack([cv2.GaussianBlur(rng.integers(0, 255, (64, 64, 3), dtype=np.uint8), (3, 3), 1)] * 8)
    ignored = np.zeros((64, 64), bool)
    ignored[:, :32] = True
    tiles[3] = filled(tiles[3], ignored)
    np.save(tmp_path / "t.npy", tiles)
    place = {"row": 0, "col": 0, "x": 0, "y": 0, "width": 64, "height": 64}
    table = pd.DataFrame({"tile": range(8), "sample_id": list("abcdefgh"), **place})
    encoder = {"name": "vit_tiny_patch16_224", "weights": "random", "input_size": 64, "blocks": [1, 5]}
    scores = []
    for region in (encode(ignored), None):
        write_table(tmp_path / "t.parquet", table.assign(ignored=[region if n == 3 else None for n in range(8)]))
        store = TileStore(tmp_path / "t.npy", tmp_path / "t.parquet")
        unlike = find_unlike([store], 64, encoder=encoder, compute=Compute(4), scratch=tmp_path / "scratch")
        scores.append(unlike[0, "d"])
    kept, painted = scores
    assert kept.box[0] >= 32 and painted.box[0] < 32
    assert kept.score < painted.score
    # A tile without any score, and a place with too few of them.
    values = np.full((6, 1, 2), 0.5, np.float32)
    values[0], values[1:3, 0, 1], values[5, 0, 1] = np.nan, np.nan, 0.7
    beyond = beyond_usual(values, pd.DataFrame({"row": [0] * 6, "col": [0] * 6}))
    assert np.isnan(beyond[0]).all() and np.nanmax(beyond) == beyond[5, 0, 1] == pytest.approx(0.2)


USUAL = Measures("", np.zeros((8, 8), np.float16), 100, 200, "RGB", 120.0, 0.001, 0.001, 0.6)


def audited(count: int = 20) -> list[Audited]:
    """Images that differ a little in all that is measured."""
    return [
        Audited(
            f"train/{n:02}.png",
            "train",
            replace(USUAL, digest=str(n), brightness=118 + n % 5, sharpness=0.58 + 0.01 * (n % 5)),
            Unlikeness(0.2 + 0.01 * (n % 7), (n, 0, 10, 10)),
        )
        for n in range(count)
    ]


def reasons(images: list[Audited], pairs: list[Pair] | None = None) -> dict[str, str]:
    findings = find(images, pairs or [])
    return {images[number].image: in_words(findings[number]) for number in findings if findings[number].reasons}


def test_usual_images_have_no_findings() -> None:
    assert reasons(audited()) == {}
    assert reasons(audited(3)) == {}


@pytest.mark.parametrize(
    ("changes", "reason"),
    [
        ({"brightness": 60.0}, "dark: mean gray value 60, median of all 120"),
        ({"bright": 0.4}, "40.0 % of the pixels are white"),
        ({"sharpness": 0.31}, "blurred: sharpness 0.31, most others 0.58 to 0.62"),
        ({"width": 150}, "150 x 100 pixels; 19 of 20 have 200 x 100 pixels"),
        ({"mode": "L"}, "mode L; 19 of 20 have RGB"),
        # Sharper than usual, or a difference that nobody sees.
        ({"sharpness": 0.9}, ""),
        ({"brightness": 127.0, "dark": 0.011}, ""),
    ],
)
def test_each_finding_has_its_reason(changes: dict, reason: str) -> None:
    images = audited()
    images[3] = replace(images[3], measures=replace(images[3].measures, **changes))
    assert reasons(images) == ({"train/03.png": reason} if reason else {})


def test_an_image_that_is_unlike_the_others_says_how_much() -> None:
    images = audited()
    images[5] = replace(images[5], unlike=Unlikeness(0.66, (0, 0, 5, 5)))
    assert reasons(images) == {
        "train/05.png": "unlike the others: 0.66, most others 0.20 to 0.26; look at the marked place"
    }


def test_of_mixed_sizes_only_those_far_away_are_odd() -> None:
    images = audited()
    for n, image in enumerate(images):
        images[n] = replace(image, measures=replace(image.measures, width=200 + 3 * n))
    images[4] = replace(images[4], measures=replace(images[4].measures, width=900))
    assert reasons(images) == {"train/04.png": "900 x 100 pixels: far from the usual size or shape"}


def test_of_two_copies_the_one_to_take_out_is_named() -> None:
    images = audited()
    images[9] = replace(images[9], measures=replace(images[9].measures, digest="2"))
    images.append(replace(images[0], image="validation/0.png", split="validation"))
    images.append(Audited("test/good/0.png", "test", replace(USUAL, digest="4")))
    pairs = [Pair(2, 9, 0.0), Pair(4, 21, 0.0), Pair(20, 1, 0.03), Pair(20, 21, 0.04), Pair(7, 8, 0.05)]
    assert reasons(images, pairs) == {
        "train/09.png": "same pixels as train/02.png",
        "train/04.png": "same pixels as test/good/0.png, which is in test",
        "train/01.png": "near copy (distance 0.03) of validation/0.png, which is in validation",
        "validation/0.png": "near copy (distance 0.04) of test/good/0.png, which is in test",
        "train/08.png": "near copy (distance 0.05) of train/07.png",
    }


def test_every_copy_across_splits_is_named_however_often_the_image_is_there() -> None:
    images = audited()
    same = replace(USUAL, digest="same")
    for n in (2, 9):
        images[n] = replace(images[n], measures=same)
    images += [Audited(f"{split}/0.png", split, same) for split in ("validation", "test")]
    images[20] = replace(images[20], unlike=Unlikeness(0.2, (0, 0, 1, 1)))
    found = reasons(images, [Pair(2, 9, 0.0), Pair(2, 20, 0.0), Pair(2, 21, 0.0)])
    assert found == {
        "train/02.png": "same pixels as validation/0.png, which is in validation",
        "train/09.png": "same pixels as validation/0.png, which is in validation; same pixels as train/02.png",
        "validation/0.png": "same pixels as test/0.png, which is in test",
    }


def test_rounding_makes_no_image_unlike_the_others() -> None:
    images = [replace(image, unlike=Unlikeness(0.0, (0, 0, 1, 1))) for image in audited()]
    images[4] = replace(images[4], unlike=Unlikeness(1e-6, (0, 0, 1, 1)))
    assert reasons(images) == {}
    images[4] = replace(images[4], unlike=Unlikeness(0.02, (0, 0, 1, 1)))
    assert reasons(images)["train/04.png"].startswith("unlike the others: 0.02, most others 0.00 to 0.00")


def test_the_most_severe_findings_come_first_then_the_least_alike() -> None:
    images = audited()
    images[5] = replace(images[5], unlike=Unlikeness(0.9, (0, 0, 5, 5)))
    images[3] = replace(images[3], measures=replace(images[3].measures, sharpness=0.2))
    images.append(Audited("test/0.png", "test", USUAL))
    ranked = order(images, find(images, [Pair(8, 20, 0.01), Pair(1, 2, 0.02)]))
    assert ranked[:4] == [8, 5, 3, 2]
    assert len(ranked) == 20
    scores = [images[number].unlike.score for number in ranked[4:]]
    assert scores == sorted(scores, reverse=True)


ENCODER = {"name": "vit_tiny_patch16_224", "weights": "random", "input_size": 32, "blocks": [2, 5]}


def audit(root: Path, cutting: Cutting, output: Path) -> pd.DataFrame:
    samples = index(root, "train", "folder")
    store = TileStore(root.parent / "tiles.npy", root.parent / "tiles.parquet")
    crop_split(samples, root, store, cutting)
    audit_category(output, AuditFiles([samples], [store]), root, size=32, encoder=ENCODER, compute=Compute())
    return pd.read_csv(output)


@pytest.mark.parametrize("window", [64, "image", "joined"])
def test_a_defect_and_a_copy_among_good_images_come_first(
    tmp_path: Path, rng: np.random.Generator, window: int | str
) -> None:
    folder = tmp_path / "data" / "nut" / "train"
    folder.mkdir(parents=True)
    images = photos(rng, 12, 64, 96)
    images[4][20:34, 60:78] = 255
    for n, image in enumerate([*images, images[2]]):
        cv2.imwrite(str(folder / f"{n:02}.png"), image)
    cutting = Cutting(window, 0.1, "shift", None if window == "joined" else 32)
    table = audit(tmp_path / "data", cutting, tmp_path / "audit" / "images.csv")
    assert list(table) == list(COLUMNS)
    assert sorted(table["image"]) == [f"nut/train/{n:02}.png" for n in range(13)]
    first = table.iloc[0]
    assert (first["image"], first["anomaly_rank"], first["rank"]) == ("nut/train/04.png", 1, 1)
    assert first["reasons"].startswith("unlike the others: ")
    # The marked place meets the defect and lies in the image.
    assert first["x"] < 78 and first["x"] + first["width"] > 60 and first["x"] + first["width"] <= 96
    assert first["y"] < 34 and first["y"] + first["height"] > 20 and first["y"] + first["height"] <= 64
    copy = table.set_index("image").loc["nut/train/12.png"]
    assert copy["duplicate_of"] == "nut/train/02.png" and copy["distance"] == 0
    assert copy["reasons"].startswith("same pixels as nut/train/02.png")
    assert table["reasons"].notna().sum() == 2


def test_a_single_image_cannot_be_audited(tmp_path: Path, rng: np.random.Generator) -> None:
    folder = tmp_path / "data" / "nut" / "train"
    folder.mkdir(parents=True)
    cv2.imwrite(str(folder / "0.png"), photos(rng, 1)[0])
    with pytest.raises(DataError, match="found 1 image; an audit compares at least 2"):
        audit(tmp_path / "data", Cutting("image", 0.1, "pad", 32), tmp_path / "images.csv")
