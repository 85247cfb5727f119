rule score_images:
    params:
        settings=settings("score_images"),
    input:
        samples=rules.index.output.table,
        maps=rules.merge.output.maps,
        masks=rules.refine.output.masks,
        tiles=rules.infer.output.table,
        embeddings=embeddings_of_run,
    output:
        table=results.IMAGE_SCORES,
    log:
        results.log("score_images/{category}/{split}"),
    benchmark:
        results.benchmark("score_images/{category}/{split}")
    threads: 1
    resources:
        mem_mb=1000,
    message:
        "Score images of {wildcards.category}/{wildcards.split}"
    script:
        "../workflow_scripts/score_images.py"
