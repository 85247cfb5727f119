"""What is said of detectability, and examples of defects, from the files of the stage."""

from __future__ import annotations

import math
import shutil
from collections.abc import Sequence
from pathlib import Path
from typing import Any
from urllib.parse import quote

from robis.io.tables import read_table
from robis.report.inputs import RunFiles

# Files in the folder of the stage.
TRIALS, CURVES, BANDS, EXAMPLES = "trials.parquet", "curves.parquet", "bands.parquet", "_examples.jpg"
STAGE = "measure_detectability"
# Of the table CURVES.
COLUMNS = {
    "kind": "text",
    "contrast": "numbers",
    "trials": "integers",
    "hits": "integers",
    "a90": "numbers",
    "a90_95": "numbers",
    "good_images": "integers",
    "good_images_with_mask": "integers",
    "sentence": "text",
}


def curve_name(kind: str, contrast: float | None) -> str:
    """The name of a curve's files."""
    return kind if contrast is None or math.isnan(contrast) else f"{kind}_{contrast:g}"


def sentences(folder: Path, category: str, run: str) -> list[str]:
    """What a folder of the stage says of a category and run: one sentence per curve, then the false calls.

    Raises DataError where its table is missing or damaged.
    """
    table = read_table(folder / CURVES, stage=STAGE, columns=COLUMNS)
    images, masks = (int(table[name].iloc[0]) for name in ("good_images", "good_images_with_mask"))
    said = [*table["sentence"], f"marks something on {masks} of {images} good images."]
    return [f"{category}, {run}: {text}" for text in said]


def detectability_entries(runs: Sequence[RunFiles], assets: Path) -> list[dict[str, Any]]:
    """What the page shows of each run with detectability; its examples are copied below `assets`.

    Returns:
        Of each run and category `sentences`, and `examples`: path below `assets` -> what the picture shows.
    """
    entries = []
    for run in runs:
        if run.detectability is None:
            continue
        examples = {}
        for file in sorted(run.detectability.glob(f"*{EXAMPLES}")):
            place = Path("detectability", run.name, run.category, file.name)
            (assets / place).parent.mkdir(parents=True, exist_ok=True)
            shutil.copyfile(file, assets / place)
            shown = file.name.removesuffix(EXAMPLES).replace("_", ", contrast ")
            examples[quote(place.as_posix())] = f"{run.category}, {run.name}: {shown}"
        entries.append({"sentences": sentences(run.detectability, run.category, run.name), "examples": examples})
    return entries
