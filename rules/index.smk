rule index:
    output:
        table="results/{dataset}/samples/{category}/{split}.parquet",
    log:
        "results/{dataset}/logs/index/{category}/{split}.log",
    benchmark:
        "results/{dataset}/benchmarks/index/{category}/{split}.tsv"
    conda:
        "../envs/cpu.yaml"
    threads: 2
    resources:
        mem_mb=1000,
    params:
        settings=settings("index"),
    message:
        "Check the images and masks of {wildcards.category}/{wildcards.split}"
    script:
        "../workflow_scripts/index.py"
