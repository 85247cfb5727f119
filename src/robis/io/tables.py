"""Tables as Parquet."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

from robis.errors import DataError

# Imported where they are used: both are slow to import, and models run without them.
if TYPE_CHECKING:
    import pandas as pd
from robis.io.atomic import atomic_file


def write_table(path: str | Path, table: pd.DataFrame) -> None:
    """Write a table as Parquet, atomically."""
    with atomic_file(path) as partial:
        table.to_parquet(partial, index=False)


def read_table(path: str | Path) -> pd.DataFrame:
    """Read a Parquet table. Raises DataError when it is missing or damaged."""
    import pandas as pd

    try:
        return pd.read_parquet(path)
    except (OSError, ValueError) as error:
        raise DataError(f"{path}: not a readable Parquet table ({error}).") from error
