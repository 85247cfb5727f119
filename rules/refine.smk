rule refine:
    params:
        settings=settings("refine"),
    input:
        samples=rules.index.output.table,
        coarse=rules.binarize.output.masks,
    output:
        masks=directory("results/{dataset}/{detector}/anomaly_images_thresholded/{category}/{split}"),
    log:
        "results/{dataset}/{detector}/logs/refine/{category}/{split}.log",
    benchmark:
        "results/{dataset}/{detector}/benchmarks/refine/{category}/{split}.tsv"
    threads: 2
    resources:
        mem_mb=8000,
    conda:
        "../envs/gpu.yaml"
    message:
        "Refine masks of {wildcards.category}/{wildcards.split}"
    script:
        "../workflow_scripts/refine.py"
