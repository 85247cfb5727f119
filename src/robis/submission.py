"""Maps and masks of the private splits, checked and packed as the MVTec AD 2 server takes them."""

from __future__ import annotations

import gzip
import tarfile
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path

import numpy as np
from PIL import Image

from robis.datasets.table import IndexedSample, read_samples
from robis.errors import DataError, first_few
from robis.files import atomic_file, read_map, threaded
from robis.merging import merged_size


@dataclass(frozen=True)
class Part:
    """One category and split of a submission: its sample table and the folders of its maps and masks."""

    category: str
    split: str
    samples: Path
    maps: Path
    masks: Path

    @classmethod
    def of_files(cls, samples: str, maps: str, masks: str) -> Part:
        """Read category and split from the contract's path, `.../C/S.parquet`."""
        table = Path(samples)
        return cls(table.parent.name, table.stem, table, Path(maps), Path(masks))


def pack(parts: Sequence[Part], archive: Path, *, scales: Mapping[str, float], threads: int = 1) -> None:
    """Check every map and mask and write them as one reproducible .tar.gz (same input, same bytes).

    `scales` gives the expected size of maps and masks as a share of the image's, by "category/split".
    In the archive lie `anomaly_images/C/S/NAME.tiff` and `anomaly_images_thresholded/C/S/NAME.png`.

    Raises:
        DataError: listing every file that the server would refuse or punish.
    """
    if not parts:
        raise DataError("submission: no private split is configured. Add test_private to dataset.splits.")
    members: list[tuple[str, Path]] = []
    problems: list[str] = []
    for part in parts:
        rows = read_samples(part.samples)
        for found in threaded(partial(_problems, part, scale=scales[f"{part.category}/{part.split}"]), rows, threads):
            problems += found
        for row in rows:
            place = f"{part.category}/{part.split}/{row.sample_id}"
            members.append((f"anomaly_images/{place}.tiff", part.maps / f"{row.sample_id}.tiff"))
            members.append((f"anomaly_images_thresholded/{place}.png", part.masks / f"{row.sample_id}.png"))
    if problems:
        raise DataError(f"submission: {len(problems)} files cannot be submitted:\n{first_few(problems, 50)}")
    _write_tar(sorted(members), archive)


def _problems(part: Part, row: IndexedSample, *, scale: float) -> list[str]:
    expected = merged_size(row.height, row.width, scale)
    map_file, mask_file = part.maps / f"{row.sample_id}.tiff", part.masks / f"{row.sample_id}.png"
    problems = []
    try:
        anomaly_map = read_map(map_file)
    except DataError as error:
        problems.append(str(error))
    else:
        if not np.isfinite(anomaly_map).all():
            problems.append(f"{map_file}: holds values that are not finite.")
        if anomaly_map.shape != expected:
            problems.append(f"{map_file}: {_size(anomaly_map.shape)}; expected {_size(expected)}.")
    problems += _mask_problems(mask_file, expected)
    return problems


def _mask_problems(path: Path, expected: tuple[int, int]) -> Iterable[str]:
    try:
        with Image.open(path) as image:
            mode, pixels = image.mode, np.asarray(image)
    except OSError as error:
        return [f"{path}: not a readable PNG ({error})."]
    if mode != "L":
        return [f"{path}: mode {mode}; expected one 8-bit channel."]
    problems = []
    if pixels.shape != expected:
        problems.append(f"{path}: {_size(pixels.shape)}; expected {_size(expected)}.")
    values = np.unique(pixels)
    if not np.isin(values, (0, 255)).all():
        problems.append(f"{path}: holds the value {int(values[~np.isin(values, (0, 255))][0])}; expected 0 and 255.")
    return problems


def _size(shape: tuple[int, ...]) -> str:
    return f"{shape[1]} x {shape[0]} pixels"


def _write_tar(members: list[tuple[str, Path]], archive: Path) -> None:
    with (
        atomic_file(archive) as beside,
        open(beside, "wb") as stream,
        gzip.GzipFile(filename="", mode="wb", fileobj=stream, mtime=0) as packed,
        tarfile.open(fileobj=packed, mode="w", format=tarfile.PAX_FORMAT) as tar,
    ):
        for name, path in members:
            member = tarfile.TarInfo(name)
            member.size = path.stat().st_size
            member.mode = 0o644
            with open(path, "rb") as content:
                tar.addfile(member, content)
