rule embed_references:
    params:
        settings=settings("embed_references"),
    input:
        tiles=tiles_of(results.TILES),
        table=tiles_of(results.TILE_TABLE),
        archives=archives("embed_references"),
    output:
        reference=results.REFERENCE,
    log:
        results.log("embed_references/{category}/{split}"),
    benchmark:
        results.benchmark("embed_references/{category}/{split}")
    threads: 4
    resources:
        mem_mb=8000,
    message:
        "Choose the reference images of {wildcards.category}/{wildcards.split} for packs"
    script:
        "../workflow_scripts/embed_references.py"
