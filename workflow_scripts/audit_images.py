from pathlib import Path

from robis.audit.stage import AuditFiles, audit_category
from robis.tiles.files import TileStore
from robis.workflow.jobs import job
from robis.workflow.model_jobs import compute_of

with job(snakemake) as options:
    files = {name: [Path(path) for path in paths] for name, paths in snakemake.input.items()}
    stores = [TileStore(*paths) for paths in zip(files["tiles"], files["tables"], strict=True)]
    audit_category(
        Path(snakemake.output.table),
        AuditFiles(files["learned"], stores, files["inspected"]),
        Path(options.pop("root")),
        compute=compute_of(options, snakemake.threads),
        **options,
    )
