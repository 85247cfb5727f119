rule infer:
    params:
        settings=settings("infer"),
    input:
        tiles=tiles_of("tiles"),
        table=tiles_of("table"),
        model=model_of_run,
        features=of_run(rules.embed_tiles.output.features, "winclip"),
        text=of_run(rules.embed_prompts.output.features, "winclip"),
        shards=shards_of_run("maps"),
        shard_tables=shards_of_run("table"),
    output:
        maps="results/{dataset}/{detector}/tile_maps/{category}/{split}.npy",
        table="results/{dataset}/{detector}/tile_maps/{category}/{split}.parquet",
    log:
        "results/{dataset}/{detector}/logs/infer/{category}/{split}.log",
    benchmark:
        "results/{dataset}/{detector}/benchmarks/infer/{category}/{split}.tsv"
    threads: 4
    resources:
        mem_mb=8000,
    conda:
        "../envs/gpu.yaml"
    message:
        "Infer tile maps of {wildcards.category}/{wildcards.split} with {wildcards.detector}"
    script:
        "../workflow_scripts/infer.py"
