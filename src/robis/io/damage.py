"""One message for a file between two stages that cannot be used."""

from __future__ import annotations

from pathlib import Path

from robis.errors import DataError


def damaged(path: str | Path, problem: str, stage: str | None) -> DataError:
    """An error that names the file, what is wrong with it and how to make it again.

    Args:
        path: the file.
        problem: what was found and what is expected, without a period.
        stage: rule that writes the file; None for a file that robis did not make.
    """
    remedy = f" Make it again with `snakemake --forcerun {stage}`." if stage else ""
    return DataError(f"{path}: {problem}.{remedy}")


def why_unreadable(path: str | Path, error: Exception) -> str:
    """What is wrong with a file that a library could not read: absent, empty, or the library's own words."""
    path = Path(path)
    if not path.exists():
        return "the file does not exist"
    if path.is_file() and path.stat().st_size == 0:
        return "the file is empty"
    return str(error).rstrip(".").splitlines()[0] if str(error) else type(error).__name__
