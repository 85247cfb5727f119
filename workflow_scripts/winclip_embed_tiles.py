from pathlib import Path

from robis.detectors.winclip.tiles import embed_tiles
from robis.tiles.files import TileStore
from robis.workflow.jobs import job, reuse_of
from robis.workflow.model_jobs import compute_of

with job(snakemake) as options:
    store = TileStore(Path(snakemake.input.tiles[0]), Path(snakemake.input.table[0]))
    reuse = reuse_of(snakemake, snakemake.output.features, "tile_features")
    compute = compute_of(options, snakemake.threads)
    embed_tiles(store, Path(snakemake.output.features), compute=compute, reuse=reuse, **options)
