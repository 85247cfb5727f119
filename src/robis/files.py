"""Atomic writes, image and map reading, digests: every file robis touches goes through here."""

from __future__ import annotations

import hashlib
import os
import shutil
import struct
import uuid
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from pathlib import Path
from typing import TypeVar

import cv2
import numpy as np
import pandas as pd
import tifffile
from PIL import Image, UnidentifiedImageError

from robis.errors import DataError, WeightsError

T = TypeVar("T")
R = TypeVar("R")

IMAGE_SUFFIXES = (".png", ".jpg", ".jpeg", ".bmp", ".tif", ".tiff")
EXIF_ORIENTATION = 0x0112
EXIF_TRANSPOSED = (5, 6, 7, 8)

# Inspection images are large on purpose; Pillow is used for headers only, where a size cannot hurt.
Image.MAX_IMAGE_PIXELS = None


@contextmanager
def atomic_file(target: str | Path, *, sole_writer: bool = True) -> Iterator[Path]:
    """Yield a path beside `target` to write to; it becomes `target` only if the block succeeds.

    What killed writers of the same target left behind is removed first, unless others may be at work
    on it right now (`sole_writer=False`).
    """
    partial = _beside(Path(target), sole_writer=sole_writer)
    try:
        yield partial
        os.replace(partial, target)
    finally:
        partial.unlink(missing_ok=True)


@contextmanager
def atomic_folder(target: str | Path) -> Iterator[Path]:
    """Yield a folder beside `target` to fill; it replaces `target` only if the block succeeds.

    What killed writers of the same target left behind is removed first.
    """
    target = Path(target)
    partial = _beside(target, sole_writer=True)
    partial.mkdir()
    try:
        yield partial
        if target.exists():
            shutil.rmtree(target)
        os.replace(partial, target)
    finally:
        shutil.rmtree(partial, ignore_errors=True)


def _beside(target: Path, *, sole_writer: bool) -> Path:
    target.parent.mkdir(parents=True, exist_ok=True)
    ending = f".partial.{target.name}"
    if sole_writer:
        for leftover in target.parent.iterdir():
            if leftover.name.startswith(".") and leftover.name[9:] == ending:
                shutil.rmtree(leftover) if leftover.is_dir() else leftover.unlink()
    return target.with_name(f".{uuid.uuid4().hex[:8]}{ending}")


def is_image(path: Path) -> bool:
    """Whether the suffix, in any case, is one robis reads; hidden files are not images."""
    return path.suffix.lower() in IMAGE_SUFFIXES and not path.name.startswith(".")


def image_size(path: str | Path) -> tuple[int, int]:
    """Read (height, width) in pixels from the header alone, as the image is shown (EXIF rotation applied).

    Raises DataError when the file is empty or no image.
    """
    try:
        with Image.open(path) as image:
            width, height = image.size
            # Pillow gives the size of a TIFF as it is shown already.
            if image.format != "TIFF" and image.getexif().get(EXIF_ORIENTATION) in EXIF_TRANSPOSED:
                width, height = height, width
    except (OSError, UnidentifiedImageError, SyntaxError, ValueError) as error:
        raise DataError(f"{path}: not a readable image ({_why(path, error)}).") from error
    return height, width


def read_image(path: str | Path) -> np.ndarray:
    """Read an image as uint8 (H, W, 3) RGB, EXIF rotation applied, transparency dropped.

    Grey images become three equal channels; 16-bit images are scaled by the range of their dtype,
    never by their content. Raises DataError when the file cannot be decoded.
    """
    pixels = _decode(path, cv2.IMREAD_COLOR | cv2.IMREAD_ANYDEPTH)
    if pixels.dtype == np.uint16:
        # 65535 / 255 = 257 exactly, so this is the nearest 8-bit value.
        pixels = ((pixels.astype(np.uint32) + 128) // 257).astype(np.uint8)
    elif pixels.dtype != np.uint8:
        raise DataError(f"{path}: pixels are {pixels.dtype}; expected 8 or 16 bits per channel.")
    return cv2.cvtColor(pixels, cv2.COLOR_BGR2RGB)


def read_mask(path: str | Path) -> np.ndarray:
    """Read a mask as bool (H, W): True where any channel is above 0. Raises DataError."""
    pixels = _decode(path, cv2.IMREAD_COLOR | cv2.IMREAD_ANYDEPTH)
    return pixels.max(axis=2) > 0


def _decode(path: str | Path, flags: int) -> np.ndarray:
    try:
        data = np.fromfile(path, dtype=np.uint8)
    except OSError as error:
        raise DataError(f"{path}: cannot be read ({error.strerror}).") from error
    pixels = cv2.imdecode(data, flags) if data.size else None
    if pixels is None:
        reason = "damaged, or not 8 or 16 bits per channel" if data.size else "empty file"
        raise DataError(f"{path}: not a readable image ({reason}).")
    return pixels


def _why(path: str | Path, error: Exception) -> str:
    path = Path(path)
    if not path.exists():
        return "no such file"
    if path.stat().st_size == 0:
        return "empty file"
    return "unknown format" if isinstance(error, UnidentifiedImageError) else str(error)


def write_mask(path: str | Path, mask: np.ndarray) -> None:
    """Write a bool or {0, 255} mask (H, W) as an 8-bit single-channel PNG of 0 and 255."""
    pixels = np.where(mask, np.uint8(255), np.uint8(0))
    _write_png(Path(path), pixels)


def _write_png(path: Path, pixels: np.ndarray) -> None:
    done, data = cv2.imencode(".png", pixels, [cv2.IMWRITE_PNG_COMPRESSION, 3])
    if not done:
        raise DataError(f"{path}: the PNG encoder failed on an array of shape {pixels.shape}.")
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(data.tobytes())


def write_map(path: str | Path, anomaly_map: np.ndarray) -> None:
    """Write an anomaly map (H, W) as a single-channel float16 TIFF, uncompressed."""
    Path(path).parent.mkdir(parents=True, exist_ok=True)
    # The settings that vary between machines or runs (date, software) stay out: same map, same bytes.
    tifffile.imwrite(path, anomaly_map.astype(np.float16, copy=False), software="robis", metadata=None)


def read_map(path: str | Path) -> np.ndarray:
    """Read an anomaly map written by `write_map`: float16 (H, W). Raises DataError."""
    try:
        anomaly_map = tifffile.imread(path)
    except (OSError, ValueError, struct.error, tifffile.TiffFileError) as error:
        raise DataError(f"{path}: not a readable TIFF ({error}).") from error
    if anomaly_map.ndim != 2 or anomaly_map.dtype != np.float16:
        raise DataError(f"{path}: {anomaly_map.dtype} of shape {anomaly_map.shape}; expected float16 with one channel.")
    return anomaly_map


def new_array(path: Path, dtype: np.dtype | type, shape: tuple[int, ...]) -> np.ndarray:
    """A new .npy file, mapped for writing, with all its space taken at once.

    Raises OSError when the disk is too full; a map that runs out of disk later would end the process.
    """
    array = np.lib.format.open_memmap(path, mode="w+", dtype=dtype, shape=shape)
    with open(path, "r+b") as stream:
        os.posix_fallocate(stream.fileno(), 0, max(1, path.stat().st_size))
    return array


def write_table(path: str | Path, table: pd.DataFrame) -> None:
    """Write a table as Parquet, atomically."""
    with atomic_file(path) as partial:
        table.to_parquet(partial, index=False)


def read_table(path: str | Path) -> pd.DataFrame:
    """Read a Parquet table. Raises DataError when it is missing or damaged."""
    try:
        return pd.read_parquet(path)
    except (OSError, ValueError) as error:
        raise DataError(f"{path}: not a readable Parquet table ({error}).") from error


def check_file(path: str | Path, key: str) -> None:
    """Raise WeightsError when the file that a config key names is not there."""
    if not Path(path).expanduser().is_file():
        raise WeightsError(
            f"{key}: {path} does not exist. Put the file there, or set {key} to where it is "
            f"(docs/weights.md says where each is published)."
        )


def sha256(path: str | Path) -> str:
    """Digest of a file's content, as 64 hexadecimal digits."""
    with open(path, "rb") as stream:
        return hashlib.file_digest(stream, "sha256").hexdigest()


def threaded(function: Callable[[T], R], items: Iterable[T], threads: int) -> Iterator[R]:
    """Apply `function` to every item on `threads` threads, in order, a bounded number at a time.

    For work that releases the GIL (decoding, OpenCV, NumPy). The first exception is raised here.
    """
    if threads <= 1:
        yield from map(function, items)
        return
    with ThreadPoolExecutor(threads) as pool:
        pending = []
        try:
            for item in items:
                pending.append(pool.submit(function, item))
                if len(pending) > 2 * threads:
                    yield pending.pop(0).result()
            while pending:
                yield pending.pop(0).result()
        finally:
            for future in pending:
                future.cancel()
