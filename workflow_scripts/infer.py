from importlib import import_module
from pathlib import Path

from robis.workflow.jobs import job

detector = import_module(snakemake.params.settings["module"])

with job(snakemake) as options:
    tiles, table = Path(snakemake.input.tiles[0]), Path(snakemake.input.table[0])
    written = Path(snakemake.output.maps), Path(snakemake.output.table)
    if snakemake.input.shards:
        shards, tables = map(Path, snakemake.input.shards), map(Path, snakemake.input.shard_tables)
        detector.gather_shards(list(shards), list(tables), *written, tiles=tiles, **options)
    else:
        # What only some runs read: a trained model, features of windows and of prompts.
        read = {name: Path(file) for name in ("model", "features", "text") for file in snakemake.input.get(name, [])}
        detector.infer_split(tiles, table, *written, threads=snakemake.threads, **read, **options)
