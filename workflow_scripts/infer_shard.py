from robis.detectors.jobs import Shard
from robis.detectors.registry import DETECTORS
from robis.workflow.jobs import job
from robis.workflow.model_jobs import infer_job

with job(snakemake) as options:
    shard = Shard(int(snakemake.wildcards.shard), options["shards"])
    DETECTORS[snakemake.params.settings["detector"]].infer(infer_job(snakemake, options, shard))
