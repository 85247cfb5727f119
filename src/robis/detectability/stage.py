"""The stage: which size of defect the pack of a run finds, as tables, figures, examples and sentences."""

from __future__ import annotations

import logging
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd

from robis.detectability.examples import Example, example_of, write_strip
from robis.detectability.hit_miss import HitMiss
from robis.detectability.synthetic import PLURALS, free_area, read_crops
from robis.detectability.trials import CROP, Bench, Design, Inspect, Outcome, Trial, planned
from robis.detectability.verdict import Detectability, sentence
from robis.errors import DataError
from robis.io.atomic import atomic_folder
from robis.io.images import read_image
from robis.io.progress import tracked
from robis.io.samples import IndexedSample, read_samples
from robis.io.tables import write_csv, write_table
from robis.io.threads import threaded
from robis.packs.inspection import Inspection
from robis.packs.pack import Pack, load_pack
from robis.report import canvas
from robis.report.detectability import BANDS, CURVES, EXAMPLES, TRIALS, curve_name, sentences
from robis.report.pod import pod_figures

logger = logging.getLogger(__name__)

# Sizes that are tried where none are given: so many, and the largest as a multiple of the smallest and as a fraction
# of the smallest image's shorter side.
SIZES, RANGE, LARGEST_FRACTION = 8, 64.0, 0.4
SMALLEST = 2.0
# Sizes of a drawn curve.
DRAWN = 33


@dataclass(frozen=True)
class Options:
    """The section `detectability` of the config, whose descriptions say what each is."""

    kinds: Sequence[str]
    sizes: Sequence[float] | None
    contrasts: Sequence[int]
    defects_per_size: int
    pixel_size: float | None
    seed: int


@dataclass(frozen=True, eq=False)
class _Tried:
    """A held-out image: its inspection, and what became of its trials."""

    sample: IndexedSample
    clean: Inspection
    rows: list[dict[str, Any]]
    examples: list[Example]


def measure_detectability(
    folder: Path,
    pack: Path,
    samples: Path,
    options: Options,
    *,
    root: Path,
    crops: Sequence[Path] = (),
    threads: int = 1,
) -> None:
    """Put synthetic defects on held-out good images, inspect them, and say which sizes are found.

    Args:
        folder: what is written: TRIALS (a row per defect), CURVES (a row per kind and contrast, with a sentence; also
            as CSV), BANDS (points of the curves), and per curve NAME.svg and an EXAMPLES file.
        pack: folder of the run's pack.
        samples: sample table of the held-out good images.
        options: which defects.
        root: folder that the sample table's paths are relative to.
        crops: PNG files of the user's own defects.
        threads: images inspected at the same time; results do not depend on it.

    Raises:
        DataError: a file is damaged, there are no images, or a defect is larger than an image.
    """
    images = read_samples(samples)
    if not images:
        raise DataError(f"{samples}: no images; expected at least one normal image to put defects on.")
    loaded = load_pack(pack, threads=threads)
    bench = Bench(_design(options, loaded, images, crops), _inspecting(loaded), read_crops(crops))
    tried = list(_try_all(bench, images, root, loaded.bit_depth, threads))
    with atomic_folder(folder) as partial:
        _write_tables(partial, tried, options.pixel_size)
        for figure in pod_figures(partial):
            (partial / f"{figure.name}.svg").write_text(canvas.svg(figure), encoding="utf-8", newline="\n")
        _write_examples(partial, tried)
    for text in sentences(folder, loaded.manifest.category, loaded.manifest.run):
        logger.info("%s", text)


def _inspecting(pack: Pack) -> Inspect:
    # The images are those of the run, whatever their sizes.
    return lambda pixels, name: pack.inspect(pixels, any_size=True, name=name)


def _design(options: Options, pack: Pack, images: Sequence[IndexedSample], crops: Sequence[Path]) -> Design:
    return Design(
        kinds=[*options.kinds, *([CROP] if crops else [])],
        sizes=options.sizes or default_sizes(pack, images),
        contrasts=options.contrasts,
        defects_per_size=options.defects_per_size,
        seed=options.seed,
        category=pack.manifest.category,
    )


def _write_tables(folder: Path, tried: Sequence[_Tried], pixel_size: float | None) -> None:
    trials = pd.DataFrame([row for image in tried for row in image.rows])
    trials = trials.sort_values("place").drop(columns="place").reset_index(drop=True)
    curves, bands = _curves(trials, tried, pixel_size)
    write_table(folder / TRIALS, trials)
    write_table(folder / CURVES, curves)
    write_csv((folder / CURVES).with_suffix(".csv"), curves)
    write_table(folder / BANDS, bands)


def default_sizes(pack: Pack, images: Sequence[IndexedSample]) -> list[float]:
    """Sizes from what is surely missed to what should be found, in pixels, with equal ratios.

    The smallest is half a pixel of the map, or half a pixel that the encoder sees, whichever is larger.
    """
    settings, shortest = pack.manifest.settings, min(min(image.height, image.width) for image in images)
    side = settings.crop.window if isinstance(settings.crop.window, int) else shortest
    shrinking = side / settings.crop.size if settings.crop.size else 1.0
    smallest = max(SMALLEST, 0.5 / settings.merge.scale, 0.5 * shrinking)
    largest = max(min(RANGE * smallest, LARGEST_FRACTION * shortest), 2 * smallest)
    return [round(float(size), 1) for size in np.geomspace(smallest, largest, SIZES)]


def _try_all(
    bench: Bench, images: Sequence[IndexedSample], root: Path, bit_depth: int | None, threads: int
) -> Iterator[_Tried]:
    trials = planned(bench.design, len(images))
    by_image: dict[int, list[tuple[int, Trial]]] = {}
    for place, trial in enumerate(trials):
        by_image.setdefault(trial.image, []).append((place, trial))

    def work(number: int) -> _Tried:
        sample, (places, of_image) = images[number], zip(*by_image[number], strict=True)
        pixels, name = read_image(root / sample.image, bit_depth=bit_depth), str(root / sample.image)
        clean = bench.inspect(pixels, name)
        allowed = free_area(pixels.shape[0], pixels.shape[1], sample.ignored_pixels)
        rows, examples = [], []
        for place, outcome in zip(places, bench.outcomes(pixels, name, clean, of_image, allowed), strict=True):
            rows.append({"place": place, **_row(sample, outcome)})
            if outcome.trial.number == 0:
                examples.append(example_of(outcome))
        return _Tried(sample, clean, rows, examples)

    yield from tracked(threaded(work, sorted(by_image), threads), len(by_image), "images")


def _row(sample: IndexedSample, outcome: Outcome) -> dict[str, Any]:
    trial, placed, inspection = outcome.trial, outcome.placed, outcome.inspection
    return {
        "kind": trial.kind,
        "contrast": np.nan if trial.contrast is None else float(trial.contrast),
        "size": float(trial.size),
        "number": trial.number,
        "sample_id": sample.sample_id,
        "x": placed.x,
        "y": placed.y,
        "change": placed.change,
        "hit": outcome.is_hit,
        "score": inspection.score,
        "is_anomalous": inspection.is_anomalous,
        "peak": outcome.peak,
        "clean_peak": outcome.clean_peak,
    }


def _curves(
    trials: pd.DataFrame, tried: Sequence[_Tried], pixel_size: float | None
) -> tuple[pd.DataFrame, pd.DataFrame]:
    """The tables CURVES and BANDS."""
    false_calls = {
        "good_images": len(tried),
        "good_images_with_mask": sum(bool(image.clean.mask.any()) for image in tried),
        "good_images_judged_anomalous": sum(image.clean.is_anomalous for image in tried),
    }
    several = trials["contrast"].nunique() > 1
    curves, bands = [], []
    for _, part in trials.groupby(["kind", "contrast"], sort=False, dropna=False):
        kind, contrast = str(part["kind"].iloc[0]), float(part["contrast"].iloc[0])
        result = Detectability.of(HitMiss.of(part["size"].to_numpy(), part["hit"].to_numpy()))
        what = PLURALS[kind] + (f" (contrast {contrast:g})" if several and np.isfinite(contrast) else "")
        numbers = {name: getattr(result, name) or np.nan for name in ("a50", "a90", "a90_95")}
        counts = {"trials": len(part), "hits": int(part["hit"].sum()), "method": result.method}
        key = {"kind": kind, "contrast": contrast}
        curves.append({**key, **counts, **numbers, **false_calls, "sentence": sentence(result, what, pixel_size)})
        bands += [{**key, **point} for point in _band(result)]
    # Columns keep their types where no curve can be fitted.
    types = {"kind": "str"} | dict.fromkeys(("contrast", "size", "pod", "lower", "upper"), "float64")
    return pd.DataFrame(curves), pd.DataFrame(bands, columns=list(types)).astype(types)


def _band(result: Detectability) -> Iterator[Mapping[str, float]]:
    """Points of a fitted curve with the bounds of each."""
    if result.curve is None:
        return
    for size in np.geomspace(result.data.sizes[0], result.data.sizes[-1], DRAWN).tolist():
        lower, upper = result.curve.pod_bounds(size)
        yield {"size": size, "pod": float(result.curve.pod(np.array(size))), "lower": lower, "upper": upper}


def _write_examples(folder: Path, tried: Sequence[_Tried]) -> None:
    by_curve: dict[str, list[Example]] = {}
    for example in sorted((each for image in tried for each in image.examples), key=lambda each: each.trial.size):
        by_curve.setdefault(curve_name(example.trial.kind, example.trial.contrast), []).append(example)
    for name, examples in by_curve.items():
        write_strip(folder / f"{name}{EXAMPLES}", examples)
