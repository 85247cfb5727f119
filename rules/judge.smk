rule judge:
    params:
        settings=settings("judge"),
    input:
        samples=rules.index.output.table,
        maps=rules.merge.output.maps,
        tiles=rules.infer.output.table,
        held_out_samples=results.of_split(results.SAMPLES, "validation"),
        held_out_maps=results.of_split(results.TILE_MAPS, "validation"),
        held_out_tiles=results.of_split(results.TILE_MAP_TABLE, "validation"),
        range_maps=reference("merge.normalize", results.TILE_MAPS),
        range_table=reference("merge.normalize", results.TILE_MAP_TABLE),
    output:
        verdicts=results.VERDICTS,
        held_out_scores=results.HELD_OUT_SCORES,
    log:
        results.log("judge/{category}/{split}"),
    benchmark:
        results.benchmark("judge/{category}/{split}")
    threads: 1
    resources:
        mem_mb=2000,
    message:
        "Judge images of {wildcards.category}/{wildcards.split}"
    script:
        "../workflow_scripts/judge.py"
