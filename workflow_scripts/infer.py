from importlib import import_module
from pathlib import Path

from robis.jobs import job

detector = import_module(snakemake.params.settings["module"])

with job(snakemake) as options:
    # What only some runs read: a trained model, features of windows and of prompts.
    read = {name: Path(file) for name in ("model", "features", "text") for file in snakemake.input.get(name, [])}
    detector.infer_split(
        Path(snakemake.input.tiles[0]),
        Path(snakemake.input.table[0]),
        Path(snakemake.output.maps),
        Path(snakemake.output.table),
        threads=snakemake.threads,
        **read,
        **options,
    )
