from pathlib import Path

from robis.detectors.jobs import TrainJob
from robis.detectors.registry import DETECTORS
from robis.tiles.files import TileStore
from robis.workflow.jobs import job
from robis.workflow.model_jobs import compute_of

with job(snakemake) as options:
    settings = snakemake.params.settings
    stores = zip(snakemake.input.tiles, snakemake.input.table, strict=True)
    DETECTORS[settings["detector"]].train(
        TrainJob(
            stores=tuple(TileStore(Path(tiles), Path(table)) for tiles, table in stores),
            model=Path(snakemake.output.model),
            history=Path(snakemake.output.history),
            allowed=tuple(options.pop("allowed", ())),
            encoder=options.pop("encoder", {}),
            compute=compute_of(options, snakemake.threads),
            options=options,
            identity=settings.digest(),
        )
    )
