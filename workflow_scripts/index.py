from pathlib import Path

from robis.datasets.index import index_split
from robis.datasets.samples import Source
from robis.workflow.jobs import job

with job(snakemake) as options:
    held_out = {name: options.pop(name) for name in ("hold_out", "hold_out_every")}
    index_split(
        Path(snakemake.output.table),
        Source(root=Path(options.pop("root")), **options),
        category=snakemake.wildcards.category,
        split=snakemake.wildcards.split,
        **held_out,
        threads=snakemake.threads,
    )
