"""Tables as Parquet and CSV."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from robis.errors import DataError
from robis.io.atomic import atomic_file
from robis.io.damage import damaged, why_unreadable

# Imported where it is used: it is slow to import, and models run without it.
if TYPE_CHECKING:
    import pandas as pd

# What a column may hold, and NumPy's letters for it.
KINDS = {"text": "OUT", "integers": "iu", "numbers": "fiu", "yes or no": "b", "anything": "OUTiufbM"}

# Spreadsheet programs take a cell that begins with one of these for a formula, also behind white space; the last four
# are the same characters in full width (OWASP, "CSV injection").
_FORMULA_STARTS = ("=", "+", "-", "@", "\uff1d", "\uff0b", "\uff0d", "\uff20")


def make_table(data: Any, columns: Sequence[str] | None = None) -> pd.DataFrame:
    """A table of `data` as `pandas.DataFrame` takes it, with these columns.

    For modules that single images are inspected with, which do not import pandas.
    """
    import pandas as pd

    return pd.DataFrame(data, columns=None if columns is None else list(columns))


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


def write_csv(path: str | Path, table: pd.DataFrame) -> None:
    """Write a table as CSV, atomically: text as `plain_text` gives it, numbers with all their digits, null as empty."""
    cells = table.rename(columns=plain_text)
    text = cells.select_dtypes(exclude="number").columns
    cells[text] = cells[text].map(plain_text)
    with atomic_file(path) as partial:
        cells.to_csv(partial, index=False, lineterminator="\n")


def plain_text(value: object) -> object:
    """Text that a spreadsheet shows and does not execute: what it would take for a formula gets an apostrophe in front.

    Tabs and line breaks become spaces: some programs begin a new cell at them. Anything but text is returned as it is.
    """
    if not isinstance(value, str):
        return value
    text = re.sub(r"[\t\r\n]", " ", value)
    return f"'{text}" if text.lstrip().startswith(_FORMULA_STARTS) else text


def as_written(cell: str) -> str:
    """The text that a cell of `write_csv` stands for: without the apostrophe in front of what looks like a formula."""
    return cell[1:] if cell[:1] == "'" and plain_text(cell[1:]) == cell else cell
