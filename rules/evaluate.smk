rule evaluate:
    params:
        settings=settings("evaluate"),
    input:
        samples=rules.index.output.table,
        maps=rules.merge.output.maps,
        masks=rules.refine.output.masks,
        scores=rules.score_images.output.table,
        archives=archives("evaluate"),
    output:
        metrics=results.METRICS,
        curves=results.CURVES,
    log:
        results.log("evaluate/{category}/{split}"),
    benchmark:
        results.benchmark("evaluate/{category}/{split}")
    threads: 2
    resources:
        mem_mb=2000,
    message:
        "Evaluate {wildcards.detector} on {wildcards.category}/{wildcards.split}"
    script:
        "../workflow_scripts/evaluate.py"
