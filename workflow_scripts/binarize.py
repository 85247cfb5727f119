from pathlib import Path

from robis.binarization.stage import SplitMaps, Thresholding, binarize_split
from robis.workflow.jobs import job

with job(snakemake) as options:
    binarize_split(
        SplitMaps(Path(snakemake.input.samples), Path(snakemake.input.maps)),
        SplitMaps(Path(snakemake.input.reference_samples[0]), Path(snakemake.input.reference_maps[0])),
        Path(snakemake.output.masks),
        Path(snakemake.output.thresholds),
        Thresholding(**options),
        threads=snakemake.threads,
    )
