from pathlib import Path

from robis.detectors.jobs import TrainJob
from robis.detectors.registry import DETECTORS
from robis.tiles.files import TileStore
from robis.workflow.jobs import compute_of, job

with job(snakemake) as options:
    settings = snakemake.params.settings
    DETECTORS[settings["detector"]].train(
        TrainJob(
            store=TileStore(Path(snakemake.input.tiles[0]), Path(snakemake.input.table[0])),
            model=Path(snakemake.output.model),
            history=Path(snakemake.output.history),
            encoder=options.pop("encoder", {}),
            compute=compute_of(options, snakemake.threads),
            options=options,
            identity=settings.digest(),
        )
    )
