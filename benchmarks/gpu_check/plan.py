"""The steps in their order, the most important first: how long each may take and what it needs."""

from __future__ import annotations

from dataclasses import dataclass

# Of these a machine has all, or there is nothing to check.
EVERYWHERE = ("torch", "timm", "numpy", "cv2")
# What every encoder of robis imports.
ENCODERS = ("open_clip", "safetensors", "PIL")


@dataclass(frozen=True)
class Step:
    """A step, whose module is `benchmarks.gpu_check.steps.NAME`.

    Attributes:
        shows: what it checks or measures.
        seconds: its time limit.
        needs: modules without which it is skipped.
        measures: whether its figures are those of docs/performance.md.
    """

    shows: str
    seconds: int
    needs: tuple[str, ...] = ()
    measures: bool = False


STEPS = {
    "machine": Step("versions, the GPU, what else is there", 40),
    "tests": Step("the tests that need a GPU", 90, (*ENCODERS, "pytest", "pandas", "tensorboard", "segment_anything")),
    "detectors": Step(
        "maps and masks of every detector, beside those of the CPU", 110, (*ENCODERS, "pandas", "pydantic")
    ),
    "kernel": Step("MuSc's Triton kernel, beside plain products", 45, ("triton",), True),
    "inp_former": Step("INP-Former, training and inference", 150, ("safetensors",), True),
    "musc": Step("MuSc's scoring of 200 images", 55, (), True),
    "superadd": Step("SuperADD's search and the choice of its bank", 35, (), True),
    "sam": Step("SAM on the GPU", 45, ("segment_anything", "safetensors"), True),
}
# In all, with what starting and writing take: less than ten minutes.
SECONDS = 580
