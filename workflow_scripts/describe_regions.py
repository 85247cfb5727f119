from pathlib import Path

from robis.detectors.registry import DETECTORS
from robis.regions.stage import Inspected, RegionFiles, describe_regions
from robis.tiles.files import TileStore
from robis.workflow.jobs import job
from robis.workflow.model_jobs import normal_images, scorer_job

with job(snakemake) as options:
    files = {name: Path(path) for name, path in snakemake.output.items()}
    read = {name: Path(getattr(snakemake.input, name)) for name in ("samples", "masks", "maps")}
    store = TileStore(Path(snakemake.input.tiles[0]), Path(snakemake.input.table[0]))
    detector = DETECTORS[snakemake.params.settings["detector"]]
    describe_regions(
        RegionFiles(**files),
        Inspected(**read, store=store),
        detector.explainer(scorer_job(snakemake, options), normal_images(snakemake)),
        snakemake.threads,
    )
