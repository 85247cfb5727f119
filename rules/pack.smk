rule pack:
    params:
        settings=settings("pack"),
    input:
        unpack(readable_errors()(lambda job: pack_inputs(project, job.detector, job.category))),
        text=of_stage("winclip_embed_prompts", results.PROMPT_FEATURES),
        reference=of_stage("embed_references", results.REFERENCE),
        archives=archives("pack"),
    output:
        pack=directory(results.PACK),
    log:
        results.log("pack/{category}"),
    benchmark:
        results.benchmark("pack/{category}")
    threads: 4
    resources:
        mem_mb=8000,
    message:
        "Pack {wildcards.detector} of {wildcards.category} for inspection"
    script:
        "../workflow_scripts/pack.py"
