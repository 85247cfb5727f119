"""All pixel metrics of maps and ground truths: counts beside sorted pixels and beside libraries."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from functools import partial

import numpy as np

from benchmarks import harness, inputs
from benchmarks.plain import metrics as plain
from robis.evaluation.counts import PixelCounts
from robis.evaluation.metrics import pixel_metrics, rank_pixels
from robis.io.threads import threaded

Side = Callable[[Sequence[np.ndarray], Sequence[np.ndarray]], dict[str, float]]


@dataclass(frozen=True)
class Sizes:
    """Maps of a quarter of the images' size and of their full size: height, width and number."""

    quarter: tuple[int, int, int] = (*inputs.QUARTER, 20)
    full: tuple[int, int, int] = (*inputs.FULL, 4)


FULL = Sizes()
QUICK = Sizes((64, 80, 3), (96, 130, 3))


def rows(options: harness.Options, sizes: Sizes) -> Iterator[harness.Row | harness.Fact]:
    """What a library has is compared where the library is installed."""
    libraries: dict[str, Side] = {}
    known: tuple[tuple[str, Side], ...] = (("adeval", _adeval), ("anomalib", _anomalib))
    for name, side in known:
        try:
            side([np.eye(8, dtype=np.float16)], [np.eye(8) > 0])
            libraries[name] = side
        except ImportError as error:
            missing = "not installed" if error.name == name else f"lacks {error.name}"
            yield harness.Fact("Libraries that were not measured", "metrics", {"library": name, "why": missing})
    for (height, width, count), most in ((sizes.quarter, 3), (sizes.full, 2)):
        rng = np.random.default_rng(0)
        defects = map(inputs.defects_of, range(count))
        maps, masks = zip(*(inputs.map_and_truth(rng, (height, width), number) for number in defects), strict=True)
        ours = partial(_ours, maps, masks, options.threads)
        what = f"all five pixel metrics, {count} maps of {height} x {width}, in memory"
        repeats = min(options.repeats, most)
        work = harness.Work("metrics", what, "scikit-learn; AU-PRO from sorted pixels (SciPy's labels)", 100.0)
        yield harness.compare(work, partial(plain.pixel_metrics, maps, masks), ours, equal_metrics, repeats)
        for name, side in libraries.items():
            yield harness.compare(harness.Work("metrics", what, name), partial(side, maps, masks), ours, near, repeats)


def _ours(maps: Sequence[np.ndarray], masks: Sequence[np.ndarray], threads: int) -> dict[str, float | None]:
    """As `evaluate` does once it has read them."""

    def count(index: int) -> PixelCounts:
        counts = PixelCounts()
        counts.add(maps[index], masks[index])
        return counts

    total = PixelCounts()
    for counts in threaded(count, range(len(maps)), threads):
        total.merge(counts)
    return pixel_metrics(rank_pixels(total))


def _adeval(maps: Sequence[np.ndarray], masks: Sequence[np.ndarray]) -> dict[str, float]:
    """Its accumulator with 1,000 steps, for any number of images; it has no F1 and one limit of AU-PRO."""
    if not hasattr(np, "trapz"):
        np.trapz = np.trapezoid  # type: ignore[attr-defined]  # adeval 1.1 calls it; NumPy 2.4 has removed it
    from adeval import EvalAccumulator

    accumulator = EvalAccumulator(0.0, 255.0, 0.0, 255.0)
    for values, mask in zip(maps, masks, strict=True):
        accumulator.add_anomap(values.astype(np.float32), mask.astype(np.uint8))
    accumulator.add_image([0.0, 1.0], [0, 1])
    accumulator.add_sample([0.0, 1.0], [0, 1])
    summary = accumulator.summary()
    return {"pixel_auroc": summary["p_auroc"], "pixel_ap": summary["p_aupr"], "aupro_0.30": summary["p_aupro"]}


def _anomalib(maps: Sequence[np.ndarray], masks: Sequence[np.ndarray]) -> dict[str, float]:
    """Its torch metrics, exact."""
    import torch
    from anomalib.metrics.aupro import _AUPRO
    from torchmetrics.functional.classification import binary_auroc

    # Beyond 0..1 torchmetrics would take them for logits.
    scores = torch.from_numpy(np.stack(maps).astype(np.float32) / 255)
    truth = torch.from_numpy(np.stack(masks).astype(np.int32))
    metric = _AUPRO(fpr_limit=0.3)
    metric.update(scores, truth)
    area = float(metric.compute())
    return {"pixel_auroc": float(binary_auroc(scores.flatten(), truth.flatten())), "aupro_0.30": area}


def equal_metrics(plain_values: dict[str, float], our_values: dict[str, float | None]) -> str:
    """Every metric, to nine digits."""
    harness.require(plain_values.keys() == our_values.keys(), "the metrics have different names")
    differences = [abs(value - (our_values[name] or 0.0)) for name, value in plain_values.items()]
    harness.require(max(differences) < 1e-9, f"metrics differ: {plain_values} and {our_values}")
    return f"equal to {max(differences):.0e}"


def near(their_values: dict[str, float], our_values: dict[str, float | None]) -> str:
    """How far a library that approximates is away; at most 0.05."""
    defined = {name: value for name, value in their_values.items() if np.isfinite(value)}
    differences = {name: abs(value - (our_values[name] or 0.0)) for name, value in defined.items()}
    worst = max(differences, key=lambda name: differences[name])
    harness.require(differences[worst] < 0.05, f"{worst}: {their_values[worst]} and {our_values[worst]}")
    undefined = "".join(f"; its {name} is NaN" for name in their_values if name not in defined)
    return f"{', '.join(differences)} only, differ by up to {differences[worst]:.0e} ({worst}){undefined}"
