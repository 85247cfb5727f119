rule infer_shard:
    params:
        settings=settings("infer_shard"),
    input:
        tiles=tiles_of("tiles"),
        table=tiles_of("table"),
        model=model_of_run,
    output:
        maps=temp("results/{dataset}/{detector}/tile_map_shards/{category}/{split}/{shard}.npy"),
        table=temp("results/{dataset}/{detector}/tile_map_shards/{category}/{split}/{shard}.parquet"),
    log:
        "results/{dataset}/{detector}/logs/infer_shard/{category}/{split}/{shard}.log",
    benchmark:
        "results/{dataset}/{detector}/benchmarks/infer_shard/{category}/{split}/{shard}.tsv"
    threads: 4
    resources:
        mem_mb=8000,
    conda:
        "../envs/gpu.yaml"
    message:
        "Infer part {wildcards.shard} of {wildcards.category}/{wildcards.split} with {wildcards.detector}"
    script:
        "../workflow_scripts/infer_shard.py"
