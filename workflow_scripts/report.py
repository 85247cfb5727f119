from pathlib import Path

from robis.jobs import job
from robis.report import build_report

with job(snakemake) as options:
    page = Path(snakemake.output.page)
    build_report(
        page.parent.parent,
        Path(options.pop("root")),
        page,
        Path(snakemake.output.assets),
        Path(snakemake.output.metrics),
        threads=snakemake.threads,
        **options,
    )
