from robis.workflow.archives import archive_params


rule archive:
    params:
        settings=lambda job: archive_params(project, job.kind, job.category, job.split),
    output:
        archive=results.ARCHIVE,
    log:
        results.log("archive/{kind}/{category}/{split}", results.OF_DATASET),
    benchmark:
        results.benchmark("archive/{kind}/{category}/{split}", results.OF_DATASET)
    threads: 1
    resources:
        mem_mb=500,
    message:
        "Archive {wildcards.kind} of {wildcards.category}/{wildcards.split}"
    script:
        "../workflow_scripts/archive.py"
