from pathlib import Path

from robis.detectors.registry import DETECTORS
from robis.tiles.files import TileMaps
from robis.workflow.jobs import job
from robis.workflow.model_jobs import infer_job

with job(snakemake) as options:
    detector = DETECTORS[snakemake.params.settings["detector"]]
    inference = infer_job(snakemake, options)
    if snakemake.input.shards:
        shards = zip(snakemake.input.shards, snakemake.input.shard_tables, strict=True)
        detector.gather([TileMaps(Path(maps), Path(table)) for maps, table in shards], inference)
    else:
        detector.infer(inference)
