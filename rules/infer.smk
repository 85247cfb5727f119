rule infer:
    params:
        settings=settings("infer"),
    input:
        tiles=rules.crop.output.tiles,
        table=rules.crop.output.table,
        model=model_of_detector,
    output:
        maps="results/{dataset}/{detector}/tile_maps/{category}/{split}.npy",
        table="results/{dataset}/{detector}/tile_maps/{category}/{split}.parquet",
    log:
        "results/{dataset}/{detector}/logs/infer/{category}/{split}.log",
    benchmark:
        "results/{dataset}/{detector}/benchmarks/infer/{category}/{split}.tsv"
    threads: 4
    resources:
        mem_mb=8000,
    conda:
        "../envs/gpu.yaml"
    message:
        "Infer tile maps of {wildcards.category}/{wildcards.split} with {wildcards.detector}"
    script:
        "../workflow_scripts/infer.py"
