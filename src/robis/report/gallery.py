"""The images of one category and split: their pictures, and the data files from which the page builds its rows."""

from __future__ import annotations

import json
import os
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from functools import cache, partial
from pathlib import Path
from typing import Any
from urllib.parse import quote

import numpy as np
import pandas as pd

from robis.errors import DataError
from robis.evaluation.counts import SegmentationCounts
from robis.evaluation.metrics import segmentation_metrics
from robis.io.damage import damaged
from robis.io.ignored import decode
from robis.io.images import read_image, read_mask
from robis.io.maps import read_map
from robis.io.progress import tracked
from robis.io.threads import threaded
from robis.report import pictures
from robis.report.inputs import RunFiles
from robis.report.outlines import outline
from robis.report.runs import Group, known
from robis.report.verdicts import Marked, Truth, no_regions, verdict_of

CHUNK = 64  # images whose outlines lie in one data file
SAMPLE_COLUMNS = (
    *("id", "label", "defect", "width", "height", "fullWidth", "fullHeight", "original", "area", "regions"),
    "ignored",
)
RUN_COLUMNS = (
    *("result", "score", "threshold", "meanStd", "mebin", "stableFirst", "stableLast"),
    *("regions", "segF1", "low", "high", "judged", "margin"),
    "boxes",
)
Record = Mapping[str, Any]


@dataclass(frozen=True)
class Place:
    """Where and how a gallery is drawn.

    Attributes:
        root: the dataset, from which the sample tables' paths start.
        page: where the page will be, to link the original images.
        folder: for the pictures and data files; becomes `group.folder` among the assets.
        vis: "split" colors heatmaps from 0 to 255, "single" each from its own lowest to its highest value.
        bit_depth: of images of 16 bits, see `read_image`.
    """

    root: Path
    page: Path
    folder: Path
    vis: str
    bit_depth: int | None = None


@dataclass
class Measured:
    """What the masks of a group say, for every image of the split.

    Attributes:
        results: run -> one of VERDICTS per image, in the order of `group.samples`; None where the run lacks it.
        images: run of this report -> a mapping per image: `judged`, whether it is judged anomalous, `seg_f1`, and
            `marked`, what its final mask marks.
        regions: run of this report -> a row per ground-truth region: `sample_id, row, area, covered`.
        remarks: what of the compared runs cannot be read, in sentences.
    """

    results: dict[str, list[str | None]] = field(default_factory=dict)
    images: dict[str, list[Record]] = field(default_factory=dict)
    regions: dict[str, pd.DataFrame] = field(default_factory=dict)
    remarks: list[str] = field(default_factory=list)


def write_gallery(group: Group, place: Place, threads: int) -> Measured:
    """Write the pictures and data files of a group.

    Every image of the split is measured, one at a time per thread; those of the gallery are drawn.

    Raises:
        DataError: An image, or a map or mask of a run of this report, is missing or damaged.
    """
    (place.folder / "images").mkdir(parents=True)
    work = _Work(group, place, _records(group.samples), [_records(group.tables[run.name]) for run in group.runs])
    data = _DataFiles(group, place.folder)
    measured = Measured({run.name: [] for run in group.runs})
    measured.images = {run.name: [] for run in group.runs if not run.compared}
    regions: dict[str, list[pd.DataFrame]] = {run.name: [] for run in group.runs if not run.compared}
    problems: dict[str, list[str]] = {run.name: [] for run in group.runs}
    images = threaded(work.image, range(len(group.samples)), threads)
    for image in tracked(images, len(group.samples), "images", f"{group.category}/{group.split}"):
        for number, run in enumerate(group.runs):
            view = image.views[number]
            measured.results[run.name].append(view.result)
            problems[run.name] += [view.problem] if view.problem else []
            if view.facts:
                measured.images[run.name].append(view.facts)
            if view.regions is not None:
                regions[run.name].append(view.regions)
        if image.columns:
            data.add(image)
    data.close()
    measured.regions = {run: pd.concat([no_regions(), *tables], ignore_index=True) for run, tables in regions.items()}
    for name, texts in problems.items():
        if texts:
            measured.remarks.append(
                f"{name}, {group.category}/{group.split}: {len(texts)} images are left out; the first: {texts[0]}"
            )
    return measured


@dataclass
class _View:
    """One image in one run; columns and outlines are empty beyond the gallery, facts for compared runs."""

    result: str | None = None
    facts: Record = field(default_factory=dict)
    columns: dict[str, Any] = field(default_factory=lambda: dict.fromkeys(RUN_COLUMNS))
    outlines: list[Any] | None = None
    regions: pd.DataFrame | None = None
    problem: str = ""


@dataclass
class _Image:
    """One image in all runs; `columns` is empty beyond the gallery."""

    columns: dict[str, Any]
    truth: Any
    ignored: Any
    views: list[_View]


@dataclass(frozen=True, eq=False)
class _Compared:
    """What masks of an image are compared with: its ground truth, and its ignored pixels, bool (H, W), if any."""

    truth: Truth | None
    ignored: np.ndarray | None


@dataclass(frozen=True)
class _Work:
    """Reads, measures and draws one image at a time. samples, tables: the group's, as one mapping per image."""

    group: Group
    place: Place
    samples: Sequence[Record]
    tables: Sequence[Sequence[Record]]

    def image(self, number: int) -> _Image:
        sample = self.samples[number]
        mask = known(sample["mask"])
        ignored = decode(sample["ignored"]) if isinstance(sample["ignored"], bytes) else None
        truth = None if mask is None else Truth.read(self.place.root / mask, ignored)
        columns: dict[str, Any] = self._draw_image(sample, truth, ignored) if pd.notna(sample["row"]) else {}
        size: tuple[int, int] | None = (columns["height"], columns["width"]) if columns else None
        views = []
        for place, run in enumerate(self.group.runs):
            try:
                views.append(self._view(place, number, _Compared(truth, ignored), size))
            except DataError as error:
                if not run.compared:
                    raise
                views.append(_View(problem=str(error)))
        outlined, left_out = (
            outline(pixels, *size).compact() if pixels is not None and size else None
            for pixels in (truth.mask if truth else None, ignored)
        )
        return _Image(columns, outlined, left_out, views)

    def _draw_image(self, sample: Record, truth: Truth | None, ignored: np.ndarray | None) -> dict[str, Any]:
        """Draw what all runs share; the image's entry in the data file."""
        image = read_image(self.place.root / sample["image"], bit_depth=self.place.bit_depth)
        height, width = pictures.thumbnail_size(*image.shape[:2])
        path = self.place.folder / "images" / f"{int(sample['row'])}.jpg"
        path.write_bytes(pictures.draw_image(image, height, width))
        link = Path(os.path.relpath(self.place.root / sample["image"], self.place.page.parent)).as_posix()
        return {
            "id": str(sample["sample_id"]),
            "label": known(sample["label"]),
            "defect": known(sample["defect"]),
            "width": width,
            "height": height,
            "fullWidth": image.shape[1],
            "fullHeight": image.shape[0],
            "original": quote(link),
            "area": float(truth.mask.mean()) if truth else None,
            "regions": truth.regions if truth else None,
            "ignored": float(ignored.mean()) if ignored is not None else None,
        }

    def _view(self, place: int, number: int, expected: _Compared, size: tuple[int, int] | None) -> _View:
        """Measure an image in a run, and draw it at the (height, width) of its picture where that is given."""
        row, sample, truth = self.tables[place][number], self.samples[number], expected.truth
        if not row["present"]:
            return _View()
        run, name = self.group.runs[place], str(sample["sample_id"])
        final = read_mask(run.masks / f"{name}.png")
        overlaps, seg_f1, regions = None, None, None
        if truth:
            scaled = truth.at_its_size(final)
            overlaps = truth.overlaps(scaled)
            seg_f1 = segmentation_metrics(SegmentationCounts.of(scaled, truth.mask, expected.ignored))["seg_f1"]
            regions = None if run.compared else truth.coverage(scaled, sample)
        judged = bool(row["margin"] > 0 if pd.notna(row["margin"]) else final.any())
        anomaly_map = cache(partial(_read_map, run, name))
        marked = Marked.of(final, int(sample["height"]), int(sample["width"]), None if run.compared else anomaly_map)
        view = _View(verdict_of(known(sample["label"]), judged, overlaps), regions=regions)
        if not run.compared:
            view.facts = {"judged": judged, "seg_f1": seg_f1, "marked": marked}
        if size:
            coarse = read_mask(run.coarse_masks / f"{name}.png")
            low, high = self._draw_heatmap(anomaly_map(), f"{int(sample['row'])}-{run_file(place)}.jpg", size)
            view.outlines = [outline(mask, *size).compact() for mask in (coarse, final)]
            view.columns = {
                "result": view.result,
                "score": _number(row["rescored"]),
                "threshold": _number(row["threshold"]),
                "meanStd": _number(row["mean_std"]),
                "mebin": _number(row["mebin"]),
                "stableFirst": _number(row["stable_first"]),
                "stableLast": _number(row["stable_last"]),
                "regions": marked.regions,
                "segF1": seg_f1,
                "low": low,
                "high": high,
                "judged": judged,
                "margin": _number(row["margin"]),
                "boxes": [list(box) for box in marked.boxes] or None,
            }
        return view

    def _draw_heatmap(self, anomaly_map: np.ndarray, picture: str, size: tuple[int, int]) -> tuple[float, float]:
        """Draw a map; its lowest and its highest value."""
        low, high = float(anomaly_map.min()), float(anomaly_map.max())
        ends = (low, high) if self.place.vis == "single" else (0.0, pictures.HEAT_RANGE)
        heat = pictures.draw_heatmap(anomaly_map, *size, low=ends[0], high=ends[1])
        (self.place.folder / "images" / picture).write_bytes(heat)
        return low, high


def _read_map(run: RunFiles, name: str) -> np.ndarray:
    path = run.maps / f"{name}.tiff"
    stage = None if run.compared else "merge"
    anomaly_map = read_map(path, stage=stage)
    if not np.isfinite((anomaly_map.min(), anomaly_map.max())).all():
        raise damaged(path, "values that are not finite; expected finite ones", stage)
    return anomaly_map


class _DataFiles:
    """Collects the images of a gallery in their order and writes them as data files of the page."""

    def __init__(self, group: Group, folder: Path) -> None:
        self._group, self._folder = group, folder
        self._columns: dict[str, dict[str, list[Any]]] = {"samples": {name: [] for name in SAMPLE_COLUMNS}}
        self._columns |= {run_file(number): {name: [] for name in RUN_COLUMNS} for number in range(len(group.runs))}
        self._outlines: dict[str, list[Any]] = {}
        self._shown = 0

    def add(self, image: _Image) -> None:
        """Take the next image of the gallery."""
        self._extend("samples", image.columns, "truth", image.truth)
        self._outlines.setdefault("ignored", []).append(image.ignored)
        for number, view in enumerate(image.views):
            # An image that a compared run does not have keeps its place.
            self._extend(run_file(number), view.columns, f"{run_file(number)}-masks", view.outlines)
        self._shown += 1
        if self._shown % CHUNK == 0 or self._shown == self._group.shown:
            for name, outlines in self._outlines.items():
                # The page asks for ignored regions of images that have one.
                if name != "ignored" or any(outlines):
                    self._write(f"{name}-{(self._shown - 1) // CHUNK}", outlines)
            self._outlines = {}

    def close(self) -> None:
        """Write what is not written in chunks."""
        for name, lists in self._columns.items():
            self._write(name, lists)

    def _extend(self, name: str, columns: Record, outlines_name: str, outlines: Any) -> None:
        for column, value in columns.items():
            self._columns[name][column].append(value)
        self._outlines.setdefault(outlines_name, []).append(outlines)

    def _write(self, name: str, content: Any) -> None:
        write_script(self._folder / f"{name}.js", f"{self._group.folder}/{name}", content)


def run_file(number: int) -> str:
    """Name of the data file of a group's run, and end of its heatmaps' names."""
    return f"run{number + 1}"


def write_script(path: Path, name: str, content: Any) -> None:
    """A data file that the page loads by a script element, since a page on disk may not fetch others."""
    text = json.dumps(content, separators=(",", ":"), allow_nan=False)
    path.write_text(f"robis.take({json.dumps(name)},{text});\n", encoding="ascii", newline="\n")


def _records(table: pd.DataFrame) -> list[Record]:
    return [{str(name): value for name, value in row.items()} for row in table.to_dict("records")]


def _number(value: Any) -> float | None:
    return None if pd.isna(value) else float(value)
