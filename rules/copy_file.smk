from robis.workflow.archives import copy_params


rule copy_file:
    params:
        settings=lambda job: copy_params(project, job.digest),
    output:
        file=results.COPIED_FILE,
    log:
        results.log("copy_file/{digest}/{file}", results.OF_DATASET),
    benchmark:
        results.benchmark("copy_file/{digest}/{file}", results.OF_DATASET)
    threads: 1
    resources:
        mem_mb=500,
    message:
        "Copy {wildcards.file} for jobs on other machines"
    script:
        "../workflow_scripts/copy_file.py"
