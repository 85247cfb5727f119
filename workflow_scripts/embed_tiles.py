from pathlib import Path

from robis.detectors.winclip.tiles import embed_tiles
from robis.workflow.jobs import job

with job(snakemake) as options:
    embed_tiles(
        Path(snakemake.input.tiles[0]),
        Path(snakemake.input.table[0]),
        Path(snakemake.output.features),
        threads=snakemake.threads,
        **options,
    )
