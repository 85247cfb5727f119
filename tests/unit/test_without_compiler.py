"""Jobs with a model start without PyTorch's compiler, and those that use it get it."""

from __future__ import annotations

import subprocess
import sys

START = """
import sys

def loaded():
    return sorted({"sympy", "torch._dynamo", "torch._inductor"} & set(sys.modules))

"""


def output_of(code: str) -> list[str]:
    run = subprocess.run([sys.executable, "-c", START + code], capture_output=True, text=True)
    assert run.returncode == 0, run.stderr
    return run.stdout.splitlines()


def test_models_of_timm_run_without_the_compiler() -> None:
    code = """
import robis.encoders.clip
import robis.encoders.vit
import robis.refinement.sam
import timm
import torch
for name in ("resnet18", "vit_tiny_patch16_224"):
    with torch.inference_mode():
        print(tuple(timm.create_model(name).eval()(torch.zeros(1, 3, 224, 224)).shape), loaded())
"""
    assert output_of(code) == ["(1, 1000) []", "(1, 1000) []"]


def test_what_uses_the_compiler_still_gets_it() -> None:
    """torchvision asks it for a device, an optimizer switches it off for itself, `torch.compile` needs all of it."""
    code = """
import torch
from robis.encoders.without_compiler import compiler_left_out
with compiler_left_out():
    import timm
    import torchvision
asks = sys.modules["torchvision.ops.roi_align"].is_compile_supported
print(loaded(), asks("cpu"), asks("meta"))
weight = torch.nn.Parameter(torch.ones(1))
optimizer = torch.optim.SGD([weight], lr=0.5)
weight.sum().backward()
optimizer.step()
print(weight.item(), torch.compile(lambda x: x + 1, backend="eager")(weight).item())
"""
    assert output_of(code) == ["[] True False", "0.5 1.5"]


def test_anything_else_of_the_compiler_is_itself() -> None:
    code = """
from robis.encoders.without_compiler import compiler_left_out
with compiler_left_out():
    from torch._dynamo.utils import counters
    from torch._dynamo import graph_break
import torch._dynamo
print(counters is torch._dynamo.utils.counters, graph_break is torch._dynamo.graph_break)
"""
    assert output_of(code) == ["True True"]
