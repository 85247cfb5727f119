"""SAM with random weights: masks of a small one beside the CPU's, and how long the largest one takes."""

from __future__ import annotations

from copy import deepcopy
from functools import partial

import cv2
import numpy as np
import torch
from segment_anything.modeling import Sam

from benchmarks.gpu_check.record import Check
from benchmarks.harness import Fact, require, timed
from benchmarks.sam_models import coarse_mask, random_sam
from robis.encoders.devices import autocast
from robis.refinement.sam import SamRefiner
from robis.refinement.sam_attention import without_score_matrices

# Pixels of a mask that may differ: random weights leave many near the border of a mask.
FLOAT32_DIFFER, REDUCED_DIFFER = 0.005, 0.1
BOXES, REPEATS = 3, 5
# Of an image of MVTec AD 2 at a quarter of its size: height and width in pixels.
SIZE = (512, 612)


def run(check: Check) -> None:
    """Compare, then time."""
    small, large = ("tiny", "tiny") if check.rehearse else ("vit_b", "vit_h")
    height, width = (48, 57) if check.rehearse else SIZE
    blocks = np.random.default_rng(0).integers(0, 256, (8, 10, 3), dtype=np.uint8)
    image, coarse = cv2.resize(blocks, (width, height), interpolation=cv2.INTER_CUBIC), coarse_mask(height, width)
    compare(check, small, image, coarse)
    sam = random_sam(large, check.device)
    check.add(times(check, sam, "bf16", image, coarse, "published attention, bf16"))
    sam = without_score_matrices(sam)
    for precision in ("float32", "bf16"):
        check.add(times(check, sam, precision, image, coarse, f"robis, {precision}"))


def compare(check: Check, name: str, image: np.ndarray, coarse: np.ndarray) -> None:
    """Masks on the device beside those of the CPU in float32."""
    sam = random_sam(name)
    exact = SamRefiner(without_score_matrices(deepcopy(sam)), BOXES, multimask=False)(image, coarse)
    sam = without_score_matrices(sam.to(check.device))
    for precision, limit in (("float32", FLOAT32_DIFFER), ("bf16", REDUCED_DIFFER), ("fp16", REDUCED_DIFFER)):
        mask = SamRefiner(sam, BOXES, multimask=False, precision=precision)(image, coarse)
        share = float((mask != exact).mean())
        note = "" if share <= limit else f"more than {limit:.1%} of the pixels differ"
        values: dict[str, str | float | None] = {"pixels that differ": f"{share:.3%}", "marked": f"{exact.mean():.0%}"}
        check.add(Fact(f"SAM {name} beside the CPU", precision, values, note, failed=bool(note)))


@torch.inference_mode()
def times(check: Check, sam: Sam, precision: str, image: np.ndarray, coarse: np.ndarray, label: str) -> Fact:
    """Milliseconds of the image encoder, and of a whole refinement."""
    refiner = SamRefiner(sam, BOXES, multimask=False, precision=precision)
    pixels = torch.as_tensor(refiner.transform.apply_image(image), device=check.device).permute(2, 0, 1)[None]

    def encode() -> torch.Tensor:
        with autocast(torch.device(check.device), precision):
            return sam.image_encoder(sam.preprocess(pixels))

    require(bool(encode().isfinite().all()), f"the embedding in {precision} is not finite")
    refine = partial(refiner, image, coarse)
    refine()
    encoding, whole = (
        sorted(timed(function, check.device).seconds for _ in range(REPEATS))[REPEATS // 2]
        for function in (encode, refine)
    )
    check.headline = f"image encoder {1000 * encoding:.0f} ms, refinement {1000 * whole:.0f} ms in {precision}"
    values: dict[str, str | float | None] = {"image encoder, ms": 1000 * encoding, "whole refinement, ms": 1000 * whole}
    parameters = sum(p.numel() for p in sam.parameters()) / 1e6
    return Fact(f"SAM of {parameters:.0f} million parameters, {BOXES} boxes", label, values)
