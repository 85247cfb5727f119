from pathlib import Path

from robis.evaluation.stage import EvaluatedRun, SplitFiles, evaluate_split
from robis.workflow.jobs import job

with job(snakemake) as options:
    evaluate_split(
        SplitFiles(
            samples=Path(snakemake.input.samples),
            root=Path(options.pop("root")),
            maps=Path(snakemake.input.maps),
            masks=Path(snakemake.input.masks),
            scores=Path(snakemake.input.scores),
        ),
        Path(snakemake.output.metrics),
        Path(snakemake.output.curves),
        EvaluatedRun(
            detector=snakemake.wildcards.detector,
            category=snakemake.wildcards.category,
            split=snakemake.wildcards.split,
            settings=options.pop("settings"),
        ),
        threads=snakemake.threads,
        **options,
    )
