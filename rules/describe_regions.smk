from robis.workflow.evidence import normal_inputs


rule describe_regions:
    params:
        settings=settings("describe_regions"),
    input:
        unpack(readable_errors()(lambda job: normal_inputs(project, **run_of_job(job)))),
        samples=results.SAMPLES,
        masks=results.MASKS,
        maps=results.ANOMALY_MAPS,
        tiles=tiles_of(results.TILES),
        table=tiles_of(results.TILE_TABLE),
        model=model_of_run,
        archives=archives("describe_regions"),
    output:
        table=results.REGIONS,
        embeddings=results.REGION_EMBEDDINGS,
        evidence=results.EVIDENCE,
    log:
        results.log("describe_regions/{category}/{split}"),
    benchmark:
        results.benchmark("describe_regions/{category}/{split}")
    threads: 4
    resources:
        mem_mb=8000,
    message:
        "Describe the regions that {wildcards.detector} marks in {wildcards.category}/{wildcards.split}"
    script:
        "../workflow_scripts/describe_regions.py"
