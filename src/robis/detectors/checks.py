"""Values that must be finite before they are stored."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import numpy as np
from torch import Tensor

from robis.errors import DataError


def require_finite(values: Tensor | np.ndarray, what: str, numbers: Sequence[int], tiles: str | Path) -> None:
    """Raise DataError naming the first tile of a batch whose values are not all finite.

    Args:
        values: (B, ...), as they will be stored: float16 turns 1e5 into infinity.
        what: what they are, for the message, a plural such as "tokens".
        numbers: of the batch's tiles.
        tiles: the tile store or image.
    """
    finite = np.isfinite(values) if isinstance(values, np.ndarray) else values.isfinite()
    if finite.all():
        return
    rows = finite.reshape(len(finite), -1).all(1)
    bad = numbers[int(np.flatnonzero(~np.asarray(rows.tolist()))[0])]
    raise DataError(
        f"{tiles}: tile {bad} gives {what} that are not finite. Set infer.precision to float32, use other encoder "
        f"weights, or train again."
    )
