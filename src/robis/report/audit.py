"""What the report shows of the audit of good images: those with findings, then the least alike, with pictures."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any
from urllib.parse import quote

import pandas as pd

from robis.io.damage import damaged, why_unreadable
from robis.io.images import read_image
from robis.io.tables import as_written
from robis.io.threads import threaded
from robis.report.inputs import PageFacts
from robis.report.pictures import draw_image, thumbnail_size

# Images of a category: at most, and at least so many where fewer have findings.
MOST, FEWEST = 60, 12
# Of the pictures, in pixels.
LONGEST_SIDE = 360
NEEDED = {"rank", "image", "split", "reasons", "anomaly_rank", "x", "y", "width", "height", "duplicate_of"} | {
    "image_width",
    "image_height",
}


@dataclass(frozen=True)
class AuditPart:
    """The audit of a category on the page.

    Attributes:
        category: which.
        table: address of its CSV.
        images, flagged: number of images to learn from, and of those with findings.
        rows: for each image that is shown its `rank`, `image`, `split`, `reasons`, `anomaly_rank`, `picture`, `width`
            and `height` of the picture, the marked place as `left`, `top`, `wide` and `high` in percent, and
            `copy_of` and `copy_picture`, None where it is no copy.
    """

    category: str
    table: str
    images: int
    flagged: int
    rows: list[dict[str, Any]]


def audit_parts(facts: PageFacts, assets: Path, link: str, links: Mapping[str, str], threads: int) -> list[AuditPart]:
    """Read the audits' tables and draw the pictures.

    Args:
        facts: has the audits, and the root of the images.
        assets: folder to write pictures to, as audit/CATEGORY/NUMBER.jpg.
        link: its address as the page links it.
        links: category -> address of its CSV.
        threads: images that are opened at the same time.

    Raises:
        DataError: a table is damaged, or an image cannot be read.
    """
    return [
        _part(category, links[category], read_audit(path), _Pictures(facts, assets, link, category), threads)
        for category, path in facts.audits.items()
    ]


def read_audit(path: Path) -> pd.DataFrame:
    """The table of an audit, empty cells of text as "". Raises DataError when it is damaged."""
    try:
        text = dict.fromkeys(("image", "split", "reasons", "duplicate_of", "duplicate_split", "mode"), str)
        table = pd.read_csv(path, dtype=text, keep_default_na=False, na_values={"distance": [""]})
    except (OSError, ValueError) as error:
        raise damaged(path, why_unreadable(path, error), "audit_images") from error
    if missing := NEEDED - set(table):
        raise damaged(path, f"no column {', '.join(sorted(missing))}", "audit_images")
    for name in ("image", "duplicate_of"):
        table[name] = table[name].map(as_written)
    return table


@dataclass(frozen=True)
class _Pictures:
    """Pictures of a category, each written once."""

    facts: PageFacts
    assets: Path
    link: str
    category: str

    def draw(self, name: str, image: str) -> tuple[str, int, int]:
        """Write a picture; its address, width and height."""
        pixels = read_image(self.facts.root / image, bit_depth=self.facts.bit_depth)
        height, width = thumbnail_size(*pixels.shape[:2])
        factor = min(1.0, LONGEST_SIDE / max(height, width))
        height, width = max(1, round(height * factor)), max(1, round(width * factor))
        folder = self.assets / "audit" / self.category
        folder.mkdir(parents=True, exist_ok=True)
        (folder / f"{name}.jpg").write_bytes(draw_image(pixels, height, width))
        return f"{self.link}/{quote(f'audit/{self.category}/{name}.jpg')}", width, height


def _part(category: str, link: str, table: pd.DataFrame, pictures: _Pictures, threads: int) -> AuditPart:
    flagged = int((table["reasons"] != "").sum())
    shown = table.head(min(MOST, max(flagged, FEWEST))).to_dict("records")
    rows = list(threaded(partial(_row, pictures), shown, threads))
    return AuditPart(category, link, len(table), flagged, rows)


def _row(pictures: _Pictures, row: Mapping[Any, Any]) -> dict[str, Any]:
    picture, width, height = pictures.draw(str(row["rank"]), row["image"])
    copy = row["duplicate_of"] or None
    return {
        **{name: row[name] for name in ("rank", "image", "split", "reasons", "anomaly_rank")},
        **{"picture": picture, "width": width, "height": height},
        **dict(_place(row)),
        "copy_of": copy,
        "copy_picture": pictures.draw(f"{row['rank']}-copy", copy) if copy else None,
    }


def _place(row: Mapping[Any, Any]) -> Iterator[tuple[str, str]]:
    """The marked place in percent of the image."""
    sides = (("left", "x", "image_width"), ("top", "y", "image_height"))
    sizes = (("wide", "width", "image_width"), ("high", "height", "image_height"))
    for name, value, whole in (*sides, *sizes):
        yield name, f"{100 * row[value] / row[whole]:.2f}"
