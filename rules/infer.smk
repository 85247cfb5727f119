rule infer:
    params:
        settings=settings("infer"),
    input:
        tiles=tiles_of("tiles"),
        table=tiles_of("table"),
        model=model_of_run,
        features=of_stage("winclip_embed_tiles", rules.winclip_embed_tiles.output.features),
        text=of_stage("winclip_embed_prompts", rules.winclip_embed_prompts.output.features),
        shards=shards_of_run("maps"),
        shard_tables=shards_of_run("table"),
    output:
        maps=results.TILE_MAPS,
        table=results.TILE_MAP_TABLE,
    log:
        results.log("infer/{category}/{split}"),
    benchmark:
        results.benchmark("infer/{category}/{split}")
    threads: 4
    resources:
        mem_mb=8000,
    conda:
        "../envs/gpu.yaml"
    message:
        "Infer tile maps of {wildcards.category}/{wildcards.split} with {wildcards.detector}"
    script:
        "../workflow_scripts/infer.py"
