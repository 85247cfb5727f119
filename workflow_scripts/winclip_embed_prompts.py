from pathlib import Path

from robis.detectors.winclip.text import embed_prompts
from robis.workflow.jobs import job

with job(snakemake) as options:
    embed_prompts(Path(snakemake.output.features), **options)
