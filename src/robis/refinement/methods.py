"""Methods of refinement, from a coarse mask and its image to the final mask."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from robis.errors import ConfigError, DataError, WeightsError, one_of
from robis.io.copies import copy_of
from robis.io.names import expanded
from robis.io.weights import check_file

# The official checkpoint of each model, and where a config without `refine.checkpoint` looks for it.
CHECKPOINTS = {
    "vit_b": "sam_vit_b_01ec64.pth",
    "vit_l": "sam_vit_l_0b3195.pth",
    "vit_h": "sam_vit_h_4b8939.pth",
}
WEIGHTS_FOLDER = "weights"
SOURCE = "the section Model Checkpoints in the README of facebookresearch/segment-anything on GitHub"


def default_checkpoint(model: str) -> str:
    """Path, from the working directory, of a SAM model's official checkpoint."""
    return f"{WEIGHTS_FOLDER}/{CHECKPOINTS.get(model, f'{model}.pth')}"


def check_checkpoint(model: str, checkpoint: str | Path | None) -> None:
    """Raise WeightsError where the checkpoint of a SAM model (None: the default path) is not there, or is none."""
    path = expanded(checkpoint or default_checkpoint(model))
    if not copy_of(path).is_file():
        raise WeightsError(
            f"{path}: does not exist; expected the weights of SAM {model}. "
            f"Download {Path(default_checkpoint(model)).name} from {SOURCE}, "
            f"and put it there or set refine.checkpoint to its path."
        )
    check_file(path, "refine.checkpoint", f"Expected {Path(default_checkpoint(model)).name} from {SOURCE}.")


def check_shapes(image: np.ndarray, coarse: np.ndarray) -> None:
    """Raise DataError where an image is not (H, W, 3) of its coarse mask's (H, W)."""
    if image.shape != (*coarse.shape, 3):
        raise DataError(f"image: found shape {image.shape}; expected {(*coarse.shape, 3)}, as large as its mask.")


# From an RGB image, uint8 (H, W, 3), and its coarse mask, bool (H, W), to the final mask, bool (H, W). Thread-safe.
Refine = Callable[[np.ndarray, np.ndarray], np.ndarray]


@dataclass(frozen=True)
class Refining:
    """How coarse masks become final masks; each method takes what it needs of it.

    Attributes:
        method: one of `METHODS`.
        max_boxes: largest components of the coarse mask that become boxes.
        multimask: join the three masks that SAM offers per box instead of taking its single one.
        model: SAM's image encoder, "vit_b", "vit_l" or "vit_h".
        checkpoint: path of SAM's weights; None: the official file name in `weights/`.
        sha256: digest that the checkpoint must have; None is not checked.
        precision: "float32", "bf16" or "fp16", of SAM's image encoder on a GPU.
        device: "auto", "cpu", "cuda", ..., of SAM.
        bit_depth: of images of 16 bits, see `read_image`.
    """

    method: str
    max_boxes: int = 3
    multimask: bool = False
    model: str = "vit_h"
    checkpoint: str | None = None
    sha256: str | None = None
    precision: str = "float32"
    device: str = "auto"
    bit_depth: int | None = None

    def __post_init__(self) -> None:
        if self.method not in METHODS:
            raise ConfigError(f"refine.method: {self.method!r} is unknown. {one_of(self.method, METHODS)}")

    def build(self) -> Refine | None:
        """The method, ready to be called; None where the coarse mask is the result."""
        make = METHODS[self.method]
        return None if make is None else make(self)


def _sam(options: Refining) -> Refine:
    # torch takes seconds to import; the other methods start without it.
    from robis.refinement.sam import SamRefiner, load_sam

    sam = load_sam(options.model, options.checkpoint, options.sha256, options.device)
    return SamRefiner(sam, options.max_boxes, options.multimask, options.precision)


def _grabcut(options: Refining) -> Refine:
    from robis.refinement.grabcut import GrabCutRefiner

    return GrabCutRefiner(options.max_boxes)


# None: the coarse mask is the result and the images are not read.
METHODS: dict[str, Callable[[Refining], Refine] | None] = {
    "sam": _sam,
    "grabcut": _grabcut,
    "none": None,
}
