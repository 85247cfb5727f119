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
        metrics=reported("metrics"),
        curves=reported("curves"),
        history=reported("history"),
    output:
        page="results/{dataset}/report/index.html",
        assets=directory("results/{dataset}/report/assets"),
        figures=report(
            directory("results/{dataset}/report/figures"),
            patterns=["{category}/{split}/{figure}.svg"],
            caption="captions/figures.rst",
            category="Figures",
            subcategory="{category}",
            labels={"category": "{category}", "split": "{split}", "figure": "{figure}"},
        ),
        tables=directory("results/{dataset}/report/tables"),
        metrics=report(
            "results/{dataset}/report/metrics.csv",
            caption="captions/metrics.rst",
            category="Metrics",
            labels={"table": "all metrics", "format": "CSV"},
        ),
        workbook=report(
            "results/{dataset}/report/metrics.xlsx",
            caption="captions/workbook.rst",
            category="Metrics",
            labels={"table": "all metrics", "format": "spreadsheet"},
        ),
    log:
        "results/{dataset}/logs/report.log",
    benchmark:
        "results/{dataset}/benchmarks/report.tsv"
    threads: 2
    resources:
        mem_mb=2000,
    conda:
        "../envs/cpu.yaml"
    message:
        "Build the report of {wildcards.dataset}"
    script:
        "../workflow_scripts/report.py"
