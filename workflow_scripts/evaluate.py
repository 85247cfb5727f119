from pathlib import Path

from robis.evaluation.stage import evaluate_split
from robis.workflow.jobs import job

with job(snakemake) as options:
    evaluate_split(
        Path(snakemake.input.samples),
        Path(options.pop("root")),
        Path(snakemake.input.maps),
        Path(snakemake.input.masks),
        Path(snakemake.input.scores),
        Path(snakemake.output.metrics),
        Path(snakemake.output.curves),
        category=snakemake.wildcards.category,
        split=snakemake.wildcards.split,
        detector=snakemake.wildcards.detector,
        threads=snakemake.threads,
        **options,
    )
