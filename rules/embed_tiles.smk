rule embed_tiles:
    params:
        settings=settings("embed_tiles", "winclip"),
    input:
        tiles=tiles_of("tiles", "winclip"),
        table=tiles_of("table", "winclip"),
    output:
        features="results/{dataset}/tile_features/{category}/{split}.npy",
    log:
        "results/{dataset}/logs/embed_tiles/{category}/{split}.log",
    benchmark:
        "results/{dataset}/benchmarks/embed_tiles/{category}/{split}.tsv"
    threads: 4
    resources:
        mem_mb=8000,
    conda:
        "../envs/gpu.yaml"
    message:
        "Embed the windows of {wildcards.category}/{wildcards.split}"
    script:
        "../workflow_scripts/embed_tiles.py"
