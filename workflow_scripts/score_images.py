from pathlib import Path

from robis.scoring.image_scores import score_images
from robis.workflow.jobs import job

with job(snakemake) as options:
    # Where the embeddings are is the rule's to say.
    options["embeddings"] = next(map(Path, snakemake.input.embeddings), None)
    score_images(
        Path(snakemake.input.samples),
        Path(snakemake.input.maps),
        Path(snakemake.input.masks),
        Path(snakemake.input.tiles),
        Path(snakemake.output.table),
        threads=snakemake.threads,
        **options,
    )
