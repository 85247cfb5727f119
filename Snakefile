"""robis: binary defect masks on high-resolution images. Targets: all, masks, metrics, packs, submission."""

from snakemake.utils import min_version

min_version("9.0")

DEFAULT_CONFIG = "config/config.yaml"


# Reads and checks the config first: its messages are better than those of `configfile`.
include: "rules/common.smk"


if linting or in_containers:

    container: CONTAINER


if not workflow.overwrite_configfiles:

    configfile: DEFAULT_CONFIG


include: "rules/index.smk"
include: "rules/crop.smk"
include: "rules/winclip_embed_prompts.smk"
include: "rules/winclip_embed_tiles.smk"
include: "rules/train.smk"
include: "rules/infer_shard.smk"
include: "rules/infer.smk"
include: "rules/merge.smk"
include: "rules/binarize.smk"
include: "rules/judge.smk"
include: "rules/refine.smk"
include: "rules/score_images.smk"
include: "rules/evaluate.smk"
include: "rules/pack.smk"
include: "rules/report.smk"
include: "rules/submit.smk"


rule all:
    default_target: True
    input:
        every(results.ANOMALY_MAPS),
        every(results.COARSE_MASKS),
        every(results.MASKS),
        expand(results.REPORT, dataset=project.name),


rule masks:
    input:
        every(results.COARSE_MASKS),
        every(results.MASKS),


rule metrics:
    input:
        every(results.METRICS, project.labeled_splits),


rule packs:
    input:
        every(results.PACK),


rule submission:
    input:
        every_submission,
