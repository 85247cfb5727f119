"""The table of training steps, for detectors whose `train` takes none."""

from __future__ import annotations

from pathlib import Path

import pandas as pd

from robis.io.tables import write_table

COLUMNS = {
    "step": "int64",
    "epoch": "int64",
    "loss": "float64",
    "coherence": "float64",
    "lr": "float64",
    "images_per_second": "float64",
}


def write_empty_history(path: Path) -> None:
    """Write the table without a row."""
    write_table(path, pd.DataFrame({name: pd.Series(dtype=kind) for name, kind in COLUMNS.items()}))
