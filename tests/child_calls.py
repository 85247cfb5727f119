"""Work for processes of their own, in tests of the benchmarks' harness."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np


def reserve(megabytes: int) -> Callable[[], float]:
    """A run that takes some memory, after a set-up that takes 200 MB for a moment."""
    np.ones(200_000_000, np.uint8)
    return lambda: float(np.ones(megabytes * 1_000_000, np.uint8)[-1])


def fail(message: str) -> Callable[[], float]:
    """A set-up that fails."""
    raise ValueError(message)
