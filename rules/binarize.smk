rule binarize:
    params:
        settings=settings("binarize"),
    input:
        maps=rules.merge.output.maps,
        calibration_maps=calibration_maps,
    output:
        masks=directory("results/{dataset}/{detector}/coarse_masks/{category}/{split}"),
        thresholds="results/{dataset}/{detector}/thresholds/{category}/{split}.parquet",
    log:
        "results/{dataset}/{detector}/logs/binarize/{category}/{split}.log",
    benchmark:
        "results/{dataset}/{detector}/benchmarks/binarize/{category}/{split}.tsv"
    threads: 2
    resources:
        mem_mb=2000,
    conda:
        "../envs/cpu.yaml"
    message:
        "Binarize anomaly maps of {wildcards.category}/{wildcards.split}"
    script:
        "../workflow_scripts/binarize.py"
