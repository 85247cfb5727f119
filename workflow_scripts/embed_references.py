from pathlib import Path

from robis.detectors.musc.reference import write_reference
from robis.tiles.files import TileStore
from robis.workflow.jobs import job
from robis.workflow.model_jobs import compute_of

with job(snakemake) as options:
    store = TileStore(Path(snakemake.input.tiles[0]), Path(snakemake.input.table[0]))
    compute = compute_of(options, snakemake.threads)
    write_reference(store, Path(snakemake.output.reference), compute=compute, **options)
