from pathlib import Path

from robis.binarization.stage import Thresholding, binarize_split
from robis.workflow.jobs import job

with job(snakemake) as options:
    binarize_split(
        Path(snakemake.input.maps),
        Path(snakemake.input.calibration_maps[0]),
        Path(snakemake.output.masks),
        Path(snakemake.output.thresholds),
        Thresholding(**options),
        threads=snakemake.threads,
    )
