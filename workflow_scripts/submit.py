from itertools import starmap
from pathlib import Path

from robis.submission.stage import Part, pack
from robis.workflow.jobs import job

with job(snakemake) as options:
    files = zip(snakemake.input.samples, snakemake.input.maps, snakemake.input.masks, strict=True)
    pack(list(starmap(Part.of_files, files)), Path(snakemake.output.archive), threads=snakemake.threads, **options)
