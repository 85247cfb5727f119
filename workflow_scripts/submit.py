from itertools import starmap
from pathlib import Path

from robis.jobs import job
from robis.submission.stage import Part, pack

with job(snakemake) as options:
    files = zip(snakemake.input.samples, snakemake.input.maps, snakemake.input.masks, strict=True)
    pack(list(starmap(Part.of_files, files)), Path(snakemake.output.archive), threads=snakemake.threads, **options)
