"""Result tables and pictures to the page: what is shown, in which order and in which words."""

from __future__ import annotations

import os
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any
from urllib.parse import quote

import jinja2
import pandas as pd

from robis import __version__, files
from robis.errors import DataError, first_few
from robis.evaluation import (
    METRICS,
    SegmentationCounts,
    mean_metrics,
    resize_mask,
    segmentation_metrics,
)
from robis.report import pictures

NORMAL, ANOMALOUS = "normal", "anomalous"

# Result of one image -> what it means; in the order of the page.
RESULTS = {
    "missed": "anomalous, but the final mask is empty",
    "false alarm": "normal, but the final mask is not empty",
    "found": "anomalous, and the final mask is not empty (SegF1 says how well it fits)",
    "clean": "normal, and the final mask is empty",
    "unknown": "the image's label is not known",
}

# Metric -> heading of its group, heading of its column, what it is.
HEADINGS = {
    "image_auroc": ("Image", "AUROC", "Area under the ROC curve of the image scores"),
    "image_ap": ("Image", "AP", "Average precision of the image scores"),
    "image_f1_max": ("Image", "F1 max", "F1 of the image scores at their best threshold"),
    "pixel_auroc": ("Pixel", "AUROC", "Area under the ROC curve of the anomaly maps' pixels"),
    "pixel_ap": ("Pixel", "AP", "Average precision of the anomaly maps' pixels"),
    "pixel_f1_max": ("Pixel", "F1 max", "F1 of the anomaly maps' pixels at their best threshold"),
    "aupro_0.30": ("AU-PRO", "0.30", "Area under the per-region overlap to a false-positive rate of 0.30"),
    "aupro_0.05": ("AU-PRO", "0.05", "Area under the per-region overlap to a false-positive rate of 0.05"),
    "seg_f1": ("Final masks", "SegF1", "F1 of the final masks' pixels, pooled over the split"),
    "seg_iou": ("Final masks", "IoU", "Intersection over union of the final masks' pixels"),
    "seg_precision": ("Final masks", "Prec.", "Precision of the final masks' pixels"),
    "seg_recall": ("Final masks", "Recall", "Recall of the final masks' pixels"),
    "class_f1": ("Final masks", "ClassF1", "F1 of images: anomalous where the final mask is not empty"),
}


@dataclass(frozen=True)
class Picture:
    """A file below the assets folder, the same size for all pictures of a sample."""

    source: str
    alt: str


@dataclass(frozen=True)
class Row:
    """One image in a gallery; `seg_f1` in 0..1, None without a ground-truth mask of a defect."""

    sample_id: str
    label: str | None
    defect: str | None
    result: str
    score: float
    threshold: float
    votes: str
    defects: int
    seg_f1: float | None
    height: int
    width: int
    image: Picture
    heatmap: Picture
    masks: Picture
    truth: Picture | None

    @property
    def threshold_place(self) -> float:
        """Where the threshold lies on the heatmap's scale, 0..1."""
        return min(max(self.threshold / pictures.HEAT_RANGE, 0.0), 1.0)


@dataclass(frozen=True)
class Gallery:
    """One detector, category and split: its images by result, and the rows shown."""

    anchor: str
    detector: str
    category: str
    split: str
    images: int
    counts: dict[str, int]
    left_out: dict[str, int]
    rows: list[Row]


@dataclass(frozen=True)
class MetricTable:
    """The categories of one detector and split by METRICS, and their mean."""

    detector: str
    split: str
    categories: list[dict[str, Any]]
    mean: dict[str, Any]


def build_report(
    results: Path,
    root: Path,
    page: Path,
    assets: Path,
    metrics_csv: Path,
    *,
    runs: list[list[str]],
    images: int,
    encoder: str,
    notice: str | None = None,
    threads: int = 1,
) -> None:
    """Write the page, its pictures and the table of all metrics.

    results: the folder of one dataset's results, whose name titles the page. root: the dataset, from which
    the sample tables' paths start. runs: every [detector, category, split] to show. images: most rows in a
    gallery; anomalous images come first, then the highest scores. encoder, notice: said at the top.

    page: HTML that needs neither network nor server. assets: folder of numbered pictures beside it.
    metrics_csv: one row per run with ground truth, then one per detector and split with their mean
    (category "mean", `categories` the number averaged); values in 0..1, empty where undefined.

    The same input gives the same bytes. Images are opened one at a time per thread.

    Raises DataError where a table, map or mask of a run is missing, or a table lacks an image.
    """
    metrics, galleries = [], []
    with files.atomic_folder(assets) as folder:
        # A path relative to the page, so that both can be moved together.
        link = quote(Path(os.path.relpath(assets, page.parent)).as_posix())
        for number, (detector, category, split) in enumerate(runs, start=1):
            table = _split_table(results, detector, category, split)
            if table["label"].notna().any():
                metrics.append(files.read_table(results / detector / "metrics" / category / f"{split}.parquet"))
            shown = _select(table, images)
            left_out = table.loc[table.index.difference(shown.index)]
            drawn = _Drawing(results / detector, root, category, split, folder, link, f"{number:03d}")
            galleries.append(
                Gallery(
                    anchor=f"run-{number}",
                    detector=detector,
                    category=category,
                    split=split,
                    images=len(table),
                    counts=_count_results(table),
                    left_out=_count_results(left_out),
                    rows=list(files.threaded(drawn.row, enumerate(shown.to_dict("records"), start=1), threads)),
                )
            )
    measured = pd.concat(metrics, ignore_index=True) if metrics else _no_metrics()
    _write_csv(metrics_csv, measured)
    text = (
        _environment()
        .get_template("index.html.j2")
        .render(
            dataset=results.name,
            version=__version__,
            encoder=encoder,
            notice=notice,
            detectors=_distinct(runs, 0),
            categories=_distinct(runs, 1),
            splits=_distinct(runs, 2),
            tables=_metric_tables(measured),
            unmeasured=_unmeasured(galleries, measured),
            galleries=galleries,
            metrics=METRICS,
            headings=HEADINGS,
            groups=Counter(HEADINGS[name][0] for name in METRICS),
            results=RESULTS,
            layers={"coarse": pictures.COARSE, "final": pictures.FINAL, "truth": pictures.TRUTH},
            colormap=pictures.colormap_css(),
            csv=quote(Path(os.path.relpath(metrics_csv, page.parent)).as_posix()),
        )
    )
    with files.atomic_file(page) as partial:
        partial.write_text(text, encoding="utf-8", newline="\n")


def _split_table(results: Path, detector: str, category: str, split: str) -> pd.DataFrame:
    """The sample table with scores, thresholds and `result`, one row per image."""
    samples = files.read_table(results / "samples" / category / f"{split}.parquet")
    for name, columns in {
        "image_scores": ["rescored", "is_anomalous"],
        "thresholds": ["threshold", "mean_std", "mebin", "defects"],
    }.items():
        path = results / detector / name / category / f"{split}.parquet"
        found = files.read_table(path).set_index("sample_id")
        missing = samples.loc[~samples["sample_id"].isin(found.index), "sample_id"].tolist()
        if missing:
            raise DataError(
                f"{path}: {len(missing)} of the {len(samples)} images of {category}/{split} have no row; "
                f"expected one each. Make the table again. Missing:\n{first_few(missing)}"
            )
        samples = samples.join(found[columns], on="sample_id", validate="1:1")
    samples["result"] = [
        _result(_known(label), bool(marked))
        for label, marked in zip(samples["label"], samples["is_anomalous"], strict=True)
    ]
    return samples


def _result(label: str | None, marked: bool) -> str:
    if label is None:
        return "unknown"
    if label == ANOMALOUS:
        return "found" if marked else "missed"
    return "false alarm" if marked else "clean"


def _select(table: pd.DataFrame, images: int) -> pd.DataFrame:
    ordered = table.assign(first=table["label"].eq(ANOMALOUS).fillna(False)).sort_values(
        ["first", "rescored", "sample_id"], ascending=[False, False, True], kind="stable"
    )
    return ordered.head(images)


def _count_results(table: pd.DataFrame) -> dict[str, int]:
    found = Counter(table["result"])
    return {name: found[name] for name in RESULTS}


@dataclass(frozen=True)
class _Drawing:
    """Where the files of one run are, and where their pictures go."""

    outputs: Path
    root: Path
    category: str
    split: str
    folder: Path
    link: str
    run: str

    def row(self, numbered: tuple[int, Mapping[Any, Any]]) -> Row:
        number, sample = numbered
        name = str(sample["sample_id"])
        image = files.read_image(self.root / sample["image"])
        anomaly_map = files.read_map(self._path("anomaly_images", name, ".tiff"))
        coarse = files.read_mask(self._path("coarse_masks", name, ".png"))
        final = files.read_mask(self._path("anomaly_images_thresholded", name, ".png"))
        mask = _known(sample["mask"])
        truth = None if mask is None else files.read_mask(self.root / mask)
        size = pictures.thumbnail_size(*image.shape[:2])
        seg_f1 = None
        if truth is not None:
            counts = SegmentationCounts.of(resize_mask(final, *truth.shape), truth)
            seg_f1 = segmentation_metrics(counts)["seg_f1"]

        def written(kind: str, data: bytes, alt: str) -> Picture:
            # Numbered, since a sample's name may hold whatever a file name or a link cannot.
            file = f"{self.run}-{number:05d}-{kind}"
            (self.folder / file).write_bytes(data)
            return Picture(f"{self.link}/{file}", alt)

        marks = [(coarse, pictures.COARSE), (final, pictures.FINAL)]
        return Row(
            sample_id=name,
            label=_known(sample["label"]),
            defect=_known(sample["defect"]),
            result=sample["result"],
            score=float(sample["rescored"]),
            threshold=float(sample["threshold"]),
            votes=", ".join(f"{vote} {sample[vote]:.4g}" for vote in ("mean_std", "mebin") if pd.notna(sample[vote])),
            defects=int(sample["defects"]),
            seg_f1=seg_f1,
            height=size[0],
            width=size[1],
            image=written("image.jpg", pictures.draw_image(image, *size), f"Image {name}"),
            heatmap=written(
                "heatmap.jpg", pictures.draw_heatmap(anomaly_map, *size), f"Anomaly map of {name} over the image"
            ),
            masks=written(
                "masks.png", pictures.draw_masks(marks, *size), f"Coarse and final mask of {name} over the image"
            ),
            truth=None
            if truth is None
            else written(
                "truth.png",
                pictures.draw_masks([(truth, pictures.TRUTH)], *size),
                f"Ground truth of {name} over the image",
            ),
        )

    def _path(self, output: str, name: str, suffix: str) -> Path:
        return self.outputs / output / self.category / self.split / f"{name}{suffix}"


def _metric_tables(measured: pd.DataFrame) -> list[MetricTable]:
    tables = []
    for mean in mean_metrics(measured).to_dict("records") if len(measured) else []:
        of_mean = (measured["detector"] == mean["detector"]) & (measured["split"] == mean["split"])
        rows = [{str(key): value for key, value in row.items()} for row in measured[of_mean].to_dict("records")]
        tables.append(
            MetricTable(str(mean["detector"]), str(mean["split"]), rows, {str(k): v for k, v in mean.items()})
        )
    return tables


def _unmeasured(galleries: Sequence[Gallery], measured: pd.DataFrame) -> list[str]:
    """Category and split of the runs that have no metrics, each once."""
    have = set(zip(measured["category"], measured["split"], strict=True))
    names = {f"{g.category}/{g.split}": None for g in galleries if (g.category, g.split) not in have}
    return list(names)


def _no_metrics() -> pd.DataFrame:
    return pd.DataFrame(columns=["detector", "category", "split", "images", "anomalous_images", "defects", *METRICS])


def _write_csv(path: Path, measured: pd.DataFrame) -> None:
    table = measured
    if len(measured):
        means = mean_metrics(measured).assign(category="mean")
        table = pd.concat([measured, means[["detector", "category", "split", "categories", *METRICS]]])
        counts = ["images", "anomalous_images", "defects", "categories"]
        table[counts] = table[counts].astype("Int64")
    with files.atomic_file(path) as partial:
        table.to_csv(partial, index=False, lineterminator="\n")


def _distinct(runs: Sequence[Sequence[str]], part: int) -> list[str]:
    return list(dict.fromkeys(run[part] for run in runs))


def _known(value: Any) -> str | None:
    """Tables hold an unknown string as None, NaN or NA."""
    return None if pd.isna(value) else str(value)


def _environment() -> jinja2.Environment:
    # Escaping is asked for by name: Jinja's own choice goes by suffix, and .j2 is not one that it escapes.
    environment = jinja2.Environment(
        loader=jinja2.PackageLoader("robis.report", "templates"),
        autoescape=True,
        undefined=jinja2.StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    environment.filters["percent"] = lambda value: f"{100 * value:.1f}"
    environment.filters["number"] = lambda value: f"{value:.4g}"
    environment.filters["listed"] = lambda counts: ", ".join(_counted(counts))
    environment.tests["null"] = pd.isna
    return environment


def _counted(counts: Mapping[str, int]) -> Iterator[str]:
    for name, number in counts.items():
        if number:
            yield f"{number} {name}" + ("s" if name == "false alarm" and number > 1 else "")
