"""robis: defect masks. Targets: all, masks, metrics, packs, audit, detectability, submission."""

from snakemake.utils import min_version

min_version("9.0")

DEFAULT_CONFIG = "config/config.yaml"


# Reads and checks the config first: its messages are better than those of `configfile`.
include: "rules/common.smk"


if linting or in_containers:

    container: CONTAINER


if not workflow.overwrite_configfiles:

    configfile: DEFAULT_CONFIG


for rule_name in (
    "index archive copy_file crop winclip_embed_prompts winclip_embed_tiles train infer_shard infer merge binarize "
    "judge refine describe_regions cluster_regions score_images evaluate audit_images embed_references pack "
    "measure_detectability report submit"
).split():

    include: f"rules/{rule_name}.smk"


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


rule detectability:
    input:
        every(results.DETECTABILITY),


rule audit:
    input:
        expand(results.AUDIT, dataset=project.name, category=categories),


rule submission:
    input:
        every_submission,
