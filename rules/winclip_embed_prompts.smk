rule winclip_embed_prompts:
    params:
        settings=settings("winclip_embed_prompts"),
    input:
        archives=archives("winclip_embed_prompts"),
    output:
        features=results.PROMPT_FEATURES,
    log:
        results.log("winclip_embed_prompts/{category}", results.OF_WINCLIP),
    benchmark:
        results.benchmark("winclip_embed_prompts/{category}", results.OF_WINCLIP)
    threads: 2
    resources:
        mem_mb=4000,
    message:
        "Embed the prompts of {wildcards.category}"
    script:
        "../workflow_scripts/winclip_embed_prompts.py"
