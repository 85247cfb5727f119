from pathlib import Path

from robis.binarization.stage import SplitMaps
from robis.packs.format import PackSettings
from robis.packs.write import PackedRun, RunFiles, write_pack
from robis.workflow.jobs import job
from robis.workflow.model_jobs import detector_inputs

REFERENCE = ("range_maps", "range_table", "reference_samples", "reference_maps")
OF_RUN = ("samples", "maps", "masks", "scores", "verdicts", "metrics", "archives", *REFERENCE)

with job(snakemake) as options:
    files = snakemake.input
    run = RunFiles(
        inputs=detector_inputs(snakemake, options, OF_RUN),
        range_maps=next(map(Path, files.range_maps), None),
        reference=SplitMaps(Path(files.reference_samples[0]), Path(files.reference_maps[0])),
        split=SplitMaps(Path(files.samples[0]), Path(files.maps[0])),
        masks=Path(files.masks[0]),
        scores=Path(files.scores[0]),
        verdicts=next(map(Path, files.verdicts), None),
        metrics=next(map(Path, files.metrics), None),
        range_table=next(map(Path, files.range_table), None),
    )
    write_pack(
        Path(snakemake.output.pack),
        run,
        PackedRun(**options.pop("run")),
        PackSettings(**options.pop("settings")),
        root=Path(options.pop("root")),
        threads=snakemake.threads,
        **options,
    )
