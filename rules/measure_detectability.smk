rule measure_detectability:
    params:
        settings=settings("measure_detectability"),
    input:
        pack=rules.pack.output.pack,
        samples=results.of_split(results.SAMPLES, "validation"),
        archives=archives("measure_detectability"),
    output:
        folder=directory(results.DETECTABILITY),
    log:
        results.log("measure_detectability/{category}"),
    benchmark:
        results.benchmark("measure_detectability/{category}")
    threads: 4
    resources:
        mem_mb=8000,
    message:
        "Measure which defects {wildcards.detector} finds on {wildcards.category}"
    script:
        "../workflow_scripts/measure_detectability.py"
