"""What the report shows of the clusters of regions: counts, kinds of defects, and a sheet of examples for each."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pandas as pd

from robis.io.damage import damaged, why_unreadable
from robis.io.images import read_image
from robis.io.tables import as_written
from robis.io.threads import threaded
from robis.report.crops import draw_region, read_region
from robis.report.inputs import PageFacts, RunFiles
from robis.report.pictures import draw_image
from robis.report.runs import Group

STAGE = "cluster_regions"
# Files in the folder of the stage, and the columns that they must have.
REGIONS, MEASURES = "regions.csv", "measures.csv"
TEXT = ("split", "sample_id", "image", "kind")
NUMBERS = ("cluster", "rank", "region", "x", "y", "width", "height")
MEASURED = ("silhouette", "items", "purity", "nmi", "largest_kind", "purity_by_chance", "nmi_by_chance")
# Of a cluster.
MOST_EXAMPLES = 8


@dataclass(frozen=True)
class Example:
    """A region on a sheet.

    Attributes:
        picture: address of its picture.
        width, height: of the picture.
        alt: what it shows, in words.
        place: numbers from 0 of the image's group, run and row in the gallery, and of the region; None for an image
            that is not in the gallery.
    """

    picture: str
    width: int
    height: int
    alt: str
    place: Mapping[str, int] | None


@dataclass(frozen=True)
class Card:
    """A cluster: its number, how many regions of how many images it has, its kinds (kind, count), and examples."""

    number: int
    regions: int
    images: int
    kinds: list[tuple[str, int]]
    examples: list[Example]


@dataclass(frozen=True)
class ClusterPart:
    """The clusters of a run and category; `table`: address of the CSV of regions, `sentences`: about all of them."""

    run: str
    category: str
    table: str
    regions: int
    sentences: list[str]
    cards: list[Card]


@dataclass(frozen=True)
class _Sheet:
    """The examples of a run and category: where they come from, and where their pictures go.

    Attributes:
        facts: has the root of the images.
        splits: split -> group, and number of the run in it.
        folder: for the pictures.
        link: its address.
    """

    facts: PageFacts
    splits: Mapping[str, tuple[Group, int]]
    folder: Path
    link: str

    def draw(self, row: Mapping[Any, Any]) -> Example:
        """Draw a region, given its row in the table."""
        group, number = self.splits[row["split"]]
        image = read_image(self.facts.root / row["image"], bit_depth=self.facts.bit_depth)
        mask = group.runs[number].masks / f"{row['sample_id']}.png"
        region = read_region(mask, row["region"], *image.shape[:2])
        picture = draw_region(image, region, (row["x"], row["y"], row["width"], row["height"]))
        height, width = picture.shape[:2]
        name = f"{row['cluster']}-{row['rank']}.jpg"
        (self.folder / name).write_bytes(draw_image(picture, height, width))
        kind = f", {row['kind']}" if row["kind"] else ""
        alt = f"Region {row['region']} of {row['split']}/{row['sample_id']}{kind}"
        return Example(f"{self.link}/{name}", width, height, alt, _place(group, number, row))


def cluster_parts(
    groups: Sequence[Group], facts: PageFacts, assets: Path, relative: Callable[[Path], str], threads: int
) -> list[ClusterPart]:
    """Read the tables of clusters and draw the examples.

    Args:
        groups: the report's groups; the clusters of a run and category are named in one of its splits.
        facts: has the root of the images.
        assets: folder to write pictures to, as clusters/RUN/CATEGORY/CLUSTER-RANK.jpg.
        relative: gives the address of a path as the page links it; of a path below `assets`, that of the folder.
        threads: images that are opened at the same time.

    Raises:
        DataError: a table, image or mask is missing or damaged, or they do not fit together.
    """
    parts = []
    for run in [run for group in groups for run in group.runs if run.clusters]:
        folder = assets / "clusters" / run.name / run.category
        folder.mkdir(parents=True)
        sheet = _Sheet(facts, _splits(groups, run), folder, relative(folder))
        parts.append(_part(run, sheet, relative, threads))
    return parts


def _splits(groups: Sequence[Group], run: RunFiles) -> dict[str, tuple[Group, int]]:
    return {
        group.split: (group, number)
        for group in groups
        for number, other in enumerate(group.runs)
        if (other.name, other.category, other.compared) == (run.name, run.category, False)
    }


def _place(group: Group, number: int, row: Mapping[Any, Any]) -> dict[str, int] | None:
    samples = group.samples
    rows = samples.loc[samples["sample_id"] == row["sample_id"], "row"].dropna()
    if rows.empty:
        return None
    return {"group": group.number - 1, "run": number, "row": int(rows.iloc[0]), "region": row["region"] - 1}


def _part(run: RunFiles, sheet: _Sheet, relative: Callable[[Path], str], threads: int) -> ClusterPart:
    assert run.clusters is not None  # by the choice of runs
    path = run.clusters / REGIONS
    table, measures = read_regions(path), _read(run.clusters / MEASURES, (), MEASURED)
    if unknown := set(table["split"]) - set(sheet.splits):
        raise damaged(path, f"the split {min(unknown)!r}; expected {' or '.join(sheet.splits)}", STAGE)
    shown = table[table["rank"] <= MOST_EXAMPLES].to_dict("records")
    examples = list(zip(shown, threaded(sheet.draw, shown, threads), strict=True))
    cards = [
        _card(number, table[table["cluster"] == number], [made for row, made in examples if row["cluster"] == number])
        for number in sorted(set(table["cluster"].tolist()))
    ]
    said = sentences(measures.iloc[0].to_dict(), table["kind"])
    return ClusterPart(run.name, run.category, relative(path), len(table), said, cards)


def _card(number: int, table: pd.DataFrame, examples: list[Example]) -> Card:
    counts = table["kind"].replace("", "unknown").value_counts()
    kinds = sorted(counts.items(), key=lambda pair: (-pair[1], pair[0])) if table["kind"].any() else []
    images = len(table[["split", "sample_id"]].drop_duplicates())
    return Card(number, len(table), images, [(str(kind), int(count)) for kind, count in kinds], examples)


def sentences(measures: Mapping[Any, Any], kinds: pd.Series) -> list[str]:
    """What the measures of clusters say, and what they mean, given the kind of each region ("" for unknown)."""
    said = []
    if not math.isnan(measures["silhouette"]):
        said.append(
            f"Mean silhouette {measures['silhouette']:.2f}: 1 where clusters lie far from each other, 0 where they "
            "pass into each other."
        )
    if not math.isnan(measures["nmi"]):
        names = ("largest_kind", "purity", "purity_by_chance")
        whole, share, chance = (f"{100 * measures[name]:.0f}" for name in names)
        said.append(
            f"Purity {share} %: the share of the {measures['items']:.0f} labeled regions that are of the most frequent "
            f"kind of their cluster. Random clusters of the same sizes: {chance} %, a single cluster: {whole} %."
        )
        said.append(
            f"NMI {measures['nmi']:.2f}: 0 where clusters tell nothing about the kind, 1 where each kind is a cluster. "
            f"Random clusters of the same sizes: {measures['nmi_by_chance']:.2f}."
        )
    elif kinds.any():
        said.append("All labeled regions are of one kind, so that purity and NMI would say nothing.")
    return said


def read_regions(path: Path) -> pd.DataFrame:
    """The table of regions, empty cells of text as "". Raises DataError when it is damaged."""
    table = _read(path, TEXT, NUMBERS)
    for name in TEXT:
        table[name] = table[name].map(as_written)
    return table


def _read(path: Path, text: Sequence[str], numbers: Sequence[str]) -> pd.DataFrame:
    try:
        empty = {name: [""] for name in numbers}
        table = pd.read_csv(path, dtype=dict.fromkeys(text, str), keep_default_na=False, na_values=empty)
    except (OSError, ValueError) as error:
        raise damaged(path, why_unreadable(path, error), STAGE) from error
    if missing := {*text, *numbers} - set(table):
        raise damaged(path, f"no column {', '.join(sorted(missing))}", STAGE)
    return table
