"""Why a run may be bad: what the data and the settings show, the surest cause first, with the key to change."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import numpy as np

# A tile of which the image fills less than this is mostly padding.
FILLED = 0.5
# Defects below this side, in pixels of the encoder's input, are smaller than half a token of most encoders.
SMALL_SIDE = 8
# Fewer training images do not show what normal images look like.
FEW_TRAINING_IMAGES = 20
# With fewer held-out images, a single unusual one sets the limit.
FEW_HELD_OUT = 20


@dataclass(frozen=True)
class Conditions:
    """Under which a run of a category was made.

    Attributes:
        window: side of a tile in image pixels, or "image".
        input_size: side of a tile after resizing.
        encoder: its name.
        weights: `encoder.weights`.
        training: number of training images; None for a run that does not learn.
    """

    window: int | str
    input_size: int
    encoder: str
    weights: str
    training: int | None


@dataclass(frozen=True)
class Evidence:
    """What the data of a category and split show.

    Attributes:
        category: its name.
        conditions: of the run there.
        sizes: int (N, 2), height and width of each image.
        areas: int (R,), area of each ground-truth region in image pixels.
        good, flagged: number of images labeled normal, and of those that are judged anomalous by a limit.
        defective, missed: number of images labeled anomalous, and of those that are judged normal.
        held_out: number of normal images that the limit comes from; 0 where there is no limit.
    """

    category: str
    conditions: Conditions
    sizes: np.ndarray
    areas: np.ndarray
    good: int = 0
    flagged: int = 0
    defective: int = 0
    missed: int = 0
    held_out: int = 0

    @property
    def size(self) -> tuple[int, int]:
        """Median height and width of the images."""
        height, width = np.median(self.sizes, axis=0).round().astype(int).tolist()
        return height, width

    @property
    def filled(self) -> float:
        """The share of a tile that the median image fills; 1 where a tile is a whole image or less."""
        window = self.conditions.window
        if isinstance(window, str):
            return 1.0
        height, width = self.size
        return min(height, window) * min(width, window) / window**2

    @property
    def shrunk(self) -> float:
        """Pixels of the encoder's input per image pixel."""
        window = self.conditions.window
        return self.conditions.input_size / (max(self.size) if isinstance(window, str) else window)


@dataclass(frozen=True)
class Cause:
    """A likely cause, and the key (or folder) to change."""

    text: str
    key: str


def causes(evidence: Sequence[Evidence]) -> list[Cause]:
    """Likely causes of a bad result of one run; each is named for the category where it shows most.

    Random weights come first, since nothing else counts with them; then what the images and masks prove: padding,
    defects that resizing erases, good images unlike the training images, too few of these, a limit from few images.
    Another encoder comes last, since nothing in the data says that it helps, and only where labels say that the result
    is bad.
    """
    makers = (_weights, _window, _small, _unlike, _few, _limit, _encoder)
    return [cause for make in makers for cause in make(evidence)]


def _weights(evidence: Sequence[Evidence]) -> Iterator[Cause]:
    random = [each for each in evidence if each.conditions.weights == "random"]
    if random:
        yield Cause(
            f"The weights of {random[0].conditions.encoder} are random: use pretrained ones.", "encoder.weights"
        )


def _window(evidence: Sequence[Evidence]) -> Iterator[Cause]:
    worst = min(evidence, key=lambda each: each.filled)
    if worst.filled < FILLED:
        height, width = worst.size
        shown = " x ".join(str(max(1, round(side * worst.shrunk))) for side in (width, height))
        yield Cause(
            f"The window of {worst.conditions.window} pixels is too large for the images of {worst.category} "
            f"({width} x {height}): they fill {100 * worst.filled:.0f} % of it and reach the encoder as {shown} "
            f"pixels. Use {min(height, width)} or less, or image.",
            "tiling.window",
        )


def _small(evidence: Sequence[Evidence]) -> Iterator[Cause]:
    with_defects = [each for each in evidence if len(each.areas)]
    if not with_defects:
        return
    worst = min(with_defects, key=_defect_side)
    side = _defect_side(worst)
    if side < SMALL_SIDE:
        yield Cause(
            f"Half of the defects of {worst.category} reach the encoder with at most {side:.1f} x {side:.1f} pixels. "
            f"Use a smaller window, such as {_smaller_window(worst)}.",
            "tiling.window",
        )


def _defect_side(each: Evidence) -> float:
    """Side of the median defect in pixels of the encoder's input, for a window that is no larger than the images."""
    excess = max(1.0, each.conditions.window / min(each.size)) if isinstance(each.conditions.window, int) else 1.0
    return float(np.median(np.sqrt(each.areas))) * each.shrunk * excess


def _smaller_window(each: Evidence) -> int:
    """The window that shows the median defect at SMALL_SIDE, at least a tenth of the input's side."""
    side = float(np.median(np.sqrt(each.areas)))
    return max(each.conditions.input_size // 10, int(side * each.conditions.input_size / SMALL_SIDE))


def _unlike(evidence: Sequence[Evidence]) -> Iterator[Cause]:
    worst = max(evidence, key=lambda each: each.flagged / max(1, each.good))
    if worst.flagged > worst.good / 2:
        yield Cause(
            f"{worst.flagged} of the {worst.good} good images of {worst.category} score above the limit: they differ "
            f"from the training images, in light, position or product. Add images like them to the training images.",
            "train/",
        )


def _few(evidence: Sequence[Evidence]) -> Iterator[Cause]:
    learning = [(each.conditions.training, each.category) for each in evidence if each.conditions.training is not None]
    fewest = min(learning, default=None)
    if fewest and fewest[0] < FEW_TRAINING_IMAGES:
        yield Cause(
            f"{fewest[1]} has {fewest[0]} training images: add good images, {FEW_TRAINING_IMAGES} at least.", "train/"
        )


def _limit(evidence: Sequence[Evidence]) -> Iterator[Cause]:
    few = [each for each in evidence if 0 < each.held_out < FEW_HELD_OUT]
    worst = max(few, key=lambda each: each.missed / max(1, each.defective), default=None)
    if worst and worst.missed > worst.defective / 2:
        yield Cause(
            f"{worst.missed} of the {worst.defective} defective images of {worst.category} score below the limit, "
            f"which comes from {worst.held_out} good images: a single unusual one can set it. Give more training "
            f"images; a tenth of them is held out.",
            "train/",
        )


def _encoder(evidence: Sequence[Evidence]) -> Iterator[Cause]:
    conditions = evidence[0].conditions
    if conditions.weights != "random" and any(each.good or each.defective for each in evidence):
        yield Cause(
            f"{conditions.encoder} may not see these defects: try another encoder, or a larger encoder.input_size.",
            "encoder.name",
        )
