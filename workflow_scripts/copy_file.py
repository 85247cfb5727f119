from pathlib import Path

from robis.workflow.archives import copy_file
from robis.workflow.jobs import job

with job(snakemake) as options:
    copy_file(Path(snakemake.output.file), **options)
