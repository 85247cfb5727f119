"""All pixel metrics of maps and ground truths: counts beside sorted pixels and beside libraries."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from functools import partial

import numpy as np

from benchmarks import harness, inputs
from benchmarks.plain import metrics as plain
from robis.evaluation.counts import PixelCounts
from robis.evaluation.metrics import pixel_metrics, rank_pixels
from robis.io.threads import threaded

Side = Callable[[list[np.ndarray], list[np.ndarray]], dict[str, float]]


def rows(options: harness.Options) -> Iterator[harness.Row | harness.Fact]:
    """At a quarter of the images' size and at their own; what a library has is compared where it is installed."""
    sizes = [(inputs.QUARTER, 20), (inputs.FULL, 4)] if not options.quick else [((64, 80), 3), ((96, 130), 3)]
    others: list[tuple[str, Side]] = []
    for name, side in (("adeval", _adeval), ("anomalib", _anomalib)):
        try:
            side([np.eye(8, dtype=np.float16)], [np.eye(8) > 0])
            others.append((name, side))
        except ImportError as error:
            missing = "not installed" if error.name == name else f"lacks {error.name}"
            yield harness.Fact("Libraries that were not measured", "metrics", {"library": name, "why": missing})
    for size, count in sizes:
        rng = np.random.default_rng(0)
        pairs = [inputs.map_and_truth(rng, size, inputs.defects_of(index)) for index in range(count)]
        maps, masks = [pair[0] for pair in pairs], [pair[1] for pair in pairs]
        ours = partial(_ours, maps, masks, options.threads)
        work = f"all five pixel metrics, {count} maps of {size[0]} x {size[1]}, in memory"
        repeats = min(options.repeats, 3 if size != inputs.FULL else 2)
        yield harness.compare(
            "metrics",
            work,
            "scikit-learn; AU-PRO from sorted pixels (SciPy's labels)",
            partial(plain.pixel_metrics, maps, masks),
            ours,
            equal_metrics,
            repeats=repeats,
            target=100.0,
        )
        for name, side in others:
            yield harness.compare("metrics", work, name, partial(side, maps, masks), ours, near, repeats=repeats)


def _ours(maps: list[np.ndarray], masks: list[np.ndarray], threads: int) -> dict[str, float | None]:
    """As `evaluate` does once it has read them."""

    def count(index: int) -> PixelCounts:
        counts = PixelCounts()
        counts.add(maps[index], masks[index])
        return counts

    total = PixelCounts()
    for counts in threaded(count, range(len(maps)), threads):
        total.merge(counts)
    return pixel_metrics(rank_pixels(total))


def _adeval(maps: list[np.ndarray], masks: list[np.ndarray]) -> dict[str, float]:
    """Its accumulator with 1,000 steps, for any number of images; it has no F1 and one limit of AU-PRO."""
    if not hasattr(np, "trapz"):
        np.trapz = np.trapezoid  # which adeval 1.1 calls and NumPy 2.4 has no more
    from adeval import EvalAccumulator

    accumulator = EvalAccumulator(0.0, 255.0, 0.0, 255.0)
    for one, mask in zip(maps, masks, strict=True):
        accumulator.add_anomap(one.astype(np.float32), mask.astype(np.uint8))
    accumulator.add_image([0.0, 1.0], [0, 1])
    accumulator.add_sample([0.0, 1.0], [0, 1])
    found = accumulator.summary()
    return {"pixel_auroc": found["p_auroc"], "pixel_ap": found["p_aupr"], "aupro_0.30": found["p_aupro"]}


def _anomalib(maps: list[np.ndarray], masks: list[np.ndarray]) -> dict[str, float]:
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
    harness.require(plain_values.keys() == our_values.keys(), "other metrics")
    differences = [abs(value - (our_values[name] or 0.0)) for name, value in plain_values.items()]
    harness.require(max(differences) < 1e-9, f"metrics differ: {plain_values} and {our_values}")
    return f"equal to {max(differences):.0e}"


def near(their_values: dict[str, float], our_values: dict[str, float | None]) -> str:
    """What a library approximates, told rather than required beyond 0.05."""
    defined = {name: value for name, value in their_values.items() if np.isfinite(value)}
    differences = {name: abs(value - (our_values[name] or 0.0)) for name, value in defined.items()}
    worst = max(differences, key=lambda name: differences[name])
    harness.require(differences[worst] < 0.05, f"{worst}: {their_values[worst]} and {our_values[worst]}")
    undefined = "".join(f"; its {name} is NaN" for name in their_values if name not in defined)
    return f"{', '.join(differences)} only, differ by up to {differences[worst]:.0e} ({worst}){undefined}"
