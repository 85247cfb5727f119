from pathlib import Path

from robis.tiles.store import crop_split
from robis.workflow.jobs import job

with job(snakemake) as options:
    crop_split(
        Path(snakemake.input.samples),
        Path(options.pop("root")),
        Path(snakemake.output.tiles),
        Path(snakemake.output.table),
        threads=snakemake.threads,
        **options,
    )
