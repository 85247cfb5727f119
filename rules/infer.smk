rule infer:
    params:
        settings=settings("infer"),
    input:
        tiles=tiles_of(results.TILES),
        table=tiles_of(results.TILE_TABLE),
        model=model_of_run,
        features=of_stage("winclip_embed_tiles", results.TILE_FEATURES),
        text=of_stage("winclip_embed_prompts", results.PROMPT_FEATURES),
        shards=shards_of_run(results.SHARD_MAPS),
        shard_tables=shards_of_run(results.SHARD_TABLE),
        archives=archives("infer"),
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
    message:
        "Infer tile maps of {wildcards.category}/{wildcards.split} with {wildcards.detector}"
    script:
        "../workflow_scripts/infer.py"
