"""Atomic writes and every kind of image that robis reads."""

from __future__ import annotations

from pathlib import Path

import cv2
import numpy as np
import pytest
import tifffile
from PIL import Image

from robis.errors import DataError
from robis.io.atomic import atomic_file, atomic_folder
from robis.io.image_headers import EXIF_ORIENTATION
from robis.io.images import image_size, read_image, read_mask
from robis.io.maps import read_map, write_map, write_mask
from robis.io.threads import threaded


def test_a_file_appears_whole_or_not_at_all(tmp_path: Path) -> None:
    target = tmp_path / "deep" / "a.txt"

    def fail() -> None:
        with atomic_file(target) as partial:
            partial.write_text("half")
            assert not target.exists()
            raise RuntimeError

    with pytest.raises(RuntimeError):
        fail()
    assert list(target.parent.iterdir()) == []
    with atomic_file(target) as partial:
        partial.write_text("whole")
    assert target.read_text() == "whole"
    assert list(target.parent.iterdir()) == [target]
    (target.parent / ".12345678.partial.a.txt").touch()
    (target.parent / ".12345678.partial.b.txt").touch()
    with atomic_file(target, sole_writer=False) as partial:
        partial.write_text("beside another writer")
    assert len(list(target.parent.iterdir())) == 3
    with atomic_file(target) as partial:
        partial.write_text("after a killed writer")
    assert sorted(path.name for path in target.parent.iterdir()) == [".12345678.partial.b.txt", "a.txt"]


def test_a_folder_is_replaced_whole_and_leftovers_go(tmp_path: Path) -> None:
    target = tmp_path / "masks [1]"
    target.mkdir()
    (target / "old.png").touch()
    leftover = tmp_path / ".12345678.partial.masks [1]"
    leftover.mkdir()
    other = tmp_path / ".12345678.partial.masks 1"
    other.mkdir()
    with atomic_folder(target) as partial:
        (partial / "new.png").touch()
        assert (target / "old.png").exists()
    assert [path.name for path in target.iterdir()] == ["new.png"]
    assert not leftover.exists()
    assert other.exists(), "belongs to another target"


def test_gray_color_and_alpha_become_rgb(tmp_path: Path, rng: np.random.Generator) -> None:
    rgb = rng.integers(0, 256, (5, 7, 3), dtype=np.uint8)
    Image.fromarray(rgb).save(tmp_path / "rgb.png")
    np.testing.assert_array_equal(read_image(tmp_path / "rgb.png"), rgb)
    Image.fromarray(np.dstack([rgb, rgb[..., 0]])).save(tmp_path / "rgba.png")
    np.testing.assert_array_equal(read_image(tmp_path / "rgba.png"), rgb)
    Image.fromarray(rgb[..., 0]).save(tmp_path / "grau ö.png")
    np.testing.assert_array_equal(read_image(tmp_path / "grau ö.png"), np.dstack([rgb[..., 0]] * 3))
    palette = Image.fromarray(rgb).quantize(8)
    palette.save(tmp_path / "palette.png")
    np.testing.assert_array_equal(read_image(tmp_path / "palette.png"), np.asarray(palette.convert("RGB")))


def test_16_bits_are_scaled_by_their_range_not_by_content(tmp_path: Path) -> None:
    values = np.array([[0, 128, 129, 257, 30000, 65535]], np.uint16)
    cv2.imwrite(str(tmp_path / "deep.png"), values)
    expected = np.rint(values / 257).astype(np.uint8)
    np.testing.assert_array_equal(read_image(tmp_path / "deep.png")[..., 1], expected)


def test_rotated_photographs_are_read_as_they_are_shown(tmp_path: Path, rng: np.random.Generator) -> None:
    image = Image.fromarray(rng.integers(0, 256, (20, 30, 3), dtype=np.uint8))
    exif = Image.Exif()
    exif[EXIF_ORIENTATION] = 6
    image.save(tmp_path / "turned.jpg", exif=exif, quality=100)
    assert image_size(tmp_path / "turned.jpg") == (30, 20)
    assert read_image(tmp_path / "turned.jpg").shape == (30, 20, 3)


def test_rotated_tiffs_have_one_size(tmp_path: Path, rng: np.random.Generator) -> None:
    image = Image.fromarray(rng.integers(0, 256, (20, 30, 3), dtype=np.uint8))
    image.save(tmp_path / "turned.tif", tiffinfo={EXIF_ORIENTATION: 6})
    assert image_size(tmp_path / "turned.tif") == read_image(tmp_path / "turned.tif").shape[:2] == (30, 20)


def test_unreadable_images_say_why(tmp_path: Path) -> None:
    (tmp_path / "empty.png").touch()
    (tmp_path / "text.png").write_text("not an image")
    tifffile.imwrite(tmp_path / "float.tiff", np.zeros((4, 4), np.float32))
    for name, reason in [("absent.png", "no such file"), ("empty.png", "empty file"), ("text.png", "unknown format")]:
        with pytest.raises(DataError, match=rf"{name}: not a readable image \({reason}\)"):
            image_size(tmp_path / name)
        with pytest.raises(DataError, match=name):
            read_image(tmp_path / name)
    with pytest.raises(DataError, match=r"float\.tiff: pixels are 32-bit floating-point numbers; expected"):
        read_image(tmp_path / "float.tiff")


def test_maps_and_masks_survive_the_disk(tmp_path: Path, rng: np.random.Generator) -> None:
    anomaly_map = (rng.random((13, 9)) * 300).astype(np.float16)
    write_map(tmp_path / "bad" / "a.tiff", anomaly_map)
    np.testing.assert_array_equal(read_map(tmp_path / "bad" / "a.tiff"), anomaly_map)
    with tifffile.TiffFile(tmp_path / "bad" / "a.tiff") as image:
        assert len(image.pages) == 1
        assert image.pages[0].samplesperpixel == 1
    mask = rng.random((13, 9)) > 0.5
    write_mask(tmp_path / "a.png", mask)
    with Image.open(tmp_path / "a.png") as image:
        assert image.mode == "L"
        np.testing.assert_array_equal(np.asarray(image), mask * np.uint8(255))
    np.testing.assert_array_equal(read_mask(tmp_path / "a.png"), mask)
    tifffile.imwrite(tmp_path / "rgb.tiff", np.zeros((4, 4, 3), np.float16), photometric="rgb")
    with pytest.raises(DataError, match=r"rgb\.tiff: float16 of shape \(4, 4, 3\); expected float16 with one"):
        read_map(tmp_path / "rgb.tiff")


def test_threaded_keeps_order_bounds_what_waits_and_raises() -> None:
    assert list(threaded(lambda x: x * x, range(50), 4)) == [x * x for x in range(50)]
    taken = []

    def numbers():
        for n in range(1000):
            taken.append(n)
            yield n

    results = threaded(lambda x: x, numbers(), 2)
    assert next(results) == 0
    assert len(taken) <= 5
    with pytest.raises(ZeroDivisionError):
        list(threaded(lambda x: 1 // x, [1, 0], 2))
