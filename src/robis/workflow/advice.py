"""Settings that are allowed but do not fit the images, each with the key and a value to try."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from itertools import groupby
from typing import TYPE_CHECKING

from robis.config.settings import SharedSettings
from robis.datasets.problems import Kind, Problem, grouped
from robis.workflow.choosing import (
    MOST_REDUCED,
    SMALL_DEFECTS,
    TOKEN_SHARE,
    least_window,
    side_to_fit,
    without_training,
)
from robis.workflow.scales import Scales, Size, scales_of

if TYPE_CHECKING:
    from robis.workflow.project import Project

# Below this number of training images, what is normal is known too little.
FEW_IMAGES = 20
# Above this share of padding, most of what the encoder sees of a tile is black.
MUCH_PADDING = 0.5

PADDED = Kind(
    "category has tiles that are mostly padding",
    "categories have tiles that are mostly padding",
    "The encoder sees a small image on a black canvas",
)
REDUCED = Kind(
    "category has tiles that are reduced a lot",
    "categories have tiles that are reduced a lot",
    "Small defects vanish before the encoder sees them",
)
NARROWED = Kind(
    "category has windows as small as one small image",
    "categories have windows as small as one small image",
    "tiling.window: auto takes the shortest side of all images",
)
FEW = Kind(
    "category has few training images",
    "categories have few training images",
    f"With fewer than {FEW_IMAGES}, normal variation looks like a defect",
)
BELOW_TOKEN = Kind(
    "category has defects smaller than half a token",
    "categories have defects smaller than half a token",
    "The detector compares tokens; what is smaller may not show",
)
BELOW_EROSION = Kind(
    "category has defects smaller than the erosion block",
    "categories have defects smaller than the erosion block",
    "Erosion removes them from the masks",
)
BELOW_PIXEL = Kind(
    "category has defects smaller than a mask pixel",
    "categories have defects smaller than a mask pixel",
    "Masks are too small to show them",
)


@dataclass(frozen=True)
class MethodRow:
    """What the settings of some runs mean for a category.

    Attributes:
        category: the product.
        runs: the runs that have these units.
        scales: the units in image pixels.
        widths: widths of the defects in the masks, ascending; see `robis.datasets.defects`.
        settings: those of the runs.
    """

    category: str
    runs: tuple[str, ...]
    scales: Scales
    widths: Sequence[int]
    settings: SharedSettings

    def below(self, side: float | None) -> int:
        """Number of defects into which no square of this side fits."""
        return 0 if side is None else sum(width < side for width in self.widths)


def advice_texts(project: Project) -> list[str]:
    """`advice` for a log or a page: one text per kind of problem."""
    problems = sorted(advice(project), key=lambda problem: problem.kind.singular)
    return [grouped(of_kind) for _, of_kind in groupby(problems, key=lambda problem: problem.kind)]


def advice(project: Project) -> list[Problem]:
    """Everything that does not fit, by category."""
    problems = [Problem(FEW, text) for category in project.categories if (text := _few_images(project, category))]
    for row in method_rows(project):
        whole = project.images.sizes(row.category)
        where = f"{row.category} ({', '.join(row.runs)})"
        problems += [Problem(kind, f"{where}: {text}") for kind, text in _misfits(row, whole, project.settings)]
    return problems


def method_rows(project: Project) -> list[MethodRow]:
    """The units of every category that has images, one row for the runs that share them."""
    return [row for category in project.categories for row in _rows_of(project, category)]


def _rows_of(project: Project, category: str) -> Iterator[MethodRow]:
    sizes = project.images.sizes(category)
    if not sizes:
        return
    runs: dict[Scales, list[tuple[str, SharedSettings]]] = {}
    for run in project.detectors:
        settings = project.effective(detector=run, category=category, split=project.splits[0])
        runs.setdefault(scales_of(settings, sizes), []).append((run, settings))
    widths = project.images.defect_widths(category)
    for scales, of_runs in runs.items():
        yield MethodRow(category, tuple(run for run, _ in of_runs), scales, widths, of_runs[0][1])


def _few_images(project: Project, category: str) -> str | None:
    runs = [(run, split) for run in project.detectors for split in project.splits]
    learns = any(project.trains(detector=run, category=category, split=split) for run, split in runs)
    images = len(project.images.samples(category, "train")) if learns else FEW_IMAGES
    if images >= FEW_IMAGES:
        return None
    remedy = f"Add images of good parts, or try detectors: [{without_training()}], which needs none"
    return f"{category}: {images} in train. {remedy}"


def _misfits(row: MethodRow, sizes: Sequence[Size], given: SharedSettings) -> Iterator[tuple[Kind, str]]:
    scales = row.scales
    height, width = scales.image
    tiles = f"tiles of {scales.tile} px from images of {width} x {height}"
    if scales.padding > MUCH_PADDING:
        yield PADDED, f"{100 * scales.padding:.0f} % of the pixels of {tiles}. Try {_less_padding(row, sizes)}"
    if scales.tile > MOST_REDUCED * scales.input_size:
        yield REDUCED, f"{tiles} become {scales.input_size} px. Try tiling.window: {2 * scales.input_size}"
    if text := _narrowed(row, sizes, given):
        yield NARROWED, text
    for kind, side, name, remedy in (
        (BELOW_TOKEN, scales.token and TOKEN_SHARE * scales.token, "half a token", _smaller_window),
        (BELOW_EROSION, scales.erosion, "the erosion block", _smaller_block),
        (BELOW_PIXEL, scales.mask_pixel, "a mask pixel", _larger_masks),
    ):
        if row.below(side) > SMALL_DEFECTS * len(row.widths) and (value := remedy(row, _small_defect(row.widths))):
            number = f"{row.below(side)} of {len(row.widths)} defects"
            yield kind, f"{number} are smaller than {name} ({side:.3g} px). Try {value}"


def _less_padding(row: MethodRow, sizes: Sequence[Size]) -> str:
    shortest = min(min(size) for size in sizes)
    return "tiling.edge: shift" if row.scales.tile <= shortest else f"tiling.window: {shortest}"


def _narrowed(row: MethodRow, sizes: Sequence[Size], given: SharedSettings) -> str | None:
    shortest, usual = min(min(size) for size in sizes), side_to_fit(sizes)
    if row.settings.tiling.window != shortest or shortest == usual or given.tiling.window != "auto":
        return None
    return (
        f"windows of {shortest} px, though nearly all images have sides of {usual} px or more. Take the small images "
        f"out, or try tiling.window: {usual}"
    )


def _small_defect(widths: Sequence[int]) -> int:
    """The width that only the tolerated share of the defects falls short of."""
    return widths[int(SMALL_DEFECTS * len(widths))]


Remedy = Callable[[MethodRow, int], str | None]


def _smaller_window(row: MethodRow, width: int) -> str | None:
    token = TOKEN_SHARE * (row.scales.token or width)
    window = int(max(least_window(max(row.scales.image), row.scales.input_size), row.scales.tile * width / token))
    return f"tiling.window: {window}" if window < row.scales.tile else None


def _smaller_block(row: MethodRow, width: int) -> str | None:
    return f"binarize.erosion_size: {max(1, int(width * row.settings.merge.scale))}"


def _larger_masks(row: MethodRow, width: int) -> str | None:
    scale = next(scale for scale in (0.5, 1.0) if 1 / scale <= width)
    return f"merge.scale: {scale}"
