rule embed_prompts:
    params:
        settings=settings("embed_prompts", "winclip"),
    output:
        features="results/{dataset}/text_features/{category}.safetensors",
    log:
        "results/{dataset}/logs/embed_prompts/{category}.log",
    benchmark:
        "results/{dataset}/benchmarks/embed_prompts/{category}.tsv"
    threads: 2
    resources:
        mem_mb=4000,
    conda:
        "../envs/gpu.yaml"
    message:
        "Embed the prompts of {wildcards.category}"
    script:
        "../workflow_scripts/embed_prompts.py"
