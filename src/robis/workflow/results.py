"""Where every result lies: the one place that spells paths below `results/`.

The fields in braces are Snakemake's wildcards. `dataset` is the name of the data set, `run` a run of a detector,
`owner` empty or "DETECTOR/" where tiles are one detector's own. `place` fills the fields in.
"""

from __future__ import annotations

import re
from pathlib import Path

FOLDER = "results"
# Stands for the category in the paths of a model that covers all categories.
ALL = "all"
OF_DATASET = "results/{dataset}/"
OF_RUN = "results/{dataset}/{detector}/"
OF_OWNER = "results/{dataset}/{owner}"
OF_WINCLIP = "results/{dataset}/winclip/"

SAMPLES = "results/{dataset}/samples/{category}/{split}.parquet"
TILES = "results/{dataset}/{owner}tiles/{category}/{split}.npy"
TILE_TABLE = "results/{dataset}/{owner}tiles/{category}/{split}.parquet"
AUDIT = "results/{dataset}/audit/{category}/images.csv"
PROMPT_FEATURES = "results/{dataset}/winclip/prompt_features/{category}.safetensors"
TILE_FEATURES = "results/{dataset}/winclip/tile_features/{category}/{split}.npy"
REFERENCE = "results/{dataset}/{detector}/reference/{category}/{split}.safetensors"
MODEL = "results/{dataset}/{detector}/models/{category}/model.safetensors"
HISTORY = "results/{dataset}/{detector}/models/{category}/training.parquet"
SHARD_MAPS = "results/{dataset}/{detector}/tile_map_shards/{category}/{split}/{shard}.npy"
SHARD_TABLE = "results/{dataset}/{detector}/tile_map_shards/{category}/{split}/{shard}.parquet"
TILE_MAPS = "results/{dataset}/{detector}/tile_maps/{category}/{split}.npy"
TILE_MAP_TABLE = "results/{dataset}/{detector}/tile_maps/{category}/{split}.parquet"
ANOMALY_MAPS = "results/{dataset}/{detector}/anomaly_images/{category}/{split}"
COARSE_MASKS = "results/{dataset}/{detector}/coarse_masks/{category}/{split}"
THRESHOLDS = "results/{dataset}/{detector}/thresholds/{category}/{split}.parquet"
MASKS = "results/{dataset}/{detector}/anomaly_images_thresholded/{category}/{split}"
REGIONS = "results/{dataset}/{detector}/regions/{category}/{split}.parquet"
REGION_EMBEDDINGS = "results/{dataset}/{detector}/regions/{category}/{split}.npy"
EVIDENCE = "results/{dataset}/{detector}/evidence/{category}/{split}.parquet"
REGION_CLUSTERS = "results/{dataset}/{detector}/region_clusters/{category}"
IMAGE_SCORES = "results/{dataset}/{detector}/image_scores/{category}/{split}.parquet"
VERDICTS = "results/{dataset}/{detector}/verdicts/{category}/{split}.parquet"
HELD_OUT_SCORES = "results/{dataset}/{detector}/held_out_scores/{category}/{split}.parquet"
METRICS = "results/{dataset}/{detector}/metrics/{category}/{split}.parquet"
CURVES = "results/{dataset}/{detector}/curves/{category}/{split}.parquet"
PACK = "results/{dataset}/{detector}/packs/{category}"
PACK_MANIFEST = f"{PACK}/pack.json"
DETECTABILITY = "results/{dataset}/{detector}/detectability/{category}"
DETECTABILITY_CURVES = f"{DETECTABILITY}/curves.parquet"
SUBMISSION = "results/{dataset}/{detector}/submission.tar.gz"

REPORT = "results/{dataset}/report/index.html"
REPORT_ASSETS = "results/{dataset}/report/assets"
REPORT_FIGURES = "results/{dataset}/report/figures"
REPORT_TABLES = "results/{dataset}/report/tables"
REPORT_OVERLAYS = "results/{dataset}/report/overlays"
REPORT_METRICS = "results/{dataset}/report/metrics.csv"
REPORT_WORKBOOK = "results/{dataset}/report/metrics.xlsx"
REPORT_IMAGES = "results/{dataset}/report/images.csv"
REPORT_SUMMARY = "results/{dataset}/report/summary.txt"

# Copies of what jobs read of the data set, and of local files.
ARCHIVE = "results/{dataset}/inputs/{kind}/{category}/{split}.tar"
COPIED_FILE = "results/{dataset}/inputs/files/{digest}/{file}"

FINGERPRINTS = "results/{dataset}/fingerprints/{category}/{split}.json"
IMAGE_SIZES = "results/{dataset}/fingerprints/{category}/{split}.sizes.json"
DEFECT_WIDTHS = "results/{dataset}/fingerprints/{category}/{split}.defects.json"
WEIGHT_DIGESTS = "results/{dataset}/fingerprints/weights/{file}.json"
PLAN = "results/{dataset}/fingerprints/plan.{config}.json.gz"


# Below the folder of a job's results, what its next run takes over.
REUSE = "reuse/{kind}/{category}/{split}"


def reuse(folder: Path, kind: str, category: str, split: str) -> Path | None:
    """Where a job that writes below a folder keeps rows for its next run.

    None for the local copy of a stored result: Snakemake removes such copies to save room.
    """
    if ".snakemake" in folder.parts:
        return None
    return folder / REUSE.format(kind=kind, category=category, split=split)


def log(job: str, owner: str = OF_RUN) -> str:
    """Pattern of a rule's log files; job: "RULE" and what tells its jobs apart, owner: one of the `OF_...`."""
    return f"{owner}logs/{job}.log"


def benchmark(job: str, owner: str = OF_RUN) -> str:
    """Pattern of a rule's benchmark files; job: "RULE" and what tells its jobs apart, owner: one of the `OF_...`."""
    return f"{owner}benchmarks/{job}.tsv"


def of_split(pattern: str, split: str) -> str:
    """A pattern for the files of one split, whatever split a job is of."""
    return pattern.replace("{split}", split)


def place(pattern: str, results: Path, **fields: str) -> Path:
    """A path below a results folder (`results/NAME`) from a pattern of this module."""
    return results / pattern.removeprefix(OF_DATASET).format(**fields)


def places(pattern: str, results: Path) -> list[Path]:
    """Existing paths below a results folder (`results/NAME`) that match a pattern of this module, sorted."""
    return sorted(results.glob(re.sub(r"{[^}]*}", "*", pattern.removeprefix(OF_DATASET))))
