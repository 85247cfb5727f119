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
        table="results/{dataset}/{detector}/image_scores/{category}/{split}.parquet",
    log:
        "results/{dataset}/{detector}/logs/score_images/{category}/{split}.log",
    benchmark:
        "results/{dataset}/{detector}/benchmarks/score_images/{category}/{split}.tsv"
    threads: 1
    resources:
        mem_mb=1000,
    conda:
        "../envs/cpu.yaml"
    message:
        "Score images of {wildcards.category}/{wildcards.split}"
    script:
        "../workflow_scripts/score_images.py"
