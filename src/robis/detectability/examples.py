"""Pictures of trials: the place of a defect, and what the final mask marks there."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import cv2
import numpy as np

from robis.detectability.trials import Outcome, Trial
from robis.report.overlays import JPEG_QUALITY, overlay

# Side of a picture in pixels, and height of the words below.
SIDE, WORDS = 160, 22
# Side of what a picture shows, in pixels of the image: a multiple of the defect's size, at least so many.
AROUND, LEAST = 3.0, 48
GAP = 4


@dataclass(frozen=True, eq=False)
class Example:
    """A trial in pictures.

    Attributes:
        trial: the trial.
        is_hit: whether the final mask marks the defect.
        plain, marked: uint8 (SIDE, SIDE, 3) RGB, the place of the defect without and with the outline of the mask.
    """

    trial: Trial
    is_hit: bool
    plain: np.ndarray
    marked: np.ndarray


def example_of(outcome: Outcome) -> Example:
    """Cut the pictures of an outcome."""
    placed, mask = outcome.placed, outcome.inspection.mask
    height, width = placed.image.shape[:2]
    side = min(max(LEAST, round(AROUND * outcome.trial.size)), height, width)
    top, left = (min(max(0, at - side // 2), end - side) for at, end in ((placed.y, height), (placed.x, width)))
    shown = np.s_[top : top + side, left : left + side]
    full = cv2.resize(mask.astype(np.uint8), (width, height), interpolation=cv2.INTER_NEAREST)
    plain = cv2.resize(placed.image[shown], (SIDE, SIDE), interpolation=cv2.INTER_CUBIC)
    marked = overlay(plain, cv2.resize(full[shown], (SIDE, SIDE), interpolation=cv2.INTER_NEAREST) > 0)
    return Example(outcome.trial, outcome.is_hit, plain, marked)


def write_strip(file: Path, examples: Sequence[Example]) -> None:
    """Write pictures of trials side by side as JPEG, in their order: above plain, below marked, with words."""
    columns = [np.vstack([each.plain, _gap(GAP, SIDE), each.marked, _words(each)]) for each in examples]
    height = columns[0].shape[0]
    parts = [part for column in columns for part in (column, _gap(height, GAP))][:-1]
    picture = cv2.cvtColor(np.hstack(parts), cv2.COLOR_RGB2BGR)
    _, data = cv2.imencode(".jpg", picture, [cv2.IMWRITE_JPEG_QUALITY, JPEG_QUALITY])
    file.write_bytes(data.tobytes())


def _gap(height: int, width: int) -> np.ndarray:
    return np.full((height, width, 3), 255, np.uint8)


def _words(example: Example) -> np.ndarray:
    words = _gap(WORDS, SIDE)
    text = f"{example.trial.size:g} px: {'found' if example.is_hit else 'missed'}"
    cv2.putText(words, text, (2, WORDS - 7), cv2.FONT_HERSHEY_SIMPLEX, 0.48, (24, 32, 42), 1, cv2.LINE_AA)
    return words
