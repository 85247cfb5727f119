rule evaluate:
    params:
        settings=settings("evaluate"),
    input:
        samples=rules.index.output.table,
        maps=rules.merge.output.maps,
        masks=rules.refine.output.masks,
        scores=rules.score_images.output.table,
    output:
        metrics="results/{dataset}/{detector}/metrics/{category}/{split}.parquet",
        curves="results/{dataset}/{detector}/curves/{category}/{split}.parquet",
    log:
        "results/{dataset}/{detector}/logs/evaluate/{category}/{split}.log",
    benchmark:
        "results/{dataset}/{detector}/benchmarks/evaluate/{category}/{split}.tsv"
    threads: 2
    resources:
        mem_mb=2000,
    conda:
        "../envs/cpu.yaml"
    message:
        "Evaluate {wildcards.detector} on {wildcards.category}/{wildcards.split}"
    script:
        "../workflow_scripts/evaluate.py"
