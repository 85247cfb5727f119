from pathlib import Path

from robis.scoring.image_scores import Scoring, score_images
from robis.workflow.jobs import job

with job(snakemake) as options:
    # The rule says where the embeddings are.
    options.pop("embeddings", None)
    score_images(
        Path(snakemake.input.samples),
        Path(snakemake.input.maps),
        Path(snakemake.input.masks),
        Path(snakemake.input.tiles),
        Path(snakemake.output.table),
        Scoring(**options),
        embeddings=next(map(Path, snakemake.input.embeddings), None),
        threads=snakemake.threads,
    )
