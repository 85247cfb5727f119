from pathlib import Path

from robis.io.copies import write_archive
from robis.workflow.jobs import job

with job(snakemake) as options:
    write_archive(Path(snakemake.output.archive), Path(options["root"]), options["names"])
