"""The runs of detectors that a config asks for, and the settings that hold for each.

A detector usually runs once, under its own name. Where an option lists several values (such as WinCLIP's shots and
seeds), each combination is a run with a name of its own: winclip_2shot_seed0.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any

from robis.config.dataset import SMALLEST_WINDOW
from robis.config.settings import SharedSettings
from robis.detectors.base import Detector
from robis.detectors.registry import BASE, DETECTORS


@dataclass(frozen=True)
class Run:
    """One run of a detector: `values` (dotted key -> value) sets it apart from the detector's other runs."""

    detector: Detector
    values: Mapping[str, Any] = field(default_factory=dict)


def runs_of(settings: SharedSettings) -> dict[str, Run]:
    """The config's runs by their names, which are those of the folders in the results."""
    return {
        name: Run(detector, values)
        for detector in map(DETECTORS.__getitem__, settings.detectors)
        for name, values in detector.runs(settings).items()
    }


def run_of(settings: SharedSettings, name: str | None) -> Run:
    """A run by its name; a detector's name stands for the detector, None for the stages that all detectors share."""
    return runs_of(settings).get(name or "") or Run(DETECTORS[name] if name else BASE)


def effective(
    settings: SharedSettings,
    *,
    detector: str | None = None,
    category: str | None = None,
    split: str | None = None,
    shortest_side: Callable[[], int | None] | None = None,
) -> SharedSettings:
    """The settings that hold for a job: overrides applied in order, `auto` replaced by the published values.

    Args:
        settings: the whole config.
        detector: a run's name or a detector's; None for the stages that all detectors share.
        category, split: None for a job of all of them.
        shortest_side: gives the shortest side in pixels of the images that the job's tiles are cut from. A published
            window that is larger is lowered to it.
    """
    run = run_of(settings, detector)
    job: dict[str, set[str]] = {"detector": {detector, run.detector.name}} if detector else {}
    for kind, name in (("category", category), ("split", split)):
        if name is not None:
            job[kind] = {name}
    of_job = settings.overridden(**job).with_values(run.values)
    published = {key: value for key, value in run.detector.published.items() if of_job.get(key) == "auto"}
    window = published.get("tiling.window")
    if isinstance(window, int) and shortest_side and (side := shortest_side()):
        published["tiling.window"] = max(SMALLEST_WINDOW, min(window, side))
    if of_job.binarize.calibrate == "auto":
        published["binarize.calibrate"] = "validation" if of_job.binarize.method == "rate" else "split"
    return of_job.with_values(published)


def trains(settings: SharedSettings, run: str) -> bool:
    """Whether a run learns from normal images, as far as the config says so without overrides by category."""
    return run_of(settings, run).detector.trains(effective(settings, detector=run))


def needed_splits(settings: SharedSettings) -> list[str]:
    """Splits in which every category must have images: those to inspect, and `train` where a run learns from it."""
    learns = any(trains(settings, run) for run in runs_of(settings))
    return [*settings.dataset.splits, *(["train"] if learns else [])]
