"""The images of one category and split: their pictures, and the data files from which the page builds its rows."""

from __future__ import annotations

import json
import os
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any
from urllib.parse import quote

import cv2
import numpy as np
import pandas as pd

from robis.evaluation.counts import SegmentationCounts, resize_mask
from robis.evaluation.metrics import segmentation_metrics
from robis.io.images import read_image, read_mask
from robis.io.maps import read_map
from robis.io.threads import threaded
from robis.report import pictures
from robis.report.outlines import outline
from robis.report.runs import Group, Run, known

CHUNK = 64  # images whose outlines lie in one data file
SAMPLE_COLUMNS = ("id", "label", "defect", "width", "height", "fullWidth", "fullHeight", "original", "area", "regions")
RUN_COLUMNS = (
    *("result", "score", "threshold", "meanStd", "mebin", "defects", "stableFirst", "stableLast"),
    *("segF1", "low", "high"),
)
Record = Mapping[str, Any]


def write_gallery(
    group: Group, root: Path, page: Path, folder: Path, *, vis: str, threads: int
) -> dict[str, pd.DataFrame]:
    """Write the pictures and data files of a group into `folder`, which becomes `group.folder` among the assets.

    root: the dataset, from which the sample tables' paths start. page: where the page will be, to link the
    originals. vis: "split" colors heatmaps from 0 to 255, "single" each from its own lowest to its highest value.

    Every image of the split is measured, one at a time per thread; those of the gallery are drawn.

    Returns for each own run a row per ground-truth region: `sample_id, row, area, covered`.
    """
    (folder / "images").mkdir(parents=True)
    work = _Work.of(group, root, page, folder, vis)
    columns: dict[str, dict[str, list[Any]]] = {"samples": {name: [] for name in SAMPLE_COLUMNS}}
    columns |= {run_file(number): {name: [] for name in RUN_COLUMNS} for number, _ in enumerate(group.runs)}
    outlines: dict[str, list[Any]] = {}
    regions: dict[str, list[pd.DataFrame]] = {run.name: [] for run in group.runs if run.own}
    shown = 0
    for drawn in threaded(work.image, range(len(group.samples)), threads):
        for run, table in drawn.regions.items():
            regions[run].append(table)
        if drawn.columns:
            shown += 1
            for name, values in drawn.columns.items():
                for column, value in values.items():
                    columns[name][column].append(value)
            for name, one in drawn.outlines.items():
                outlines.setdefault(name, []).append(one)
            if shown % CHUNK == 0 or shown == group.shown:
                for name, chunk in outlines.items():
                    _write_data(folder, f"{name}-{(shown - 1) // CHUNK}", group, chunk)
                outlines = {}
    for name, lists in columns.items():
        _write_data(folder, name, group, lists)
    return {run: pd.concat([_no_regions(), *tables], ignore_index=True) for run, tables in regions.items()}


@dataclass(frozen=True)
class _Truth:
    """Ground truth of an image, its 8-connected regions labeled from 1."""

    mask: np.ndarray
    regions: int
    labels: np.ndarray

    @classmethod
    def read(cls, path: Path) -> _Truth:
        mask = read_mask(path)
        count, labels = cv2.connectedComponents(mask.astype(np.uint8), connectivity=8, ltype=cv2.CV_32S)
        return cls(mask, count - 1, labels)

    def covered(self, sample: Record, final: np.ndarray) -> pd.DataFrame:
        """A row per region: its area in pixels, and the share of it inside a mask of the same size."""
        area = np.bincount(self.labels[self.labels > 0], minlength=self.regions + 1)[1:]
        inside = np.bincount(self.labels[final], minlength=self.regions + 1)[1:]
        return pd.DataFrame(
            {
                "sample_id": str(sample["sample_id"]),
                "row": pd.array([sample["row"]] * self.regions, dtype="Int64"),
                "area": area,
                "covered": inside / area,
            }
        )


@dataclass
class _Drawn:
    """What one image gives: columns and outlines by data file, both empty beyond the gallery; regions by run."""

    columns: dict[str, Record] = field(default_factory=dict)
    outlines: dict[str, Any] = field(default_factory=dict)
    regions: dict[str, pd.DataFrame] = field(default_factory=dict)


@dataclass(frozen=True)
class _Work:
    """Reads, measures and draws one image at a time. samples, tables: the group's, as one mapping per image."""

    group: Group
    root: Path
    page: Path
    folder: Path
    vis: str
    samples: Sequence[Record]
    tables: Sequence[Sequence[Record]]

    @classmethod
    def of(cls, group: Group, root: Path, page: Path, folder: Path, vis: str) -> _Work:
        tables = [_records(group.tables[run.name]) for run in group.runs]
        return cls(group, root, page, folder, vis, _records(group.samples), tables)

    def image(self, place: int) -> _Drawn:
        sample, drawn = self.samples[place], _Drawn()
        mask = known(sample["mask"])
        truth = None if mask is None else _Truth.read(self.root / mask)
        shown = bool(pd.notna(sample["row"]))
        size = self._draw_image(sample, truth, drawn) if shown else (0, 0)
        for number, run in enumerate(self.group.runs):
            table = self.tables[number][place]
            if shown:
                # An image that another folder's run does not have keeps its place.
                drawn.columns[run_file(number)] = dict.fromkeys(RUN_COLUMNS)
                drawn.outlines[f"{run_file(number)}-masks"] = None
            if pd.isna(table["result"]) or not (shown or (truth and run.own)):
                continue
            final = read_mask(run.file("anomaly_images_thresholded", str(sample["sample_id"]), ".png"))
            seg_f1 = None
            if truth:
                scaled = resize_mask(final, *truth.mask.shape)
                seg_f1 = segmentation_metrics(SegmentationCounts.of(scaled, truth.mask))["seg_f1"]
                if run.own:
                    drawn.regions[run.name] = truth.covered(sample, scaled)
            if shown:
                self._draw_run(number, run, sample, table, final, size, drawn)
                drawn.columns[run_file(number)] = {**drawn.columns[run_file(number)], "segF1": seg_f1}
        return drawn

    def _draw_image(self, sample: Record, truth: _Truth | None, drawn: _Drawn) -> tuple[int, int]:
        """Draw what all runs share; the (height, width) of its picture."""
        image = read_image(self.root / sample["image"])
        height, width = pictures.thumbnail_size(*image.shape[:2])
        (self.folder / "images" / f"{int(sample['row'])}.jpg").write_bytes(pictures.draw_image(image, height, width))
        link = Path(os.path.relpath(self.root / sample["image"], self.page.parent)).as_posix()
        drawn.columns["samples"] = {
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
        }
        drawn.outlines["truth"] = outline(truth.mask, height, width).compact() if truth else None
        return height, width

    def _draw_run(
        self,
        number: int,
        run: Run,
        sample: Record,
        table: Record,
        final: np.ndarray,
        size: tuple[int, int],
        drawn: _Drawn,
    ) -> None:
        """Draw what one run says of an image."""
        name = str(sample["sample_id"])
        anomaly_map = read_map(run.file("anomaly_images", name, ".tiff"))
        low, high = float(anomaly_map.min()), float(anomaly_map.max())
        ends = (low, high) if self.vis == "single" else (0.0, pictures.HEAT_RANGE)
        heat = pictures.draw_heatmap(anomaly_map, *size, low=ends[0], high=ends[1])
        (self.folder / "images" / f"{int(sample['row'])}-{run_file(number)}.jpg").write_bytes(heat)
        drawn.columns[run_file(number)] = {
            "result": table["result"],
            "score": float(table["rescored"]),
            "threshold": float(table["threshold"]),
            "meanStd": _number(table["mean_std"]),
            "mebin": _number(table["mebin"]),
            "defects": int(table["defects"]),
            "stableFirst": _number(table["stable_first"]),
            "stableLast": _number(table["stable_last"]),
            "low": low,
            "high": high,
        }
        coarse = read_mask(run.file("coarse_masks", name, ".png"))
        drawn.outlines[f"{run_file(number)}-masks"] = [outline(mask, *size).compact() for mask in (coarse, final)]


def run_file(number: int) -> str:
    """Name of the data file of a group's run, and end of its heatmaps' names."""
    return f"run{number + 1}"


def write_script(path: Path, name: str, content: Any) -> None:
    """A data file that the page loads by a script element, since a page on disk may not fetch others."""
    text = json.dumps(content, separators=(",", ":"), allow_nan=False)
    path.write_text(f"robis.take({json.dumps(name)},{text});\n", encoding="ascii", newline="\n")


def _write_data(folder: Path, name: str, group: Group, content: Any) -> None:
    write_script(folder / f"{name}.js", f"{group.folder}/{name}", content)


def _records(table: pd.DataFrame) -> list[Record]:
    return [{str(name): value for name, value in row.items()} for row in table.to_dict("records")]


def _no_regions() -> pd.DataFrame:
    columns = {"sample_id": "str", "row": "Int64", "area": "int64", "covered": "float64"}
    return pd.DataFrame({name: pd.Series(dtype=dtype) for name, dtype in columns.items()})


def _number(value: Any) -> float | None:
    return None if pd.isna(value) else float(value)
