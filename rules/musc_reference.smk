# Tiles of the split that packs are of; see `pack_split`.
tiles_of_pack = lambda pattern: lambda job: project.tile_files(
    pattern, detector=job.detector, category=job.category, split=pack_split(project, job.category)
)


rule musc_reference:
    params:
        settings=settings("musc_reference"),
    input:
        tiles=tiles_of_pack(results.TILES),
        table=tiles_of_pack(results.TILE_TABLE),
    output:
        reference=results.REFERENCE,
    log:
        results.log("musc_reference/{category}"),
    benchmark:
        results.benchmark("musc_reference/{category}")
    threads: 4
    resources:
        mem_mb=8000,
    message:
        "Choose the reference images of {wildcards.category} for packs"
    script:
        "../workflow_scripts/musc_reference.py"
