rule refine:
    params:
        settings=settings("refine"),
    input:
        samples=rules.index.output.table,
        coarse=rules.binarize.output.masks,
        verdicts=where(project.empties_masks, results.VERDICTS),
        archives=archives("refine"),
    output:
        masks=directory(results.MASKS),
    log:
        results.log("refine/{category}/{split}"),
    benchmark:
        results.benchmark("refine/{category}/{split}")
    threads: 2
    resources:
        mem_mb=8000,
    message:
        "Refine masks of {wildcards.category}/{wildcards.split}"
    script:
        "../workflow_scripts/refine.py"
