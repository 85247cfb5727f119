rule winclip_embed_tiles:
    params:
        settings=settings("winclip_embed_tiles"),
    input:
        tiles=tiles_of(results.TILES, "winclip_embed_tiles"),
        table=tiles_of(results.TILE_TABLE, "winclip_embed_tiles"),
        archives=archives("winclip_embed_tiles"),
    output:
        features=results.TILE_FEATURES,
    log:
        results.log("winclip_embed_tiles/{category}/{split}", results.OF_WINCLIP),
    benchmark:
        results.benchmark("winclip_embed_tiles/{category}/{split}", results.OF_WINCLIP)
    threads: 4
    resources:
        mem_mb=8000,
    message:
        "Embed CLIP windows of {wildcards.category}/{wildcards.split}"
    script:
        "../workflow_scripts/winclip_embed_tiles.py"
