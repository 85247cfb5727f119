rule musc_reference:
    params:
        settings=settings("musc_reference"),
    input:
        tiles=tiles_of(results.TILES),
        table=tiles_of(results.TILE_TABLE),
    output:
        reference=results.REFERENCE,
    log:
        results.log("musc_reference/{category}/{split}"),
    benchmark:
        results.benchmark("musc_reference/{category}/{split}")
    threads: 4
    resources:
        mem_mb=8000,
    message:
        "Choose the reference images of {wildcards.category}/{wildcards.split} for packs"
    script:
        "../workflow_scripts/musc_reference.py"
