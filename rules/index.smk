rule index:
    params:
        settings=settings("index"),
    output:
        table=results.SAMPLES,
    log:
        results.log("index/{category}/{split}", results.OF_DATASET),
    benchmark:
        results.benchmark("index/{category}/{split}", results.OF_DATASET)
    threads: 2
    resources:
        mem_mb=1000,
    message:
        "Check the images and masks of {wildcards.category}/{wildcards.split}"
    script:
        "../workflow_scripts/index.py"
