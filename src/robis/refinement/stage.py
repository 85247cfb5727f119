"""Refine every coarse mask of a split."""

from __future__ import annotations

from pathlib import Path

import cv2
import numpy as np
from tqdm import tqdm

from robis.errors import ConfigError, DataError, first_few, one_of
from robis.io.atomic import atomic_folder
from robis.io.images import read_image, read_mask
from robis.io.maps import write_mask
from robis.io.tables import read_table
from robis.io.threads import threaded
from robis.refinement.methods import METHODS, Options


def refine_split(
    samples: Path,
    root: Path,
    coarse: Path,
    masks: Path,
    *,
    method: str,
    max_boxes: int = 3,
    multimask: bool = False,
    model: str = "vit_h",
    checkpoint: str | None = None,
    sha256: str | None = None,
    precision: str = "float32",
    device: str = "auto",
    threads: int = 1,
) -> None:
    """Write the fine mask `masks`/{sample_id}.png, uint8 {0, 255}, of every sample in the table `samples`.

    `coarse` is the folder of coarse masks, {sample_id}.png, whose sizes the fine masks keep; `root` the
    folder that the table's image paths start from. `method` is one of `METHODS`. Images whose coarse mask is
    empty, and all images with method "none", are not read. `masks` appears complete or not at all.

    Raises ConfigError for an unknown method, model, precision or device, WeightsError for a checkpoint that
    does not do, and DataError for coarse masks that are missing and files that cannot be read.
    """
    if method not in METHODS:
        raise ConfigError(f"refine.method: {method!r} is unknown. {one_of(method, METHODS)}")
    table = read_table(samples)
    rows = list(zip(table["sample_id"], table["image"], strict=True))
    missing = [path for sample_id, _ in rows if not (path := coarse / f"{sample_id}.png").is_file()]
    if missing:
        raise DataError(
            f"{coarse}: no coarse mask for {len(missing)} of {len(rows)} samples of {samples}; expected\n"
            f"{first_few(missing)}\nRun the binarize stage again."
        )
    build = METHODS[method]
    options = Options(max_boxes, multimask, model, checkpoint, sha256, precision, device)
    refine = None if build is None else build(options)

    with atomic_folder(masks) as folder:

        def one(row: tuple[str, str]) -> None:
            sample_id, image = row
            mask = read_mask(coarse / f"{sample_id}.png")
            if refine is not None and mask.any():
                mask = refine(_at_size_of(mask, read_image(root / image)), mask)
            write_mask(folder / f"{sample_id}.png", mask)

        # One thread more than asked for, so that the next image is read while this one is refined.
        done = threaded(one, rows, threads + 1)
        for _ in tqdm(done, total=len(rows), desc="refine", unit="image", disable=None):
            pass


def _at_size_of(mask: np.ndarray, image: np.ndarray) -> np.ndarray:
    # Bilinear without antialiasing, as published.
    return cv2.resize(image, (mask.shape[1], mask.shape[0]), interpolation=cv2.INTER_LINEAR)
