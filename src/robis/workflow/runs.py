"""The runs of detectors that a config asks for, and the settings that hold for each.

A detector usually runs once, under its own name. Where an option lists several values (WinCLIP's shots and seeds),
each combination is a run with a name of its own: winclip_2shot_seed0.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from robis.config.settings import Settings
from robis.detectors.registry import DETECTORS

# Whose published values `auto` stands for where no detector is meant: RoBiS's.
BASE = "inp_former"


@dataclass(frozen=True)
class Variant:
    """One run of a detector: `values` (dotted key -> value) is what sets it apart."""

    detector: str
    values: Mapping[str, Any] = field(default_factory=dict)


def variants(settings: Settings) -> dict[str, Variant]:
    """The config's runs by their names, which are those of the folders in the results."""
    found: dict[str, Variant] = {}
    for detector in settings.detectors:
        if detector == "winclip":
            found |= _of_winclip(settings)
        else:
            found[detector] = Variant(detector)
    return found


def _of_winclip(settings: Settings) -> dict[str, Variant]:
    named = {}
    for shots in _as_list(settings.winclip.shots):
        # Nothing is drawn for zero shots, so that one run serves all seeds.
        for seed in _as_list(settings.winclip.seeds) if shots else [0]:
            name = f"winclip_{shots}shot_seed{seed}" if shots else "winclip_0shot"
            named[name] = Variant("winclip", {"winclip.shots": shots, "winclip.seeds": seed})
    return named if len(named) > 1 else {"winclip": next(iter(named.values()))}


def effective(
    settings: Settings, *, detector: str | None = None, category: str | None = None, split: str | None = None
) -> Settings:
    """The settings that hold for a job: overrides applied in order, `auto` replaced by the published values.

    Args:
        settings: the whole config.
        detector: a run's name or a detector's; None for the stages that all detectors share.
        category, split: None for a job of all of them.
    """
    variant = variants(settings).get(detector or "", Variant(detector or BASE))
    chosen: dict[str, set[str]] = {"detector": {detector, variant.detector}} if detector else {}
    for kind, name in (("category", category), ("split", split)):
        if name is not None:
            chosen[kind] = {name}
    found = settings.overridden(**chosen).with_values(variant.values)
    published = DETECTORS[variant.detector].published
    return found.with_values({key: value for key, value in published.items() if found.get(key) == "auto"})


def trains(settings: Settings, run: str) -> bool:
    """Whether a run learns from normal images, as far as the config says so without overrides by category."""
    variant = variants(settings)[run]
    found = effective(settings, detector=run)
    if variant.detector == "winclip":
        return found.winclip.shots != 0
    if variant.detector == "inp_former":
        return found.inp_former.weights is None
    return "train" in DETECTORS[variant.detector].stages


def needed_splits(settings: Settings) -> list[str]:
    """Splits in which every category must have images: those to inspect, and `train` where a run learns from it."""
    learns = any(trains(settings, run) for run in variants(settings))
    return [*settings.dataset.splits, *(["train"] if learns else [])]


def _as_list(value: int | list[int]) -> list[int]:
    return list(dict.fromkeys(value)) if isinstance(value, list) else [value]
