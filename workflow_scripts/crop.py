from pathlib import Path

from robis.jobs import job
from robis.tiling import crop_split

with job(snakemake) as options:
    crop_split(
        Path(snakemake.input.samples),
        Path(options.pop("root")),
        Path(snakemake.output.tiles),
        Path(snakemake.output.table),
        threads=snakemake.threads,
        **options,
    )
