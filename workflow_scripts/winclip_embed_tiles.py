from pathlib import Path

from robis.detectors.winclip.tiles import embed_tiles
from robis.tiles.files import TileStore
from robis.workflow.jobs import compute_of, job

with job(snakemake) as options:
    store = TileStore(Path(snakemake.input.tiles[0]), Path(snakemake.input.table[0]))
    embed_tiles(store, Path(snakemake.output.features), compute=compute_of(options, snakemake.threads), **options)
