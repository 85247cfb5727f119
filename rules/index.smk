rule index:
    params:
        settings=settings("index"),
    output:
        table="results/{dataset}/samples/{category}/{split}.parquet",
    log:
        "results/{dataset}/logs/index/{category}/{split}.log",
    benchmark:
        "results/{dataset}/benchmarks/index/{category}/{split}.tsv"
    threads: 2
    resources:
        mem_mb=1000,
    conda:
        "../envs/cpu.yaml"
    message:
        "Check the images and masks of {wildcards.category}/{wildcards.split}"
    script:
        "../workflow_scripts/index.py"
