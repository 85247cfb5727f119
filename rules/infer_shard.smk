rule infer_shard:
    params:
        settings=settings("infer_shard"),
    input:
        tiles=tiles_of(results.TILES),
        table=tiles_of(results.TILE_TABLE),
        model=model_of_run,
        archives=archives("infer_shard"),
    output:
        maps=temp(results.SHARD_MAPS),
        table=temp(results.SHARD_TABLE),
    log:
        results.log("infer_shard/{category}/{split}/{shard}"),
    benchmark:
        results.benchmark("infer_shard/{category}/{split}/{shard}")
    threads: 4
    resources:
        mem_mb=8000,
    message:
        "Infer part {wildcards.shard} of {wildcards.category}/{wildcards.split} with {wildcards.detector}"
    script:
        "../workflow_scripts/infer_shard.py"
