"""Shared by all tests: small generated trees; no network, no download."""

from __future__ import annotations

import os
from pathlib import Path

import numpy as np
import pytest

os.environ.setdefault("HF_HUB_OFFLINE", "1")
# Tests run side by side, one process per core: more threads than cores would make each other wait.
os.environ.setdefault("OMP_NUM_THREADS", "1")
# Jobs take the threads that they are given; those that wait sleep, so that other tests have the cores.
os.environ.setdefault("OMP_WAIT_POLICY", "PASSIVE")

REPOSITORY = Path(__file__).parents[1]
# The presets that come with robis; a user's own configs may lie beside them.
PRESETS = sorted(path.stem for path in (REPOSITORY / "config").glob("*.yaml"))
REAL_DATA = REPOSITORY.parent / "shared" / "data"


@pytest.fixture
def rng() -> np.random.Generator:
    return np.random.default_rng(0)
