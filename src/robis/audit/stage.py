"""The audit of a category: one table of the images to learn from, in the order to look at them."""

from __future__ import annotations

import logging
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pandas as pd

from robis.audit.copies import find_copies
from robis.audit.findings import Audited, Finding, find, in_words, order, summary
from robis.audit.measures import Measures, measure
from robis.audit.unlike import Unlikeness, find_unlike
from robis.detectors.jobs import Compute
from robis.errors import DataError
from robis.io.progress import tracked
from robis.io.samples import IndexedSample, read_samples
from robis.io.tables import write_csv
from robis.io.threads import threaded
from robis.tiles.files import TileStore

log = logging.getLogger(__name__)

COLUMNS = {
    **{"rank": "int64", "image": "str", "split": "str", "reasons": "object"},
    **{"anomaly_rank": "int64", "anomaly_score": "float64"},
    **{"x": "int64", "y": "int64", "width": "int64", "height": "int64"},
    **{"duplicate_of": "object", "duplicate_split": "object", "distance": "float64"},
    **{"brightness": "float64", "dark": "float64", "bright": "float64", "sharpness": "float64"},
    **{"image_width": "int64", "image_height": "int64", "mode": "str"},
}


@dataclass(frozen=True)
class AuditFiles:
    """What an audit reads.

    Attributes:
        learned: sample tables of the splits to learn from.
        stores: their tiles, in the same order.
        inspected: sample tables of the splits to inspect.
    """

    learned: Sequence[Path]
    stores: Sequence[TileStore]
    inspected: Sequence[Path] = ()


def audit_category(
    output: Path,
    files: AuditFiles,
    root: Path,
    *,
    size: int,
    encoder: Mapping[str, Any],
    compute: Compute,
    bit_depth: int | None = None,
) -> None:
    """Write a row per image to learn from, with COLUMNS; docs/outputs.md explains them.

    Logs the first findings. Images are opened one at a time per thread.

    Args:
        output: the CSV to write.
        files: what to read.
        root: folder that the paths of the samples are relative to.
        size: side of a tile as the encoder takes it, in pixels.
        encoder: arguments of `build_encoder`.
        compute: how to compute.
        bit_depth: of images of 16 bits, see `read_image`.

    Raises:
        DataError: fewer than two images to learn from, or a file that cannot be read.
    """
    learned = [(number, sample) for number, path in enumerate(files.learned) for sample in read_samples(path)]
    if len(learned) < 2:
        raise DataError(f"{files.learned[0]}: found {len(learned)} image; an audit compares at least 2 images.")
    inspected = [sample for path in files.inspected for sample in read_samples(path)]
    samples = [*(sample for _, sample in learned), *inspected]
    measures = _measured(samples, root, bit_depth, compute.threads)
    unlike = find_unlike(files.stores, size, encoder=encoder, compute=compute, scratch=output)
    of_learned = [_clipped(unlike[store, sample.sample_id], sample) for store, sample in learned]
    images = [
        Audited(sample.image, sample.split, measured, place)
        for sample, measured, place in zip(samples, measures, [*of_learned, *[None] * len(inspected)], strict=True)
    ]
    pairs = find_copies([m.digest for m in measures], [m.small for m in measures], compute.threads)
    findings = find(images, pairs)
    write_csv(output, _table(images, findings))
    log.info("%s", "\n".join([*summary(images, findings), f"All images with reasons: {output}"]))


def _measured(samples: Sequence[IndexedSample], root: Path, bit_depth: int | None, threads: int) -> list[Measures]:
    measured = threaded(lambda sample: measure(root / sample.image, bit_depth, sample.ignored_pixels), samples, threads)
    return list(tracked(measured, len(samples), "images"))


def _clipped(unlike: Unlikeness, sample: IndexedSample) -> Unlikeness:
    """The part of the marked place that lies inside the image: windows may reach beyond it."""
    x, y, width, height = unlike.box
    left, top = min(x, sample.width - 1), min(y, sample.height - 1)
    right, bottom = min(x + width, sample.width), min(y + height, sample.height)
    return Unlikeness(unlike.score, (left, top, max(1, right - left), max(1, bottom - top)))


def _table(images: Sequence[Audited], findings: Mapping[int, Finding]) -> pd.DataFrame:
    table = pd.DataFrame(_rows(images, findings), columns=list(COLUMNS))
    table["anomaly_rank"] = table["anomaly_score"].rank(method="min", ascending=False)
    return table.astype(COLUMNS)


def _rows(images: Sequence[Audited], findings: Mapping[int, Finding]) -> Iterator[dict[str, Any]]:
    for rank, number in enumerate(order(images, findings), start=1):
        image, finding, measures = images[number], findings[number], images[number].measures
        assert image.unlike is not None  # of every image to learn from
        yield {
            **{"rank": rank, "image": image.image, "split": image.split, "reasons": in_words(finding)},
            "anomaly_score": image.unlike.score,
            **dict(zip(("x", "y", "width", "height"), image.unlike.box, strict=True)),
            "duplicate_of": finding.copy.image if finding.copy else None,
            "duplicate_split": finding.copy.split if finding.copy else None,
            "distance": finding.distance,
            **{name: getattr(measures, name) for name in ("brightness", "dark", "bright", "sharpness", "mode")},
            **{"image_width": measures.width, "image_height": measures.height},
        }
