"""Few-shot runs: numbers of reference images, seeds of their choice, and the choice itself. Quick to import."""

from __future__ import annotations

from collections.abc import Sequence
from difflib import get_close_matches
from pathlib import Path
from typing import Annotated, Any

import numpy as np
from pydantic import AfterValidator, Field

from robis.config.settings import SharedSettings
from robis.config.stage import Derived, Job
from robis.config.types import Seed, Text, at_most
from robis.detectors.base import Plan
from robis.errors import ConfigError, DataError, one_of
from robis.io.names import composed

Shot = Annotated[int, at_most(100_000, "Few-shot detection takes a few images.", least=0)]
Shots = Shot | Annotated[list[Shot], Field(min_length=1)]
Seeds = Annotated[
    Seed | Annotated[list[Seed], Field(min_length=1)],
    Field(
        description="Seed of the random choice of references; a list makes one run per seed, such as [0, 1, 2].",
    ),
]
References = Annotated[
    list[Annotated[Text, AfterValidator(composed)]],
    Field(
        description="Reference sample ids; the first `shots` are used. Drawn at random from the training images if "
        "empty.",
    ),
]


def shot_runs(section: str, settings: SharedSettings, *, without: str) -> dict[str, dict[str, Any]]:
    """The runs that lists of shots and seeds make: name -> dotted key -> value.

    Args:
        section: of the detector.
        settings: the config.
        without: ends the name of the run for 0 shots where there are several runs.
    """
    named = {}
    for shots in _as_list(settings.get(f"{section}.shots")):
        # Nothing is drawn for zero shots, so one run serves all seeds.
        for seed in _as_list(settings.get(f"{section}.seeds")) if shots else [0]:
            name = f"{section}_{shots}shot_seed{seed}" if shots else f"{section}_{without}"
            named[name] = {f"{section}.shots": shots, f"{section}.seeds": seed}
    return named if len(named) > 1 else {section: next(iter(named.values()))}


def reference_options(section: str, job: Job) -> Derived:
    """The options `shots` and `reference_seed` of a run's train stage."""
    values = {"shots": job.settings.get(f"{section}.shots"), "reference_seed": job.settings.get(f"{section}.seeds")}
    return Derived(values)


def check_shots(section: str, plan: Plan) -> None:
    """Raise ConfigError for more shots than images, or a reference that is no training image."""
    shots, references = plan.settings.get(f"{section}.shots"), plan.settings.get(f"{section}.references")
    if not shots:
        return
    known = plan.sample_ids("train")
    if isinstance(shots, int) and shots > len(references or known):
        raise ConfigError(
            f"{section}.shots: found {shots}; {plan.category} has {len(references or known)} "
            f"{'listed references' if references else 'training images'}. Set a smaller number."
        )
    for name in references:
        if name not in known:
            near = one_of(name, known[:20])
            raise ConfigError(f"{section}.references: {plan.category} has no training image {name!r}. {near}")


def choose_references(section: str, options: Any, names: Sequence[str], *, source: Path) -> list[str]:
    """The sample ids of the reference images.

    Args:
        section: of the detector, for messages.
        options: `shots`, `reference_seed` and `references` by name.
        names: of the training images, sorted.
        source: their table, for messages.

    Raises:
        ConfigError: a reference that is no training image, or fewer references than shots.
        DataError: fewer training images than shots.
    """
    shots, references = options["shots"], options.get("references")
    if references:
        return _listed(section, references, names, shots)
    return draw(section, names, shots, options["reference_seed"], source=source)


def draw(section: str, names: Sequence[str], shots: int, seed: int, *, source: Path) -> list[str]:
    """The first `shots` of a random order of the names, which depends on the seed and the names alone."""
    if shots > len(names):
        raise DataError(
            f"{section}.shots: found {shots}, but {source} has {len(names)} training images. "
            f"Lower {section}.shots, or add normal images."
        )
    order = np.random.default_rng(seed).permutation(len(names))
    return [names[number] for number in order[:shots]]


def _listed(section: str, references: Sequence[str], names: Sequence[str], shots: int) -> list[str]:
    for reference in references:
        if reference not in names:
            nearest = _nearest(reference, names)
            raise ConfigError(f"{section}.references: {reference!r} is no training image. {nearest}")
    chosen = list(dict.fromkeys(references))[:shots]
    if len(chosen) < shots:
        raise ConfigError(
            f"{section}.references: found {len(chosen)} different images; expected at least {shots}, which is "
            f"{section}.shots. List more, or lower {section}.shots."
        )
    return chosen


def _nearest(reference: str, names: Sequence[str]) -> str:
    near = get_close_matches(reference, names, n=3, cutoff=0.0)
    return f"The nearest of {len(names)}: {', '.join(near)}."


def _as_list(value: int | list[int]) -> list[int]:
    return list(dict.fromkeys(value)) if isinstance(value, list) else [value]
