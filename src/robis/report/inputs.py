"""What a report is made from and where it goes: every file is named by the caller."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from robis.report.causes import Conditions
from robis.report.published import Literature


@dataclass(frozen=True)
class RunFiles:
    """The files of one run on one category and split.

    Attributes:
        name: the run, as the page shows it.
        category: the product.
        split: the split.
        samples: sample table of the category and split; runs that are shown together have the same one.
        maps: folder with an anomaly map per image, `{sample_id}.tiff`.
        thresholds: table of the stage `binarize`.
        coarse_masks: folder with a coarse mask per image, `{sample_id}.png`.
        masks: folder with a final mask per image, `{sample_id}.png`.
        scores: table of image scores.
        verdicts: table of the stage `judge`; None where no normal images are held out.
        held_out_scores: that stage's table of the scores of the held-out images; None as above.
        metrics: table of metrics; None where no label is known.
        curves: table of curves; None where no label is known.
        history: table of the training; None where nothing was trained.
        pack: folder of the run's pack, which is compared on this split; None where packs are not reported.
        detectability: folder of the stage `measure_detectability`; None where it is not reported, as for `pack`.
        regions, evidence: tables of the stage `describe_regions`; None where evidence is not reported.
        clusters: folder of the stage `cluster_regions`, which is of all splits; None where it is not reported, and for
            all splits but the first.
        masks_link: address of the folder of final masks from the report's folder, for readers of the report.
        compared: whether it is a run of another results folder (`report.compare`), which may lack images.
    """

    name: str
    category: str
    split: str
    samples: Path
    maps: Path
    thresholds: Path
    coarse_masks: Path
    masks: Path
    scores: Path
    verdicts: Path | None = None
    held_out_scores: Path | None = None
    metrics: Path | None = None
    curves: Path | None = None
    history: Path | None = None
    pack: Path | None = None
    detectability: Path | None = None
    regions: Path | None = None
    evidence: Path | None = None
    clusters: Path | None = None
    masks_link: str = ""
    compared: bool = False

    @property
    def part(self) -> tuple[str, str]:
        """Category and split."""
        return self.category, self.split


@dataclass(frozen=True)
class ReportFiles:
    """What a report writes.

    Attributes:
        page: HTML that needs neither network nor server.
        assets: folder beside the page, with its pictures and data.
        figures: folder CATEGORY/SPLIT with every figure as .svg and .png.
        tables: folder of .csv and .tex.
        overlays: folder RUN/CATEGORY/SPLIT of images with the outlines of their masks; empty where none are wanted.
        metrics: CSV of all metrics.
        workbook: the same as .xlsx, and the verdict on every image.
        images: CSV with the verdict on every image.
        summary: text that says how good the runs are.
    """

    page: Path
    assets: Path
    figures: Path
    tables: Path
    overlays: Path
    metrics: Path
    workbook: Path
    images: Path
    summary: Path


@dataclass(frozen=True)
class PageFacts:
    """What the page says of a run besides its results.

    Attributes:
        dataset: name of the dataset, the page's title.
        root: folder of the dataset, from which the sample tables' paths start.
        layout: of the dataset.
        encoder: the encoders, in words.
        config: the whole config, as YAML.
        setups: run -> dotted key -> value, for the keys that decide what compares with published results.
        literature: published results.
        notice: a warning at the top of the page.
        warnings: settings that do not fit the images, below it; a text may have several lines.
        conditions: run -> category -> under which conditions it was made.
        bit_depth: of images of 16 bits, see `read_image`.
        audits: category -> table of its audit, of those that are shown.
    """

    dataset: str
    root: Path
    layout: str
    encoder: str
    config: str
    setups: Mapping[str, Mapping[str, Any]]
    literature: Literature
    notice: str | None = None
    warnings: Sequence[str] = ()
    conditions: Mapping[str, Mapping[str, Conditions]] = field(default_factory=dict)
    bit_depth: int | None = None
    audits: Mapping[str, Path] = field(default_factory=dict)
