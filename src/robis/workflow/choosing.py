"""Settings that suit a data set and a machine, and the time that they take: the rules of `robis init`.

docs/choosing.md explains them to users.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from statistics import median
from typing import Any

from robis.config.dataset import SMALLEST_WINDOW
from robis.detectors.base import Detector
from robis.detectors.registry import DETECTORS
from robis.detectors.suggestion import Machine, Work
from robis.encoders.names import own_input_size
from robis.encoders.steps import tokens_per_side
from robis.tiles.windows import origins

Size = tuple[int, int]

OVERLAP = 0.1
# Windows are one of these: categories of similar images then share their settings.
WINDOWS = (1024, 768, 512, 384, 256, 192, 128, 96, 64)
# The largest side of a mask that is kept at the image's size; masks of larger images are reduced.
LARGEST_MASK = 2048
SCALES = (1.0, 0.5, 0.25)
# Side of the erosion block as a share of an image's shorter side, and the published one in map pixels.
EROSION_SHARE, MOST_EROSION = 0.01, 6
# The share of defects that may be smaller than half a token, the erosion block or a mask pixel.
SMALL_DEFECTS = 0.1
# A defect of this share of a token changes it enough to show.
TOKEN_SHARE = 0.5
# With fewer training images, a tenth of them says too little about the range of normal maps.
LEAST_TO_HOLD_OUT = 10
# Windows along the longer side of an image, without their overlap.
MOST_ALONG = 10
# Share of images that may be much smaller than the others without setting the windows of all.
FEW_SMALL = 0.1
# A tile that is reduced by more loses details that are larger than a token.
MOST_REDUCED = 4
# Images of mixed sizes are taken whole if the tiles that fit into all would be enlarged, and be smaller than the usual
# image by this factor; but no images whose longer side is more than so many times the encoder's.
MUCH_SMALLER, MOST_REDUCED_MIXED = 1.5, 2
# Jobs of a category: two or three times index, crop, infer and merge, once the others.
JOBS = 16


@dataclass(frozen=True)
class Category:
    """What a category holds.

    Attributes:
        name: the product.
        train: sizes (height, width) of the images to learn from, validation images included.
        test: sizes of the images to inspect.
        widths: widths of the defects in the masks, ascending.
        has_validation: whether it has validation images.
    """

    name: str
    train: Sequence[Size]
    test: Sequence[Size]
    widths: Sequence[int] = ()
    has_validation: bool = False

    @property
    def sizes(self) -> list[Size]:
        """Sizes of all images."""
        return [*self.train, *self.test]

    @property
    def shortest_side(self) -> int:
        """The shortest side of all images, in pixels."""
        return min(min(size) for size in self.sizes)

    @property
    def usual_side(self) -> float:
        """The median of the images' shorter sides, in pixels."""
        return median(min(size) for size in self.sizes)


# Measured on an AMD EPYC and an NVIDIA H200, as far as docs/choosing.md says; the others are estimates.
CPU = Machine(
    "two CPU cores",
    gpu=False,
    encoder="efficientnet_lite0",
    window=1.25,
    encode=0.03,
    step=0.25,
    pair=0.015,
    search=0.2,
    compare=0.03,
    megapixel=1.0,
    job=(4.0, 2),
)
GPU = Machine(
    "one GPU",
    gpu=True,
    encoder="dinov2_reg_vitb14",
    window=2,
    encode=0.006,
    step=0.014,
    pair=0.0001,
    search=0.01,
    compare=0.0005,
    megapixel=1.0,
    job=(10.0, 1),
)


@dataclass(frozen=True)
class Units:
    """Settings of a category: tiling.window, merge.scale and binarize.erosion_size."""

    window: int | str
    scale: float
    erosion: int


@dataclass(frozen=True)
class Chosen:
    """Settings of a data set.

    Attributes:
        detector: the detector to run.
        input_size: as encoder.input_size.
        calibrates: whether ranges and thresholds come from validation images.
        options: of the detector's section.
        units: by category.
        work: what each category gives the detector to do.
    """

    detector: Detector
    input_size: int
    calibrates: bool
    options: Mapping[str, Any]
    units: Mapping[str, Units]
    work: Mapping[str, Work]


def best_detector(machine: Machine, *, learns: bool) -> Detector:
    """The detector that suits best, the first where several do; see `robis.detectors.suggestion`."""
    return max(DETECTORS.values(), key=lambda detector: detector.suggestion.rank(machine, learns=learns))


def without_training() -> str:
    """The name of the detector to try where images to learn from are missing or few."""
    return best_detector(CPU, learns=False).name


def choose(categories: Sequence[Category], machine: Machine) -> Chosen:
    """Settings that suit the images of some categories and a machine."""
    learns = all(category.train for category in categories)
    detector = best_detector(machine, learns=learns)
    input_size = own_input_size(machine.encoder)
    tokens = (tokens_per_side(machine.encoder, input_size) or 1) ** 2
    whole = detector.published["tiling.window"] == "image"
    units = {category.name: choose_units(category, machine, whole=whole) for category in categories}
    work = {
        category.name: Work(count_tiles(category.train, units[category.name].window), len(category.test), tokens)
        for category in categories
    }
    return Chosen(
        detector=detector,
        input_size=input_size,
        calibrates=learns and all(_can_calibrate(category) for category in categories),
        options=detector.suggestion.options(list(work.values())),
        units=units,
        work=work,
    )


def choose_units(category: Category, machine: Machine, *, whole: bool = False) -> Units:
    """Window, scale and erosion for the images of a category; `whole`: whole images where they are not too large."""
    longest = median(max(size) for size in category.sizes)
    scale = next((scale for scale in SCALES if longest * scale <= LARGEST_MASK), SCALES[-1])
    erosion = min(MOST_EROSION, round(EROSION_SHARE * category.usual_side * scale))
    if category.widths:
        erosion = min(erosion, int(_small_defect(category) * scale))
    input_size = own_input_size(machine.encoder)
    fitting = side_to_fit(category.sizes)
    mixed = fitting < min(input_size, category.usual_side / MUCH_SMALLER)
    most_reduced = MOST_REDUCED if whole else MOST_REDUCED_MIXED if mixed else 0
    if longest <= most_reduced * input_size:
        return Units("image", scale, max(1, erosion))
    window = machine.window * input_size
    if category.widths:
        window = min(
            window, _small_defect(category) / TOKEN_SHARE * (tokens_per_side(machine.encoder, input_size) or 1)
        )
    window = max(window, least_window(longest, input_size))
    return Units(_step_down(window, fitting), scale, max(1, erosion))


def least_window(longest_side: float, input_size: int) -> float:
    """The smallest window for images of this longer side: smaller ones take too long, or are enlarged to blur."""
    return max(input_size, longest_side / MOST_ALONG)


def side_to_fit(sizes: Sequence[Size]) -> int:
    """The shortest side of some images, without a few that are much smaller than all others."""
    sides = sorted(min(size) for size in sizes)
    usual = sides[int(FEW_SMALL * len(sides))]
    return usual if 2 * sides[0] < usual else sides[0]


def _small_defect(category: Category) -> int:
    return category.widths[int(SMALL_DEFECTS * len(category.widths))]


def _step_down(window: float, side: int) -> int:
    """The largest of the usual windows that is not larger; the side of the images where they are smaller."""
    if window >= side:
        return max(SMALLEST_WINDOW, side)
    return next((size for size in WINDOWS if size <= window), WINDOWS[-1])


def _can_calibrate(category: Category) -> bool:
    return category.has_validation or len(category.train) >= LEAST_TO_HOLD_OUT


def count_tiles(sizes: Sequence[Size], window: int | str) -> int:
    """Tiles of some images."""
    if window == "image":
        return len(sizes)
    return sum(_along(height, int(window)) * _along(width, int(window)) for height, width in sizes)


def _along(length: int, window: int) -> int:
    return len(origins(length, window, OVERLAP, "shift"))


def expected_seconds(categories: Sequence[Category], settings: Chosen, machine: Machine) -> float:
    """The time of a whole run, from the rates of `Machine`; docs/choosing.md has the formula."""
    suggestion = settings.detector.suggestion
    total = 0.0
    for category in categories:
        work = settings.work[category.name]
        test = count_tiles(category.test, settings.units[category.name].window)
        held_out = work.train_tiles / 10 if settings.calibrates else 0
        total += suggestion.train_seconds(work, settings.options, machine)
        total += (test + held_out) * suggestion.tile_seconds(work, machine)
        total += machine.megapixel * sum(height * width for height, width in category.test) / 1e6
        seconds, together = machine.job
        total += seconds * JOBS / together
    return total
