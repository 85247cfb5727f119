"""What an upload must hold, with the sizes of its images, from a run's sample tables or from the data set itself."""

from __future__ import annotations

from functools import partial
from pathlib import Path

from robis.datasets.layouts import list_categories, list_samples
from robis.datasets.samples import Source
from robis.errors import DataError
from robis.io.images import image_size
from robis.io.threads import threaded
from robis.submission.stage import upload_of_tables
from robis.submission.upload import SPLITS, Place, Size, Upload, make_upload
from robis.tiles.merge import merged_size

LAYOUT = "mvtec_ad_2"


def upload_of_run(samples: Path, scale: float) -> Upload:
    """From the sample tables of a run, `results/D/samples`; one scale for all categories. Raises DataError."""
    tables = {(table.parent.name, table.stem): table for table in sorted(samples.glob("*/test_private*.parquet"))}
    if not tables:
        raise DataError(f"{samples}: holds no C/test_private.parquet. Expected the sample tables of a run.")
    return upload_of_tables(tables, {"/".join(place): scale for place in tables})


def upload_of_dataset(root: Path, scale: float, *, threads: int = 1) -> Upload:
    """From the private splits of a data set in the layout mvtec_ad_2; sizes are read from headers. Raises DataError."""
    source = Source(LAYOUT, root)
    sizes: dict[Place, dict[str, Size]] = {}
    for category in list_categories(source):
        for split in SPLITS:
            if samples := list_samples(source, category, split):
                paths = [root / sample.image for sample in samples]
                shapes = threaded(partial(_map_size, scale=scale), paths, threads)
                sizes[category, split] = dict(zip((one.sample_id for one in samples), shapes, strict=True))
    if not sizes:
        raise DataError(f"{root}: no category has images in test_private. Expected the layout {LAYOUT}.")
    return make_upload(sizes, sizes)


def _map_size(image: Path, scale: float) -> Size:
    return merged_size(*image_size(image), scale)
