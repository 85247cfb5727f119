rule submit:
    params:
        settings=settings("submit"),
    input:
        samples=submitted(rules.index.output.table),
        maps=submitted(rules.merge.output.maps),
        masks=submitted(rules.refine.output.masks),
    output:
        archive=results.SUBMISSION,
    log:
        results.log("submit"),
    benchmark:
        results.benchmark("submit")
    threads: 2
    resources:
        mem_mb=2000,
    conda:
        "../envs/cpu.yaml"
    message:
        "Check and pack the submission of {wildcards.detector}"
    script:
        "../workflow_scripts/submit.py"
