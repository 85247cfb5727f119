from importlib import import_module
from pathlib import Path

from robis.detectors import DETECTORS
from robis.jobs import job

detector = import_module(DETECTORS[snakemake.wildcards.detector].infer)

with job(snakemake) as options:
    detector.infer_split(
        Path(snakemake.input.tiles),
        Path(snakemake.input.table),
        *map(Path, snakemake.input.model),
        Path(snakemake.output.maps),
        Path(snakemake.output.table),
        threads=snakemake.threads,
        **options,
    )
