from pathlib import Path

from robis.report.page import build_report
from robis.workflow.jobs import job

with job(snakemake) as options:
    # What says when other results have changed; they are read from their folders.
    del options["compared"]
    output = {name: Path(path) for name, path in snakemake.output.items()}
    build_report(
        output["page"].parent.parent,
        Path(options.pop("root")),
        output["page"],
        output["assets"],
        output["figures"],
        output["tables"],
        output["metrics"],
        output["workbook"],
        histories=[Path(path) for path in snakemake.input.histories],
        threads=snakemake.threads,
        **options,
    )
