"""Copies of files that a job reads in place of those that the config names."""

from __future__ import annotations

import os
import shutil
import tarfile
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image
from safetensors.torch import save_file

from robis.encoders.weights import read_state
from robis.errors import DataError, WeightsError
from robis.io import decoding
from robis.io.copies import copy_of, reading_copies, write_archive
from robis.io.images import image_size, read_image, read_mask


def write_image(path: Path, value: int, size: tuple[int, int] = (4, 6)) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    Image.fromarray(np.full(size, value, np.uint8)).save(path)


def test_an_archive_depends_on_names_and_content_alone(tmp_path: Path) -> None:
    for folder, time in (("a", 1_000_000_000), ("b", 1_500_000_000)):
        for name, value in (("z.png", 1), ("n/ü.png", 2)):
            write_image(tmp_path / folder / name, value)
            os.utime(tmp_path / folder / name, (time, time))
    (tmp_path / "b" / "z.png").chmod(0o600)
    write_archive(tmp_path / "a.tar", tmp_path / "a", ["z.png", "n/ü.png", "z.png"])
    write_archive(tmp_path / "b.tar", tmp_path / "b", ["n/ü.png", "z.png"])
    assert (tmp_path / "a.tar").read_bytes() == (tmp_path / "b.tar").read_bytes()
    with tarfile.open(tmp_path / "a.tar") as tar:
        assert tar.getnames() == ["n/ü.png", "z.png"]
        assert tar.extractfile("z.png").read() == (tmp_path / "a" / "z.png").read_bytes()


@pytest.mark.parametrize("relative", [True, False])
def test_images_are_read_from_an_archive_in_place_of_their_paths(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, relative: bool
) -> None:
    """Also those that lie outside the root, and all masks of a folder."""
    monkeypatch.chdir(tmp_path)
    root = Path("data") if relative else tmp_path / "data"
    outside = tmp_path / "elsewhere.png"
    names = ["nut/0.png", "../beside/1.png", str(outside), "nut/masks/0.png", "nut/masks/1.png"]
    for value, name in enumerate(names):
        write_image(root / name, 50 * value)
    write_archive(Path("images.tar"), root, names)
    for path in ("data", "beside"):
        shutil.rmtree(path)
    outside.unlink()

    with reading_copies({}, [Path("images.tar")], str(root)):
        for value, name in enumerate(names[:3]):
            assert read_image(root / name).tolist() == np.full((4, 6, 3), 50 * value).tolist()
        assert image_size(root / names[1]) == (4, 6)
        assert read_mask(root / "nut" / "masks").all()
        with pytest.raises(DataError, match=r"data/nut/9\.png: cannot be read"):
            read_image(root / "nut" / "9.png")
    with pytest.raises(DataError, match=r"data/nut/0\.png: cannot be read"):
        read_image(root / "nut" / "0.png")


@pytest.mark.parametrize("suffix", [".png", ".tif", ".jpg"])
def test_large_images_are_read_from_an_archive(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, suffix: str) -> None:
    """In parts, or by OpenCV from the file."""
    monkeypatch.setattr(decoding, "LARGE_PIXELS", 0)
    monkeypatch.setattr(decoding, "LARGE_PNG_PIXELS", 0)
    image = tmp_path / f"0{suffix}"
    write_image(image, 100, size=(64, 64))
    expected = read_image(image)
    write_archive(tmp_path / "images.tar", tmp_path, [image.name])
    image.unlink()
    with reading_copies({}, [tmp_path / "images.tar"], str(tmp_path)):
        assert np.array_equal(read_image(image), expected)


def test_weights_are_read_from_their_copy_and_named_by_their_path(tmp_path: Path) -> None:
    copy = tmp_path / "inputs" / "vit.safetensors"
    copy.parent.mkdir()
    save_file({"bias": torch.ones(2)}, copy)
    path = tmp_path / "weights" / "vit.safetensors"
    with reading_copies({str(path): copy}, [], ""):
        assert copy_of(path) == copy
        assert read_state(path, sha256=None, key="encoder.weights")["bias"].tolist() == [1, 1]
        with pytest.raises(WeightsError, match=rf"^encoder\.weights: {path} has sha256"):
            read_state(path, sha256="0" * 64, key="encoder.weights")
    assert copy_of(path) == path
    with pytest.raises(WeightsError, match="does not exist"):
        read_state(path, sha256=None, key="encoder.weights")


def test_nothing_is_left_of_extracted_images(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    write_image(tmp_path / "data" / "0.png", 1)
    write_archive(tmp_path / "images.tar", tmp_path / "data", ["0.png"])
    (tmp_path / "temporary").mkdir()
    monkeypatch.setattr("tempfile.tempdir", str(tmp_path / "temporary"))
    with reading_copies({}, [tmp_path / "images.tar"], str(tmp_path / "data")):
        assert (tmp_path / "temporary") in copy_of(tmp_path / "data" / "0.png").parents
    assert list((tmp_path / "temporary").iterdir()) == []


def test_a_damaged_archive_and_a_lost_image_are_said(tmp_path: Path) -> None:
    (tmp_path / "images.tar").write_bytes(b"no archive")
    message = r"images\.tar: not a readable archive .* Delete it and run robis again\."
    with pytest.raises(DataError, match=message), reading_copies({}, [tmp_path / "images.tar"], "data"):
        pass
    with pytest.raises(DataError, match=r"0\.png: cannot be read \(No such file"):
        write_archive(tmp_path / "new.tar", tmp_path, ["0.png"])
    assert not (tmp_path / "new.tar").exists()
