from pathlib import Path

from robis.scoring.judge import HeldOut, Judging, judge_split
from robis.tiles.files import TileMaps
from robis.workflow.jobs import job

with job(snakemake) as options:
    held_out = HeldOut(
        samples=Path(snakemake.input.held_out_samples),
        maps=TileMaps(Path(snakemake.input.held_out_maps), Path(snakemake.input.held_out_tiles)),
        range_maps=next(map(Path, snakemake.input.range_maps), None),
        scores=Path(snakemake.output.held_out_scores),
        range_table=next(map(Path, snakemake.input.range_table), None),
    )
    judge_split(
        Path(snakemake.input.samples),
        Path(snakemake.input.maps),
        Path(snakemake.input.tiles),
        held_out,
        Path(snakemake.output.verdicts),
        Judging(**options),
        threads=snakemake.threads,
    )
