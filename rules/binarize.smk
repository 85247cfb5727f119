rule binarize:
    params:
        settings=settings("binarize"),
    input:
        samples=rules.index.output.table,
        maps=rules.merge.output.maps,
        reference_samples=reference("binarize.calibrate", results.SAMPLES),
        reference_maps=reference("binarize.calibrate", results.ANOMALY_MAPS),
    output:
        masks=directory(results.COARSE_MASKS),
        thresholds=results.THRESHOLDS,
    log:
        results.log("binarize/{category}/{split}"),
    benchmark:
        results.benchmark("binarize/{category}/{split}")
    threads: 2
    resources:
        mem_mb=2000,
    message:
        "Binarize anomaly maps of {wildcards.category}/{wildcards.split}"
    script:
        "../workflow_scripts/binarize.py"
