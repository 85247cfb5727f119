"""What the report says of packs: whether their masks equal those of their runs."""

from __future__ import annotations

import json
from collections.abc import Sequence
from pathlib import Path

from pydantic import ValidationError

from robis.evaluation.agreement import Check
from robis.io.damage import damaged, why_unreadable
from robis.report.inputs import RunFiles


def pack_sentences(runs: Sequence[RunFiles]) -> list[str]:
    """A sentence for each pack: the run and category, and how it compares with the run.

    Raises DataError where a pack cannot be read.
    """
    return [f"{run.name}, {run.category}: {_compared(run.pack)}" for run in runs if run.pack]


def _compared(pack: Path) -> str:
    file = pack / "pack.json"
    try:
        values = json.loads(file.read_text(encoding="utf-8"))
        return Check.model_validate(values["check"]).in_words(values["split"])
    except (OSError, ValueError, KeyError, TypeError, ValidationError) as error:
        raise damaged(file, why_unreadable(file, error), "pack") from error
