"""Published results beside ours: the numbers, their sources, and what has to hold before the two compare.

Values are in percent, as printed. A number is comparable where the same method ran on the same images and the metric
was computed in the same way; everything else is shown with the reason why it is not.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from robis.evaluation.metrics import METRICS

MEAN = "mean"
PIXEL_METRICS = tuple(name for name in METRICS if name.startswith(("pixel", "aupro")))

# Layout -> name of the benchmark and its categories: other images in the same layout are not the benchmark.
BENCHMARKS: dict[str, tuple[str, tuple[str, ...]]] = {
    "mvtec_ad": (
        "MVTec AD",
        (
            *("bottle", "cable", "capsule", "carpet", "grid", "hazelnut", "leather", "metal_nut", "pill", "screw"),
            *("tile", "toothbrush", "transistor", "wood", "zipper"),
        ),
    ),
    "mvtec_ad_2": (
        "MVTec AD 2",
        ("can", "fabric", "fruit_jelly", "rice", "sheet_metal", "vial", "wallplugs", "walnuts"),
    ),
    "visa": (
        "VisA",
        (
            *("candle", "capsules", "cashew", "chewinggum", "fryum", "macaroni1", "macaroni2"),
            *("pcb1", "pcb2", "pcb3", "pcb4", "pipe_fryum"),
        ),
    ),
    "btad": ("BTAD", ("01", "02", "03")),
}


@dataclass(frozen=True)
class Published:
    """One row of a published table.

    Attributes:
        benchmark, split: what was measured; the split as robis names it.
        method: as its authors call it, with the variant.
        source: paper, and where in it.
        values: metric -> percent, for the category or the mean over all categories of the benchmark.
        needs: setting of a run -> the values with which it computes the same; "detector" among them.
        never: why no run of robis can be compared; empty where one can.
        pixels: resolution at which the source compares pixels; None where it does not say.
    """

    benchmark: str
    split: str
    method: str
    source: str
    values: Mapping[str, float]
    category: str = MEAN
    needs: Mapping[str, Sequence[Any]] = field(default_factory=dict)
    never: str = ""
    pixels: int | None = None


@dataclass(frozen=True)
class Comparison:
    """A published row beside a report: metrics that compare with `run`, and why the others do not."""

    row: Published
    runs: tuple[str, ...]
    comparable: tuple[str, ...]
    reasons: tuple[str, ...]


_SERVER = "computed by the benchmark's server: the ground truth of the private splits is not public"
_LOCAL = "RoBiS's own local evaluation (518 pixels, smoothed masks, best threshold) is neither the server's nor robis's"
_ROBIS = "RoBiS (arXiv 2505.21152)"
_SERVER_METRICS = ("aupro_0.05", "class_f1", "seg_f1")

# Category -> private and private_mixed, each AU-PRO 0.05, ClassF1, SegF1.
_ROBIS_CATEGORIES = {
    "can": ((30.28, 60.93, 1.86), (20.03, 65.04, 0.84)),
    "fabric": ((79.45, 83.79, 87.46), (79.27, 83.80, 73.37)),
    "fruit_jelly": ((74.46, 87.35, 53.63), (74.11, 87.55, 52.62)),
    "rice": ((62.27, 72.00, 63.86), (63.89, 73.45, 63.23)),
    "sheet_metal": ((75.51, 87.68, 70.98), (73.54, 86.69, 70.92)),
    "vial": ((76.81, 84.61, 48.73), (69.59, 85.77, 48.83)),
    "wallplugs": ((62.20, 75.20, 14.38), (24.77, 72.66, 3.40)),
    "walnuts": ((77.05, 85.42, 67.13), (72.00, 83.95, 58.94)),
    MEAN: ((67.25, 79.62, 51.00), (59.65, 79.86, 46.52)),
}
# Method -> SegF1 on private, private_mixed.
_OTHERS = {
    "ISVL (VAND 3.0)": (53.81, 51.43),
    "ASEG (VAND 3.0)": (50.43, 44.49),
    "SuperAD (VAND 3.0)": (47.75, 43.2),
    "MSFlow": (21.8, 9.0),
    "RD++": (19.2, 16.7),
    "RD": (18.1, 16.7),
    "SimpleNet": (17.7, 8.7),
    "EfficientAD": (15.4, 8.0),
    "DSR": (10.9, 9.5),
    "PatchCore": (3.7, 3.4),
}
_LOCAL_ROWS = {
    "RoBiS": {"pixel_f1_max": 35.5, "seg_f1": 46.9},
    "RoBiS without augmentation": {"pixel_f1_max": 33.6},
    "RoBiS without cropping": {"pixel_f1_max": 31.8},
    "RoBiS without MEBin": {"seg_f1": 46.5},
    "RoBiS without SAM": {"seg_f1": 34.4},
}
_MUSC_METRICS = (*("image_auroc", "image_f1_max", "image_ap", "pixel_auroc", "pixel_f1_max", "pixel_ap", "aupro_0.30"),)
_WINCLIP_METRICS = ("image_auroc", "image_f1_max", "image_ap", "pixel_auroc", "pixel_f1_max", "aupro_0.30")


def _mvtec_ad_2() -> Iterator[Published]:
    for category, splits in _ROBIS_CATEGORIES.items():
        for split, values in zip(("test_private", "test_private_mixed"), splits, strict=True):
            named = dict(zip(_SERVER_METRICS, values, strict=True))
            yield Published("MVTec AD 2", split, "RoBiS", _ROBIS, named, category, never=_SERVER)
    for method, both in _OTHERS.items():
        for split, value in zip(("test_private", "test_private_mixed"), both, strict=True):
            yield Published("MVTec AD 2", split, method, "benchmark's ranking", {"seg_f1": value}, never=_SERVER)
    for method, named in _LOCAL_ROWS.items():
        yield Published("MVTec AD 2", "test_public", method, _ROBIS, named, never=_LOCAL)
    source, why = "second-hand, on SuperADD (arXiv 2605.14808)", "a second-hand figure whose protocol is not known"
    yield Published("MVTec AD 2", "test_public", "SuperADD", source, {"seg_f1": 62.61}, never=why)


def _musc(benchmark: str, encoder: str, k: Sequence[int], *values: float) -> Published:
    needs: dict[str, Sequence[Any]] = {
        "detector": ["musc"],
        "encoder.name": [encoder],
        "encoder.input_size": [None, 518],
        "tiling.window": ["image"],
        "tiling.resample": ["bicubic"],
        "score_images.top_fraction": ["own"],
        "rescore.method": ["rscin"],
        "rescore.neighborhood_sizes": [list(k)],
        "rescore.embeddings": ["own"],
        "musc.subsets": [1],
    }
    name = {"clip_vitl14_336": "CLIP ViT-L/14-336", "dinov2_vitl14": "DINOv2 ViT-L/14"}[encoder]
    named = dict(zip(_MUSC_METRICS, values, strict=True))
    source = "MuSc (arXiv 2401.16753)"
    return Published(benchmark, "test", f"MuSc, {name} at 518", source, named, needs=needs, pixels=518)


def _winclip(benchmark: str, shots: int, *values: float) -> Published:
    needs: dict[str, Sequence[Any]] = {
        "detector": ["winclip"],
        "encoder.name": ["clip_vitb16plus"],
        "encoder.input_size": [None, 240],
        "tiling.window": ["image"],
        "tiling.resample": ["bicubic"],
        "score_images.top_fraction": ["own"],
        "rescore.method": ["none"],
        "winclip.shots": [shots],
        "winclip.scales": [[2, 3]],
        "winclip.temperature": [0.07],
    }
    named = dict(zip(_WINCLIP_METRICS, values, strict=True))
    return Published(benchmark, "test", f"WinCLIP, {shots}-shot", "WinCLIP (arXiv 2303.14814)", named, needs=needs)


PUBLISHED: tuple[Published, ...] = (
    *_mvtec_ad_2(),
    _musc("MVTec AD", "clip_vitl14_336", (1, 2, 3), 97.77, 97.37, 99.07, 97.11, 62.16, 62.26, 93.45),
    _musc("MVTec AD", "dinov2_vitl14", (1, 2, 3), 97.08, 97.13, 98.82, 98.34, 66.15, 67.39, 96.16),
    _musc("VisA", "clip_vitl14_336", (1, 8, 9), 92.57, 89.06, 93.31, 98.71, 48.90, 45.38, 92.43),
    _musc("BTAD", "clip_vitl14_336", (1, 2, 3), 96.16, 93.90, 97.85, 97.35, 57.86, 57.15, 83.43),
    _winclip("MVTec AD", 0, 91.8, 92.9, 96.5, 85.1, 31.7, 64.6),
    _winclip("MVTec AD", 4, 95.2, 94.7, 97.3, 96.2, 51.7, 88.0),
    _winclip("VisA", 0, 78.1, 79.0, 81.2, 79.6, 14.8, 56.8),
    _winclip("VisA", 4, 87.3, 84.2, 88.8, 97.2, 47.0, 87.6),
)


def benchmark_of(layout: str, categories: Sequence[str]) -> str | None:
    """The benchmark that categories in a layout belong to; None where one of them is not its."""
    name, known = BENCHMARKS.get(layout, ("", ()))
    return name if name and categories and set(categories) <= set(known) else None


def comparisons(layout: str, categories: Sequence[str], setups: Mapping[str, Mapping[str, Any]]) -> list[Comparison]:
    """Every published row of the benchmark that is reported, with what of it compares with which run.

    layout, categories: of the report. setups: run -> dotted key -> value, with "detector" (the method),
    "encoder.weights" and "evaluate.resolution" among the keys.
    """
    benchmark = benchmark_of(layout, categories)
    found = []
    for row in PUBLISHED:
        if row.benchmark == benchmark:
            found.append(_compare(row, categories, setups))
    return found


def _compare(row: Published, categories: Sequence[str], setups: Mapping[str, Mapping[str, Any]]) -> Comparison:
    def not_comparable(*reasons: str) -> Comparison:
        return Comparison(row, (), (), reasons)

    if row.never:
        return not_comparable(row.never)
    complete = BENCHMARKS[next(layout for layout, (name, _) in BENCHMARKS.items() if name == row.benchmark)][1]
    if row.category == MEAN and set(categories) != set(complete):
        return not_comparable(f"a mean over {len(complete)} categories; {len(set(categories))} are reported")
    method = {run: setup for run, setup in setups.items() if setup["detector"] in row.needs["detector"]}
    if not method:
        return not_comparable("the method was not run")
    differences = {run: _differences(row, setup) for run, setup in method.items()}
    same = tuple(run for run, found in differences.items() if not found)
    if not same:
        nearest = min(differences, key=lambda run: len(differences[run]))
        return not_comparable(*differences[nearest])
    resolution = {setups[run]["evaluate.resolution"] for run in same}
    if row.pixels is None:
        why = "pixel metrics: the source does not say at which resolution"
    elif resolution != {row.pixels}:
        ours = " and ".join(sorted(str(one).replace("_", " ") for one in resolution))
        why = f"pixel metrics: published at {row.pixels} pixels, ours at {ours} (evaluate.resolution)"
    else:
        return Comparison(row, same, tuple(row.values), ())
    return Comparison(row, same, tuple(name for name in row.values if name not in PIXEL_METRICS), (why,))


def _differences(row: Published, setup: Mapping[str, Any]) -> list[str]:
    found = []
    if setup["encoder.weights"] == "random":
        found.append("the encoder's weights are random here")
    for key, values in row.needs.items():
        if key != "detector" and setup[key] not in values:
            found.append(f"{key}: published with {_text(values[-1])}, here {_text(setup[key])}")
    return found


def _text(value: Any) -> str:
    return ", ".join(map(str, value)) if isinstance(value, list) else str(value)
