"""SAM refinement: boxes around coarse components prompt Segment Anything (RoBiS, arXiv 2505.21152)."""

from __future__ import annotations

import threading
from collections.abc import Callable
from pathlib import Path

import numpy as np
import torch

from robis.arrays.morphology import fill_holes, largest_components
from robis.encoders.devices import autocast, pick_device
from robis.encoders.fitting import check_state
from robis.encoders.weights import read_state
from robis.encoders.without_compiler import compiler_left_out
from robis.errors import ConfigError, one_of
from robis.io.names import expanded
from robis.refinement.methods import CHECKPOINTS, SOURCE, check_checkpoint, check_shapes, default_checkpoint
from robis.refinement.sam_attention import without_score_matrices

with compiler_left_out():
    from segment_anything import sam_model_registry
    from segment_anything.modeling import Sam
    from segment_anything.utils.transforms import ResizeLongestSide

SAM_BUILDERS: dict[str, Callable[[], Sam]] = {name: sam_model_registry[name] for name in CHECKPOINTS}

PRECISIONS = ("float32", "bf16", "fp16")

ENCODER_KEY = "image_encoder.patch_embed.proj.weight"
MODEL_OF_WIDTH = {768: "vit_b", 1024: "vit_l", 1280: "vit_h"}


class SamRefiner:
    """SAM's masks of the boxes around the `boxes` largest components; their union, holes filled.

    `multimask` False takes SAM's single mask of each box, True joins the three it offers. The image is
    embedded once and all boxes go through one decoder call. `precision` ("float32", "bf16", "fp16") is that
    of the image encoder on a GPU; on the CPU, and in the decoder, it is float32. Raises ConfigError for
    another precision.
    """

    def __init__(self, sam: Sam, boxes: int, multimask: bool, precision: str = "float32") -> None:
        if precision not in PRECISIONS:
            raise ConfigError(f"refine.precision: {precision!r} is unknown. {one_of(precision, PRECISIONS)}")
        self.sam = sam
        self.boxes = boxes
        self.multimask = multimask
        self.precision = precision
        self.transform = ResizeLongestSide(sam.image_encoder.img_size)
        # Threads prepare and finish images side by side and take turns at the model.
        self._turn = threading.Lock()

    def __call__(self, image: np.ndarray, coarse: np.ndarray) -> np.ndarray:
        """Refine a coarse mask, bool (H, W), on its image, uint8 (H, W, 3) in RGB order.

        A coarse mask without a component gives an empty mask and never reaches the model. Raises DataError where the
        shapes do not fit together.
        """
        check_shapes(image, coarse)
        boxes, _ = largest_components(coarse, self.boxes)
        if len(boxes) == 0:
            return np.zeros(coarse.shape, dtype=bool)
        resized = self.transform.apply_image(image)
        prompts = self.transform.apply_boxes(boxes, coarse.shape)
        with self._turn:
            fine = self._segment(resized, prompts, coarse.shape)
        return fill_holes(fine)

    @torch.inference_mode()
    def _segment(self, resized: np.ndarray, prompts: np.ndarray, shape: tuple[int, ...]) -> np.ndarray:
        sam, device = self.sam, self.sam.device
        pixels = torch.as_tensor(resized, device=device).permute(2, 0, 1)[None]
        with autocast(device, self.precision):
            embedding = sam.image_encoder(sam.preprocess(pixels))
        with autocast(device, "float32"):
            sparse, dense = sam.prompt_encoder(
                points=None, boxes=torch.as_tensor(prompts, dtype=torch.float32, device=device), masks=None
            )
            low_resolution, _ = sam.mask_decoder(
                image_embeddings=embedding.float(),
                image_pe=sam.prompt_encoder.get_dense_pe(),
                sparse_prompt_embeddings=sparse,
                dense_prompt_embeddings=dense,
                multimask_output=self.multimask,
            )
        logits = sam.postprocess_masks(low_resolution, input_size=resized.shape[:2], original_size=shape)
        union: np.ndarray = (logits > sam.mask_threshold).flatten(0, 1).any(dim=0).cpu().numpy()
        return union


def load_sam(model: str, checkpoint: str | Path | None = None, sha256: str | None = None, device: str = "auto") -> Sam:
    """Build the SAM `model` of `SAM_BUILDERS` and fill it from a torch file, in eval mode on `device`.

    `checkpoint` None stands for the official file name in `weights/`. `device` "auto" is the GPU if there is
    one. Raises ConfigError for an unknown model or a device that is not there, and WeightsError when the file
    is missing, damaged, of another digest than `sha256`, or made for another model.
    """
    if model not in SAM_BUILDERS:
        raise ConfigError(f"refine.model: {model!r} is unknown. {one_of(model, SAM_BUILDERS)}")
    target = pick_device(device)
    name = Path(default_checkpoint(model)).name
    path = expanded(checkpoint or default_checkpoint(model))
    check_checkpoint(model, path)
    advice = f"Expected {name} from {SOURCE}."
    state = read_state(path, sha256=sha256, key="refine.checkpoint", sha256_key="refine.sha256", advice=advice)
    # Without storage the constructor computes no random weights, which takes seconds for vit_h, and the
    # checkpoint's own tensors become the model's: nothing lies in memory twice.
    with torch.device("meta"):
        sam = SAM_BUILDERS[model]()
    source = f"refine.checkpoint: {path}"
    check_state(state, sam.state_dict(), source=source, made_for=f"SAM {model}", advice=_likely(model, state))
    sam.load_state_dict(state, strict=True, assign=True)
    return without_score_matrices(sam.float().requires_grad_(False).eval().to(target))


def _likely(model: str, state: dict[str, torch.Tensor]) -> str:
    """Say which model the file was made for, going by the width of its image encoder."""
    name = Path(default_checkpoint(model)).name
    width = state[ENCODER_KEY].shape[0] if ENCODER_KEY in state else 0
    likely = MODEL_OF_WIDTH.get(width, model)
    if likely == model:
        return f"Expected {name} from {SOURCE}."
    return f"Its encoder is {width} wide, as {likely} is: set refine.model to {likely}, or get {name} from {SOURCE}."
