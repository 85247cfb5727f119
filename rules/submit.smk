rule submit:
    params:
        settings=settings("submit"),
    input:
        samples=submitted(results.SAMPLES),
        maps=submitted(results.ANOMALY_MAPS),
        masks=submitted(results.MASKS),
    output:
        archive=results.SUBMISSION,
    log:
        results.log("submit"),
    benchmark:
        results.benchmark("submit")
    threads: 2
    resources:
        mem_mb=2000,
    message:
        "Check and pack the submission of {wildcards.detector}"
    script:
        "../workflow_scripts/submit.py"
