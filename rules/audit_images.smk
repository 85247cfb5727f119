from robis.workflow.audit import audit_inputs


rule audit_images:
    params:
        settings=settings("audit_images"),
    input:
        unpack(readable_errors()(lambda job: audit_inputs(project, job.category))),
        archives=archives("audit_images"),
    output:
        table=results.AUDIT,
    log:
        results.log("audit_images/{category}", results.OF_DATASET),
    benchmark:
        results.benchmark("audit_images/{category}", results.OF_DATASET)
    threads: 4
    resources:
        mem_mb=8000,
    message:
        "Look for defects, copies and odd images among the good images of {wildcards.category}"
    script:
        "../workflow_scripts/audit_images.py"
