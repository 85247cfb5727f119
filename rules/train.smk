rule train:
    params:
        settings=settings("train"),
    input:
        tiles=tiles_of("tiles"),
        table=tiles_of("table"),
    output:
        model=results.MODEL,
        history=results.HISTORY,
    log:
        results.log("train/{category}"),
    benchmark:
        results.benchmark("train/{category}")
    threads: 4
    resources:
        mem_mb=8000,
    conda:
        "../envs/gpu.yaml"
    message:
        "Train {wildcards.detector} on {wildcards.category}"
    script:
        "../workflow_scripts/train.py"
