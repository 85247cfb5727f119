"""Refine every coarse mask of a split."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from functools import partial
from pathlib import Path

import cv2
import numpy as np

from robis.errors import DataError, first_few
from robis.io.atomic import atomic_folder
from robis.io.ignored import filled
from robis.io.images import read_image
from robis.io.maps import read_written_mask, write_mask
from robis.io.progress import tracked
from robis.io.samples import IndexedSample, read_samples
from robis.io.tables import read_table
from robis.io.threads import threaded
from robis.refinement.methods import Refine, Refining


def refine_split(
    samples: Path,
    root: Path,
    coarse: Path,
    masks: Path,
    options: Refining,
    *,
    verdicts: Path | None = None,
    threads: int = 1,
) -> None:
    """Write the final mask of every image of a split: uint8 {0, 255}, of the coarse mask's size.

    Images whose final mask is empty anyway, and all images with method "none", are not read.

    Args:
        samples: the sample table.
        root: folder that its image paths are relative to.
        coarse: folder of coarse masks, SAMPLE_ID.png.
        masks: folder that is written; it appears complete or not at all.
        options: how.
        verdicts: table of the stage `judge`; images that it judges normal get an empty mask. None: no image does.
        threads: images refined at a time.

    Raises:
        ConfigError: an unknown model, precision or device.
        WeightsError: SAM's checkpoint is missing, damaged, or made for another model.
        DataError: coarse masks are missing, or a file cannot be read.
        DiskFullError: there is no room for the masks.
    """
    images = read_samples(samples)
    _check_complete(images, coarse)
    refine = options.build()
    emptied = _judged_normal(verdicts) if verdicts else frozenset()

    with atomic_folder(masks) as folder:

        def write(image: IndexedSample) -> None:
            mask = read_written_mask(coarse / f"{image.sample_id}.png", stage="binarize")
            final = final_mask(
                mask,
                partial(_read_kept, image, root, options.bit_depth),
                refine,
                emptied=image.sample_id in emptied,
                ignored=image.ignored_at(mask.shape),
            )
            write_mask(folder / f"{image.sample_id}.png", final)

        for _ in tracked(threaded(write, images, threads), len(images), "images"):
            pass


def final_mask(
    coarse: np.ndarray,
    image: Callable[[], np.ndarray],
    refine: Refine | None,
    *,
    emptied: bool,
    ignored: np.ndarray | None = None,
) -> np.ndarray:
    """The final mask of one image, bool (H, W).

    Args:
        coarse: bool (H, W).
        image: gives the image, uint8 (h, w, 3) RGB; called only where it is needed.
        refine: see `Refining.build`.
        emptied: whether the mask is emptied, because the image is judged normal.
        ignored: pixels that the mask never has, bool (H, W); None: nothing is ignored.
    """
    if emptied:
        return np.zeros_like(coarse)
    if refine is None or not coarse.any():
        return coarse
    refined = refine(_at_size_of(coarse, image()), coarse)
    return refined if ignored is None else refined & ~ignored


def _read_kept(image: IndexedSample, root: Path, bit_depth: int | None) -> np.ndarray:
    return filled(read_image(root / image.image, bit_depth=bit_depth), image.ignored_pixels)


def _judged_normal(verdicts: Path) -> frozenset[str]:
    table = read_table(verdicts, stage="judge", columns={"sample_id": "text", "is_anomalous": "yes or no"})
    return frozenset(table["sample_id"][~table["is_anomalous"]].astype(str))


def _check_complete(images: Sequence[IndexedSample], coarse: Path) -> None:
    missing = [path for image in images if not (path := coarse / f"{image.sample_id}.png").is_file()]
    if missing:
        raise DataError(
            f"{coarse}: no coarse mask for {len(missing)} of {len(images)} samples. Make them again with "
            f"`snakemake --forcerun binarize`. Missing:\n{first_few(missing)}"
        )


def _at_size_of(mask: np.ndarray, image: np.ndarray) -> np.ndarray:
    if image.shape[:2] == mask.shape:
        return image
    # Bilinear without antialiasing.
    return cv2.resize(image, (mask.shape[1], mask.shape[0]), interpolation=cv2.INTER_LINEAR)
