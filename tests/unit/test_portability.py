"""Systems that lack some of what Linux has: what is missing is taken away before robis is imported."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

WITHOUT = """
import mmap, os, signal, sys
import numpy as np
import torch

for module, name in ((os, "posix_fallocate"), (os, "getuid"), (os, "statvfs"), (signal, "SIGUSR1"),
                     (mmap, "MADV_DONTNEED")):
    delattr(module, name)

from robis.detectors.reconstruction.loop import STOP_SIGNALS
from robis.io.arrays import atomic_array, open_array, release
from robis.workflow.gpu_lock import gpu_of_job

assert STOP_SIGNALS == (signal.SIGTERM, signal.SIGINT)
with atomic_array("values.npy", np.float32, (3, 4)) as values:
    values[:] = 2
    release(values)
assert open_array("values.npy", stage=None).sum() == 24
with gpu_of_job(1, 1) as gpu:
    assert gpu == os.environ["CUDA_VISIBLE_DEVICES"] == "0"
print("all fine")
"""


def test_what_only_linux_has_is_not_needed(tmp_path: Path) -> None:
    """Without preallocation, user ids, statistics of file systems, SIGUSR1 and advice on memory maps."""
    environment = os.environ | {"ROBIS_GPUS": "0", "TMPDIR": str(tmp_path)}
    environment.pop("CUDA_VISIBLE_DEVICES", None)
    done = subprocess.run(
        [sys.executable, "-c", WITHOUT], cwd=tmp_path, env=environment, capture_output=True, text=True
    )
    assert done.stdout == "all fine\n", done.stderr
    assert (tmp_path / "robis-gpus-all").is_dir()
