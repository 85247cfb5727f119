from robis.workflow.audit import reported_audits


rule report:
    params:
        settings=settings("report"),
    input:
        samples=reported("samples"),
        maps=reported("maps"),
        thresholds=reported("thresholds"),
        coarse_masks=reported("coarse_masks"),
        masks=reported("masks"),
        scores=reported("scores"),
        verdicts=reported("verdicts"),
        held_out_scores=reported("held_out_scores"),
        metrics=reported("metrics"),
        curves=reported("curves"),
        history=reported("history"),
        pack=reported("pack"),
        detectability=reported("detectability"),
        regions=reported("regions"),
        evidence=reported("evidence"),
        clusters=reported("clusters"),
        audit=lambda job: reported_audits(project),
        archives=archives("report"),
    output:
        page=results.REPORT,
        assets=directory(results.REPORT_ASSETS),
        figures=report(
            directory(results.REPORT_FIGURES),
            patterns=["{category}/{split}/{figure}.svg"],
            caption="captions/figures.rst",
            category="Figures",
            subcategory="{category}",
            labels={"category": "{category}", "split": "{split}", "figure": "{figure}"},
        ),
        tables=directory(results.REPORT_TABLES),
        overlays=directory(results.REPORT_OVERLAYS),
        metrics=report(
            results.REPORT_METRICS,
            caption="captions/metrics.rst",
            category="Metrics",
            labels={"table": "all metrics", "format": "CSV"},
        ),
        workbook=report(
            results.REPORT_WORKBOOK,
            caption="captions/workbook.rst",
            category="Metrics",
            labels={"table": "all metrics", "format": "spreadsheet"},
        ),
        images=report(
            results.REPORT_IMAGES,
            caption="captions/images.rst",
            category="Verdicts",
            labels={"table": "all images", "format": "CSV"},
        ),
        summary=results.REPORT_SUMMARY,
    log:
        results.log("report", results.OF_DATASET),
    benchmark:
        results.benchmark("report", results.OF_DATASET)
    threads: 2
    resources:
        mem_mb=2000,
    message:
        "Build the report of {wildcards.dataset}"
    script:
        "../workflow_scripts/report.py"
