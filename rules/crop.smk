rule crop:
    params:
        settings=settings("crop"),
    input:
        samples=rules.index.output.table,
    output:
        tiles="results/{dataset}/{owner}tiles/{category}/{split}.npy",
        table="results/{dataset}/{owner}tiles/{category}/{split}.parquet",
    log:
        "results/{dataset}/{owner}logs/crop/{category}/{split}.log",
    benchmark:
        "results/{dataset}/{owner}benchmarks/crop/{category}/{split}.tsv"
    threads: 2
    resources:
        mem_mb=2000,
    conda:
        "../envs/cpu.yaml"
    message:
        "Cut {wildcards.category}/{wildcards.split} into tiles"
    script:
        "../workflow_scripts/crop.py"
