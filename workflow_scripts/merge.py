from pathlib import Path

from robis.tiles.files import TileMaps
from robis.tiles.merge import merge_split
from robis.workflow.jobs import job

with job(snakemake) as options:
    merge_split(
        Path(snakemake.input.samples),
        TileMaps(Path(snakemake.input.maps), Path(snakemake.input.table)),
        next(map(Path, snakemake.input.range_maps), None),
        Path(snakemake.output.maps),
        range_table=next(map(Path, snakemake.input.range_table), None),
        threads=snakemake.threads,
        **options,
    )
