from importlib import import_module
from pathlib import Path

from robis.workflow.jobs import job

detector = import_module(snakemake.params.settings["module"])

with job(snakemake) as options:
    detector.infer_split(
        Path(snakemake.input.tiles[0]),
        Path(snakemake.input.table[0]),
        Path(snakemake.output.maps),
        Path(snakemake.output.table),
        shard=int(snakemake.wildcards.shard),
        threads=snakemake.threads,
        **{name: Path(file) for name in ("model",) for file in snakemake.input.get(name, [])},
        **options,
    )
