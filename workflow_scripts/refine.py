from pathlib import Path

from robis.refinement.methods import Refining
from robis.refinement.stage import refine_split
from robis.workflow.jobs import job

with job(snakemake) as options:
    refine_split(
        Path(snakemake.input.samples),
        Path(options.pop("root")),
        Path(snakemake.input.coarse),
        Path(snakemake.output.masks),
        Refining(**options),
        verdicts=next(map(Path, snakemake.input.verdicts), None),
        threads=snakemake.threads,
    )
