"""The stage: maps and masks of the private splits, checked, packed, and checked again as packed."""

from __future__ import annotations

import logging
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from robis.errors import DataError
from robis.io.atomic import atomic_file
from robis.io.samples import read_samples
from robis.submission.archive import write_archive
from robis.submission.check import check_members, check_upload
from robis.submission.members import FILE, Member
from robis.submission.upload import MAPS, Upload, make_upload
from robis.tiles.merge import merged_size


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
    """Check every map and mask, write them as one reproducible .tar.gz, and check that as it lies on disk.

    `scales` gives the expected size of maps and masks as a share of the image's, by "category/split".
    In the archive lie `anomaly_images/C/S/NAME.tiff` and `anomaly_images_thresholded/C/S/NAME.png`.
    Categories that are not the benchmark's are packed for practice, and the log says so.

    Raises:
        DataError: listing every file that the server would refuse or punish, by category and split.
    """
    upload = upload_of_tables({(p.category, p.split): p.samples for p in parts}, scales)
    folders = {(p.category, p.split): p for p in parts}
    paths = {
        name: (folders[file.place].maps if file.kind == MAPS else folders[file.place].masks) / file.short_name
        for name, file in upload.files.items()
    }
    before = check_members(_members(paths), upload, source=str(archive.parent), threads=threads)
    if not before.is_good:
        raise DataError(before.problem_text())
    with atomic_file(archive) as beside:
        write_archive(paths.items(), beside, threads=threads)
        after = check_upload(beside, upload, threads=threads)
        if not after.is_good:
            raise DataError(f"submission: files changed while they were packed; run again.\n{after.problem_text()}")
    logging.info("%s holds\n%s", archive, before.table())
    for warning in before.warnings:
        logging.warning("%s", warning)
    for note in before.notes:
        logging.info("%s", note)


def upload_of_tables(tables: Mapping[tuple[str, str], Path], scales: Mapping[str, float]) -> Upload:
    """What the sample tables of the private splits make up, with the size of each map and mask.

    Args:
        tables: sample table by category and split.
        scales: map pixels per image pixel by "category/split".
    """
    samples = {place: read_samples(table) for place, table in tables.items()}
    sizes = {
        place: {row.sample_id: merged_size(row.height, row.width, scales["/".join(place)]) for row in rows}
        for place, rows in samples.items()
    }
    return make_upload(sizes, sizes)


def _members(paths: Mapping[str, Path]) -> Iterator[Member]:
    for name, path in paths.items():
        if path.is_file():
            yield Member(name, FILE, path.read_bytes)
