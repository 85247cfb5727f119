rule report:
    params:
        settings=settings("report"),
    input:
        samples=reported(rules.index.output.table),
        maps=reported(rules.merge.output.maps),
        thresholds=reported(rules.binarize.output.thresholds),
        coarse=reported(rules.binarize.output.masks),
        masks=reported(rules.refine.output.masks),
        scores=reported(rules.score_images.output.table),
        metrics=every_metric,
    output:
        page="results/{dataset}/report/index.html",
        assets=directory("results/{dataset}/report/assets"),
        metrics="results/{dataset}/report/metrics.csv",
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
