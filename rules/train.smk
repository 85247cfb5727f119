rule train:
    params:
        settings=settings("train"),
    input:
        tiles=tiles_of("tiles"),
        table=tiles_of("table"),
    output:
        model="results/{dataset}/{detector}/models/{category}/model.safetensors",
        history="results/{dataset}/{detector}/models/{category}/training.parquet",
    log:
        "results/{dataset}/{detector}/logs/train/{category}.log",
    benchmark:
        "results/{dataset}/{detector}/benchmarks/train/{category}.tsv"
    threads: 4
    resources:
        mem_mb=8000,
    conda:
        "../envs/gpu.yaml"
    message:
        "Train {wildcards.detector} on {wildcards.category}"
    script:
        "../workflow_scripts/train.py"
