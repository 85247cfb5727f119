"""How many tiles a config makes of an image, and the disk that they take."""

from __future__ import annotations

from collections.abc import Callable
from functools import cache, partial

from robis.config.settings import SharedSettings
from robis.encoders.names import own_input_size
from robis.tiles.windows import windows
from robis.workflow import runs

# Window, overlap, edge, filter, and side of a stored tile; 0 for images as they are.
Tiling = tuple[int | str, float, str, str, int]


def tile_counter(
    settings: SharedSettings, effective: Callable[..., SharedSettings] | None = None
) -> Callable[[str, str, int, int], tuple[int, int]]:
    """A function of category, split, height and width that gives an image's tiles and their bytes on disk.

    Detectors whose windows, sizes or filters differ have tiles of their own; these add up.

    Args:
        settings: the config.
        effective: gives the settings of a job, as `Project.effective`; None where there are no images to look at.
    """
    of_job = effective or partial(runs.effective, settings)

    @cache
    def tilings(category: str, split: str) -> frozenset[Tiling]:
        distinct: set[Tiling] = set()
        for run in runs.runs_of(settings):
            of_run = of_job(detector=run, category=category, split=split)
            size = of_run.encoder.input_size or own_input_size(of_run.encoder.name)
            tiling = of_run.tiling
            if tiling.window == "joined":
                distinct.add(("joined", 0.0, "", "", 0))
                continue
            # A window as large as the image has neither neighbors nor borders to cross.
            between = (0.0, "") if tiling.window == "image" else (tiling.overlap, tiling.edge)
            distinct.add((tiling.window, *between, tiling.resample, size))
        return frozenset(distinct)

    def count(category: str, split: str, height: int, width: int) -> tuple[int, int]:
        numbers = [
            (len(windows(height, width, window, overlap, edge)), size**2 or height * width)
            for window, overlap, edge, _, size in tilings(category, split)
        ]
        return sum(number for number, _ in numbers), sum(number * pixels * 3 for number, pixels in numbers)

    return count
