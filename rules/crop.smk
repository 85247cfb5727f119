rule crop:
    params:
        settings=settings("crop"),
    input:
        samples=rules.index.output.table,
        archives=archives("crop"),
    output:
        tiles=results.TILES,
        table=results.TILE_TABLE,
    log:
        results.log("crop/{category}/{split}", results.OF_OWNER),
    benchmark:
        results.benchmark("crop/{category}/{split}", results.OF_OWNER)
    threads: 2
    resources:
        mem_mb=2000,
    message:
        "Cut {wildcards.category}/{wildcards.split} into tiles"
    script:
        "../workflow_scripts/crop.py"
