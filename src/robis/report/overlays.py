"""Images at their full size with the outlines of their final masks, to look at or to send on."""

from __future__ import annotations

from pathlib import Path

import cv2
import numpy as np

from robis.io.images import read_image
from robis.io.maps import read_written_mask
from robis.io.samples import IndexedSample, read_samples
from robis.io.threads import threaded
from robis.report.inputs import RunFiles

# RGB; seldom the color of a product.
OUTLINE = (255, 0, 255)
# Width of the outline as a share of the image's longer side.
WIDTH_SHARE = 1 / 400
JPEG_QUALITY = 92


def write_overlays(folder: Path, run: RunFiles, root: Path, threads: int, *, bit_depth: int | None = None) -> None:
    """Write one JPEG per image of a run: SAMPLE_ID.jpg, the image with its final mask outlined.

    Args:
        folder: to write to.
        run: whose masks.
        root: folder that the sample table's paths are relative to.
        threads: images that are opened at the same time.
        bit_depth: of images of 16 bits, see `read_image`.

    Raises:
        DataError: an image or a mask is missing or damaged.
    """

    def write(sample: IndexedSample) -> None:
        image = read_image(root / sample.image, bit_depth=bit_depth)
        drawn = overlay(image, read_written_mask(run.masks / f"{sample.sample_id}.png", stage="refine"))
        file = folder / f"{sample.sample_id}.jpg"
        file.parent.mkdir(parents=True, exist_ok=True)
        _, data = cv2.imencode(".jpg", cv2.cvtColor(drawn, cv2.COLOR_RGB2BGR), [cv2.IMWRITE_JPEG_QUALITY, JPEG_QUALITY])
        file.write_bytes(data.tobytes())

    for _ in threaded(write, read_samples(run.samples), threads):
        pass


def overlay(image: np.ndarray, mask: np.ndarray, line: int | None = None) -> np.ndarray:
    """An image with the outline of a mask around the masked pixels, uint8 (H, W, 3) RGB.

    Args:
        image: uint8 (H, W, 3) RGB.
        mask: bool, of any size; it is brought to the image's.
        line: width of the outline in pixels; None: a share of the image's longer side.
    """
    height, width = image.shape[:2]
    full = cv2.resize(mask.astype(np.uint8), (width, height), interpolation=cv2.INTER_NEAREST)
    line = line or max(1, round(max(height, width) * WIDTH_SHARE))
    # Outside of the mask, so that the smallest defect stays visible.
    grown = cv2.dilate(full, np.ones((2 * line + 1, 2 * line + 1), np.uint8))
    drawn = image.copy()
    drawn[(grown > 0) & (full == 0)] = OUTLINE
    return drawn
