"""Trials: defects on held-out good images, each inspected by the pack of a run."""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass

import cv2
import numpy as np

from robis.detectability.synthetic import KINDS, WITHOUT_CONTRAST, Placed, Stamp, crop_stamp, put, room_in
from robis.errors import DataError
from robis.packs.inspection import Inspection

# Gives the result of an image, uint8 (H, W, 3) RGB; the text names the image in messages.
Inspect = Callable[[np.ndarray, str], Inspection]
# Name of the curve of the user's own crops.
CROP = "crop"


@dataclass(frozen=True)
class Design:
    """Which defects are tried.

    Attributes:
        kinds: names of KINDS, and CROP where there are crops.
        sizes: in pixels, ascending.
        contrasts: in gray levels.
        defects_per_size: trials per kind, contrast and size.
        seed: of all randomness.
        category: each has its own defects.
    """

    kinds: Sequence[str]
    sizes: Sequence[float]
    contrasts: Sequence[int]
    defects_per_size: int
    seed: int
    category: str


@dataclass(frozen=True)
class Trial:
    """One defect to try.

    Attributes:
        kind, size: of the defect.
        contrast: in gray levels; None for kinds without.
        number: of the trial among those of its kind, contrast and size.
        image: number of the held-out image.
    """

    kind: str
    size: float
    contrast: int | None
    number: int
    image: int

    def generator(self, design: Design) -> np.random.Generator:
        """The generator of this trial alone: results depend neither on other trials nor on their order."""
        text = f"{design.seed}/{design.category}/{self.kind}/{self.size!r}/{self.contrast}/{self.number}"
        return np.random.default_rng(np.frombuffer(hashlib.sha256(text.encode()).digest(), np.uint32))


def planned(design: Design, images: int) -> list[Trial]:
    """All trials; those of one kind and contrast are spread evenly over the images."""
    trials = []
    for kind in design.kinds:
        for contrast in [None] if kind in WITHOUT_CONTRAST else design.contrasts:
            for place, size in enumerate(design.sizes):
                for number in range(design.defects_per_size):
                    image = (place * design.defects_per_size + number) % images
                    trials.append(Trial(kind, size, contrast, number, image))
    return trials


@dataclass(frozen=True, eq=False)
class Outcome:
    """What the pipeline makes of a trial.

    Attributes:
        trial: the trial.
        placed: the image with the defect.
        inspection: of that image.
        is_hit: see `is_hit`.
        peak, clean_peak: highest value of the anomaly map at the defect, and there without the defect.
    """

    trial: Trial
    placed: Placed
    inspection: Inspection
    is_hit: bool
    peak: float
    clean_peak: float


def defect_area(defect: np.ndarray, height: int, width: int) -> np.ndarray:
    """Pixels of a map, bool (height, width), that touch a defect, bool (H, W), and their eight neighbors."""
    cover = cv2.resize(defect.astype(np.float32), (width, height), interpolation=cv2.INTER_AREA)
    area: np.ndarray = cv2.dilate((cover > 0).astype(np.uint8), np.ones((3, 3), np.uint8)) > 0
    return area


def is_hit(mask: np.ndarray, clean_mask: np.ndarray, area: np.ndarray) -> bool:
    """Whether a final mask has a pixel in the area of a defect that it does not have without the defect.

    Args:
        mask, clean_mask: final masks, bool (h, w), of the image with and without the defect.
        area: as `defect_area` gives it, bool (h, w).
    """
    return bool((mask & ~clean_mask & area).any())


@dataclass(frozen=True, eq=False)
class Bench:
    """What trials run on.

    Attributes:
        design: that the trials belong to.
        inspect: the pipeline.
        crops: the user's own defects, see `read_crops`.
    """

    design: Design
    inspect: Inspect
    crops: Sequence[np.ndarray] = ()

    def outcomes(
        self, pixels: np.ndarray, name: str, clean: Inspection, trials: Sequence[Trial], allowed: np.ndarray
    ) -> Iterator[Outcome]:
        """Inspect a good image with the defect of each trial.

        Args:
            pixels: the image, uint8 (H, W, 3) RGB.
            name: of the image, for messages.
            clean: the inspection of the image itself.
            trials: those of the image.
            allowed: bool (H, W), where defects may lie.

        Raises:
            DataError: a defect has no place on the image.
        """
        room = room_in(allowed)
        for trial in trials:
            rng = trial.generator(self.design)
            placed = put(pixels, self._stamp(trial, rng), room, rng)
            if placed is None:
                raise DataError(
                    f"detectability.sizes: a {trial.kind} of {trial.size:g} pixels has no place on {name} "
                    f"({pixels.shape[1]} x {pixels.shape[0]} pixels). Set smaller sizes."
                )
            yield _outcome(trial, placed, clean, self.inspect(placed.image, name))

    def _stamp(self, trial: Trial, rng: np.random.Generator) -> Stamp:
        if trial.kind == CROP:
            return crop_stamp(self.crops, trial.size, rng)
        return KINDS[trial.kind](trial.size, trial.contrast or 0, rng)


def _outcome(trial: Trial, placed: Placed, clean: Inspection, inspection: Inspection) -> Outcome:
    area = defect_area(placed.mask, *inspection.mask.shape)
    hit = is_hit(inspection.mask, clean.mask, area)
    peak, clean_peak = (float(result.map[area].max()) for result in (inspection, clean))
    return Outcome(trial, placed, inspection, hit, peak, clean_peak)
