rule train:
    params:
        settings=settings("train"),
    input:
        tiles=tiles_of(results.TILES),
        table=tiles_of(results.TILE_TABLE),
        archives=archives("train"),
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
    message:
        "Train {wildcards.detector} on {wildcards.category}"
    script:
        "../workflow_scripts/train.py"
