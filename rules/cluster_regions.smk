rule cluster_regions:
    params:
        settings=settings("cluster_regions"),
    input:
        samples=lambda job: expand(results.SAMPLES, split=project.splits, **job),
        regions=lambda job: expand(results.REGIONS, split=project.splits, **job),
        embeddings=lambda job: expand(results.REGION_EMBEDDINGS, split=project.splits, **job),
    output:
        folder=directory(results.REGION_CLUSTERS),
    log:
        results.log("cluster_regions/{category}"),
    benchmark:
        results.benchmark("cluster_regions/{category}")
    threads: 1
    resources:
        mem_mb=4000,
    message:
        "Cluster the regions that {wildcards.detector} marks in {wildcards.category}"
    script:
        "../workflow_scripts/cluster_regions.py"
