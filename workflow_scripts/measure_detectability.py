from pathlib import Path

from robis.detectability.stage import Options, measure_detectability
from robis.workflow.jobs import job

with job(snakemake) as options:
    root, crops = options.pop("root"), options.pop("crops")
    measure_detectability(
        Path(snakemake.output.folder),
        Path(snakemake.input.pack),
        Path(snakemake.input.samples),
        Options(**options),
        root=Path(root),
        crops=[Path(file) for file in crops],
        threads=snakemake.threads,
    )
