"""Settings that are allowed but do not fit the images, each with the key and a value to try."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from itertools import groupby
from typing import TYPE_CHECKING, Any

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


@dataclass(frozen=True)
class Rule:
    """What can be wrong, and the text that says so of a category, with fields in braces."""

    kind: Kind
    text: str


def _small_defects(length: str, why: str) -> Rule:
    kind = Kind(f"category has defects smaller than {length}", f"categories have defects smaller than {length}", why)
    text = f"{{below}} of {{defects}} defects are smaller than {length} ({{side}} px). Try {{key}}: {{value}}"
    return Rule(kind, text)


_TILES = "tiles of {tile} px from images of {width} x {height}"
# The names are what the report watches: a text may change, a name may not.
RULES = {
    "padded": Rule(
        Kind(
            "category has tiles that are mostly padding",
            "categories have tiles that are mostly padding",
            "The encoder sees a small image on a black canvas",
        ),
        f"{{percent}} % of the pixels of {_TILES}. Try {{key}}: {{value}}",
    ),
    "reduced": Rule(
        Kind(
            "category has tiles that are reduced a lot",
            "categories have tiles that are reduced a lot",
            "Small defects vanish before the encoder sees them",
        ),
        f"{_TILES} become {{input_size}} px. Try {{key}}: {{value}}",
    ),
    "narrowed": Rule(
        Kind(
            "category has windows as small as one small image",
            "categories have windows as small as one small image",
            "tiling.window: auto takes the shortest side of all images",
        ),
        "windows of {shortest} px, though nearly all images have sides of {value} px or more. Take the small images "
        "out, or try {key}: {value}",
    ),
    "few": Rule(
        Kind(
            "category has few training images",
            "categories have few training images",
            f"With fewer than {FEW_IMAGES}, normal variation looks like a defect",
        ),
        "{images} in train. Add images of good parts, or try detectors: [{detector}], which needs none",
    ),
    "below_token": _small_defects("half a token", "The detector compares tokens; what is smaller may not show"),
    "below_erosion": _small_defects("the erosion block", "Erosion removes them from the masks"),
    "below_pixel": _small_defects("a mask pixel", "Masks are too small to show them"),
}


@dataclass(frozen=True)
class Advice(Problem):
    """A setting that does not fit. `facts`: what the text says, apart from its words; a name of RULES comes first."""

    facts: tuple[Any, ...] = ()


def _advice(rule: str, where: str, **values: Any) -> Advice:
    """Advice of a rule for a category, or some runs of it, with the values of its text's fields."""
    text = f"{where}: {RULES[rule].text.format(**values)}"
    return Advice(RULES[rule].kind, text, facts=(rule, where, *sorted(values.items())))


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


def advice_texts(advised: Iterable[Advice]) -> list[str]:
    """`advice` for a log or a page: one text per kind of problem."""
    problems = sorted(advised, key=lambda problem: problem.kind.singular)
    return [grouped(of_kind) for _, of_kind in groupby(problems, key=lambda problem: problem.kind)]


def advice(project: Project) -> list[Advice]:
    """Everything that does not fit, by category."""
    advised = [problem for category in project.categories for problem in _few_images(project, category)]
    for row in method_rows(project):
        advised += _misfits(row, project.images.sizes(row.category), project.settings)
    return advised


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


def _few_images(project: Project, category: str) -> Iterator[Advice]:
    runs = [(run, split) for run in project.detectors for split in project.splits]
    if any(project.trains(detector=run, category=category, split=split) for run, split in runs):
        images = len(project.images.samples(category, "train"))
        if images < FEW_IMAGES:
            yield _advice("few", category, images=images, detector=without_training())


def _misfits(row: MethodRow, sizes: Sequence[Size], given: SharedSettings) -> Iterator[Advice]:
    scales, where = row.scales, f"{row.category} ({', '.join(row.runs)})"
    height, width = scales.image
    tiles = {"tile": scales.tile, "width": width, "height": height}
    if scales.padding > MUCH_PADDING:
        yield _advice("padded", where, percent=round(100 * scales.padding), **tiles, **_less_padding(row, sizes))
    if scales.tile > MOST_REDUCED * scales.input_size:
        input_size = scales.input_size
        yield _advice("reduced", where, input_size=input_size, **tiles, **_window(row, 2 * input_size))
    shortest, usual = min(min(size) for size in sizes), side_to_fit(sizes)
    if row.settings.tiling.window == shortest != usual and given.tiling.window == "auto":
        yield _advice("narrowed", where, shortest=shortest, **_remedy("tiling.window", usual))
    for rule, side, remedy in (
        ("below_token", scales.token and TOKEN_SHARE * scales.token, _smaller_window),
        ("below_erosion", scales.erosion, _smaller_block),
        ("below_pixel", scales.mask_pixel, _larger_masks),
    ):
        below, defects = row.below(side), len(row.widths)
        if below > SMALL_DEFECTS * defects and (value := remedy(row, _small_defect(row.widths))):
            yield _advice(rule, where, below=below, defects=defects, side=f"{side:.3g}", **value)


# The key to change and its value.
Remedy = dict[str, Any]


def _remedy(key: str, value: Any) -> Remedy:
    return {"key": key, "value": value}


def _window(row: MethodRow, side: int) -> Remedy:
    """What gives a tile this side in image pixels."""
    if row.settings.tiling.window == "joined":
        return _remedy("tiling.image_scale", round(row.scales.input_size / side, 2))
    return _remedy("tiling.window", side)


def _less_padding(row: MethodRow, sizes: Sequence[Size]) -> Remedy:
    shortest = min(min(size) for size in sizes)
    return _remedy("tiling.edge", "shift") if row.scales.tile <= shortest else _remedy("tiling.window", shortest)


def _small_defect(widths: Sequence[int]) -> int:
    """The width that only the tolerated share of the defects falls short of."""
    return widths[int(SMALL_DEFECTS * len(widths))]


def _smaller_window(row: MethodRow, width: int) -> Remedy | None:
    token = TOKEN_SHARE * (row.scales.token or width)
    window = int(max(least_window(max(row.scales.image), row.scales.input_size), row.scales.tile * width / token))
    return _window(row, window) if window < row.scales.tile else None


def _smaller_block(row: MethodRow, width: int) -> Remedy:
    return _remedy("binarize.erosion_size", max(1, int(width * row.settings.merge.scale)))


def _larger_masks(row: MethodRow, width: int) -> Remedy:
    return _remedy("merge.scale", next(scale for scale in (0.5, 1.0) if 1 / scale <= width))
