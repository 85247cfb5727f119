from importlib import import_module
from pathlib import Path

from robis.workflow.jobs import job

detector = import_module(snakemake.params.settings["module"])

with job(snakemake) as options:
    detector.train_category(
        Path(snakemake.input.tiles[0]),
        Path(snakemake.input.table[0]),
        Path(snakemake.output.model),
        Path(snakemake.output.history),
        identity=snakemake.params.settings.digest(),
        threads=snakemake.threads,
        **options,
    )
