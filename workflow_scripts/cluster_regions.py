from pathlib import Path

from robis.clusters.stage import Described, cluster_regions
from robis.workflow.jobs import job

with job(snakemake) as options:
    names = ("samples", "regions", "embeddings")
    splits = zip(*([Path(path) for path in snakemake.input[name]] for name in names), strict=True)
    cluster_regions(Path(snakemake.output.folder), [Described(*files) for files in splits], **options)
