from importlib import import_module
from pathlib import Path

from robis.detectors import DETECTORS
from robis.jobs import job

detector = import_module(DETECTORS[snakemake.wildcards.detector].train)

with job(snakemake) as options:
    detector.train_category(
        Path(snakemake.input.tiles),
        Path(snakemake.input.table),
        Path(snakemake.output.model),
        Path(snakemake.output.history),
        identity=snakemake.params.settings.digest(),
        threads=snakemake.threads,
        **options,
    )
