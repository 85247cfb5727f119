from pathlib import Path

from robis.datasets.index import index_split
from robis.workflow.jobs import job

with job(snakemake) as options:
    index_split(
        Path(snakemake.output.table),
        root=Path(options.pop("root")),
        category=snakemake.wildcards.category,
        split=snakemake.wildcards.split,
        threads=snakemake.threads,
        **options,
    )
