from pathlib import Path

from robis.report.causes import Conditions
from robis.report.inputs import PageFacts, ReportFiles
from robis.report.page import build_report
from robis.report.published import read_literature
from robis.workflow.jobs import job
from robis.workflow.report_inputs import paired

with job(snakemake) as options:
    outputs = ReportFiles(**{name: Path(path) for name, path in snakemake.output.items()})
    conditions = {
        run: {category: Conditions(**values) for category, values in of_run.items()}
        for run, of_run in options.pop("conditions").items()
    }
    facts = PageFacts(
        dataset=options.pop("dataset"),
        root=Path(options.pop("root")),
        bit_depth=options.pop("bit_depth"),
        encoder=options.pop("encoder"),
        notice=options.pop("notice"),
        warnings=options.pop("warnings"),
        literature=read_literature(),
        conditions=conditions,
        audits={Path(table).parent.name: Path(table) for table in snakemake.input.get("audit", [])},
        **options.pop("facts"),
    )
    build_report(
        paired(options.pop("runs"), snakemake.input),
        outputs,
        facts,
        images=options.pop("max_images"),
        vis=options.pop("heatmap_range"),
        threads=snakemake.threads,
        **options,
    )
