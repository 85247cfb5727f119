from pathlib import Path

from robis.tiles.files import TileStore
from robis.tiles.store import Cutting, crop_split
from robis.workflow.jobs import job, reuse_of

with job(snakemake) as options:
    crop_split(
        Path(snakemake.input.samples),
        Path(options.pop("root")),
        TileStore(Path(snakemake.output.tiles), Path(snakemake.output.table)),
        Cutting(**options),
        reuse=reuse_of(snakemake, snakemake.output.tiles, "tiles"),
        threads=snakemake.threads,
    )
