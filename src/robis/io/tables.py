"""Tables as Parquet."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING

from robis.errors import DataError
from robis.io.atomic import atomic_file
from robis.io.damage import damaged, why_unreadable

# Imported where it is used: it is slow to import, and models run without it.
if TYPE_CHECKING:
    import pandas as pd

# What a column may hold, and NumPy's letters for it.
KINDS = {"text": "OUT", "integers": "iu", "numbers": "fiu", "yes or no": "b", "anything": "OUTiufbM"}


def write_table(path: str | Path, table: pd.DataFrame) -> None:
    """Write a table as Parquet, atomically."""
    with atomic_file(path) as partial:
        table.to_parquet(partial, index=False)


def read_table(path: str | Path, *, stage: str | None = None, columns: Mapping[str, str] | None = None) -> pd.DataFrame:
    """Read a Parquet table.

    Args:
        path: the file.
        stage: rule that writes it, for the message; None for a table that robis did not make.
        columns: those that it must have and what they hold, one of `KINDS`. It may have others.

    Raises:
        DataError: the file is missing, damaged, or lacks a column.
    """
    import pandas as pd

    try:
        table = pd.read_parquet(path)
    # Arrow's errors derive from these.
    except (OSError, ValueError, KeyError, TypeError, NotImplementedError) as error:
        raise _unreadable(Path(path), error, stage) from error
    for name, kind in (columns or {}).items():
        if name not in table:
            names = ", ".join(map(str, table))
            raise damaged(path, f"no column {name!r}; found {names}; expected {', '.join(columns or ())}", stage)
        if table[name].dtype.kind not in KINDS[kind] and not table[name].isna().all():
            raise damaged(path, f"the column {name!r} holds {table[name].dtype}; expected {kind}", stage)
    return table


def _unreadable(path: Path, error: Exception, stage: str | None) -> DataError:
    return damaged(path, f"not a readable Parquet table ({why_unreadable(path, error)})", stage)
