rule merge:
    params:
        settings=settings("merge"),
    input:
        samples=rules.index.output.table,
        maps=rules.infer.output.maps,
        table=rules.infer.output.table,
        range_maps=reference("merge.normalize", results.TILE_MAPS),
        range_table=reference("merge.normalize", results.TILE_MAP_TABLE),
    output:
        maps=directory(results.ANOMALY_MAPS),
    log:
        results.log("merge/{category}/{split}"),
    benchmark:
        results.benchmark("merge/{category}/{split}")
    threads: 2
    resources:
        mem_mb=2000,
    message:
        "Merge tile maps of {wildcards.category}/{wildcards.split}"
    script:
        "../workflow_scripts/merge.py"
