"""What a token, the erosion block and a mask pixel of a run are in pixels of its images."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from robis.config.settings import SharedSettings
from robis.config.stage import NUMBER, When
from robis.encoders.names import own_input_size
from robis.encoders.steps import tokens_per_side
from robis.tiles.windows import origins

Size = tuple[int, int]
ERODES = When("binarize.method", ("mebin", "mean_std", "robis", "rate", "lines"))
WINDOWS = When("tiling.window", (NUMBER,))


@dataclass(frozen=True)
class Scales:
    """The units of a run, in pixels of an image of middle size.

    Attributes:
        image: (height, width) of that image.
        tile: side of a tile; of whole images the longer one.
        input_size: side of the tile as the encoder sees it.
        token: side of what a token stands for; None where it is not known.
        erosion: side of the block that erodes masks; None where nothing erodes them.
        mask_pixel: side of a pixel of the mask.
        padding: share of the pixels of all tiles of the category that lie outside of the images.
    """

    image: Size
    tile: int
    input_size: int
    token: float | None
    erosion: float | None
    mask_pixel: float
    padding: float


def scales_of(settings: SharedSettings, sizes: Sequence[Size]) -> Scales:
    """The units of a run with these settings (overrides applied) for images of these sizes (height, width), any."""
    image = middle_size(sizes)
    input_size = settings.encoder.input_size or own_input_size(settings.encoder.name)
    tile = tile_side(settings) or max(image)
    tokens = tokens_per_side(settings.encoder.name, input_size, settings.encoder.blocks)
    scale, erosion = settings.merge.scale, settings.binarize.erosion_size
    erodes = ERODES.holds(settings.binarize.method) and erosion > 1
    return Scales(
        image=image,
        tile=tile,
        input_size=input_size,
        token=tile / tokens if tokens else None,
        erosion=erosion / scale if erodes else None,
        mask_pixel=1 / scale,
        padding=_padding(settings, sizes),
    )


def tile_side(settings: SharedSettings) -> int | None:
    """Side of a tile in image pixels; None for whole images."""
    window, encoder = settings.tiling.window, settings.encoder
    if window == "joined":
        return round((encoder.input_size or own_input_size(encoder.name)) / settings.tiling.image_scale)
    return int(window) if WINDOWS.holds(window) else None


def middle_size(sizes: Sequence[Size]) -> Size:
    """The size in the middle, in the order of their areas."""
    return sorted(sizes, key=lambda size: (size[0] * size[1], size))[len(sizes) // 2]


def _padding(settings: SharedSettings, sizes: Sequence[Size]) -> float:
    tiling = settings.tiling
    if not WINDOWS.holds(tiling.window):
        return 0.0
    side = int(tiling.window)
    inside = whole = 0
    for size in sizes:
        # Windows form a grid, so both numbers are products of those along the sides.
        starts = [origins(length, side, tiling.overlap, tiling.edge) for length in size]
        rows, columns = (
            sum(min(side, length - start) for start in firsts) for firsts, length in zip(starts, size, strict=True)
        )
        inside += rows * columns
        whole += len(starts[0]) * len(starts[1]) * side * side
    return 1 - inside / whole
