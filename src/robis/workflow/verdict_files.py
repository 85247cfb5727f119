"""Verdicts of people on images and regions, as the report saves them, and what they say together."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path

from robis.errors import DataError, one_of
from robis.io.csv_rows import read_rows

DEFECT, FALSE_ALARM = "defect", "false alarm"
GOOD, DEFECTIVE = ("good", FALSE_ALARM), (DEFECT, "missed")
VERDICTS = (DEFECT, FALSE_ALARM, "missed", "good", "unsure")
COLUMNS = ("category", "split", "sample_id", "run", "x", "y", "width", "height", "verdict", "note", "reviewer")

# Category, split and sample id.
Image = tuple[str, str, str]
# x, y, width and height in image pixels.
Box = tuple[int, int, int, int]


@dataclass(frozen=True)
class Verdict:
    """What a reviewer says of an image, or of a region of a run's final mask.

    Attributes:
        image: category, split and sample id.
        run: whose region it is; empty for the image.
        box: of the region; None for the image.
        verdict: one of VERDICTS; empty where there is only a note.
        place: file and line.
    """

    image: Image
    run: str
    box: Box | None
    verdict: str
    place: str


def read_verdicts(path: Path) -> list[Verdict]:
    """Read a file that the report saved. Raises DataError that names the line and what is wrong."""
    rows = read_rows(path, COLUMNS, expected="Expected verdicts.csv, saved in a report.")
    return [_verdict(cells, f"{path}, line {line}") for line, cells in rows]


def _verdict(cells: Mapping[str, str], place: str) -> Verdict:
    if cells["verdict"] and cells["verdict"] not in VERDICTS:
        raise DataError(f"{place}: verdict {cells['verdict']!r}. {one_of(cells['verdict'], VERDICTS)}")
    sides = [cells[name] for name in ("x", "y", "width", "height")]
    if any(sides) and not all(side.isdecimal() for side in sides):
        raise DataError(f"{place}: found the box {', '.join(sides)}; expected four whole numbers of pixels, or none.")
    x, y, width, height = (int(side or 0) for side in sides)
    image = (cells["category"], cells["split"], cells["sample_id"])
    if not any(sides):
        # On the image, whatever run was shown.
        return Verdict(image, "", None, cells["verdict"], place)
    if not cells["run"]:
        raise DataError(f"{place}: a box, but the column run is empty; expected the run whose mask has this region.")
    return Verdict(image, cells["run"], (x, y, width, height), cells["verdict"], place)


@dataclass
class Regions:
    """Judged regions of one run's final mask of an image."""

    defects: list[Box] = field(default_factory=list)
    false_alarms: list[Box] = field(default_factory=list)


@dataclass
class Decisions:
    """What the verdicts of all reviewers say together.

    Attributes:
        good: images without a defect.
        defective: images with a defect.
        regions: image -> its judged regions by run, where no verdict contradicts them.
        open: image -> why its label stays, in words.
    """

    good: list[Image] = field(default_factory=list)
    defective: list[Image] = field(default_factory=list)
    regions: dict[Image, dict[str, Regions]] = field(default_factory=dict)
    open: dict[Image, str] = field(default_factory=dict)


def decide(verdicts: Sequence[Verdict]) -> Decisions:
    """Join verdicts: an image follows its own verdict; without one, a region that is a defect makes it defective.

    Nothing follows for images on which reviewers differ, that contradict their regions, or that are unsure.
    """
    of_image: dict[Image, list[Verdict]] = defaultdict(list)
    for verdict in verdicts:
        if verdict.verdict:
            of_image[verdict.image].append(verdict)
    decisions = Decisions()
    for image, given in of_image.items():
        said: dict[tuple[str, Box | None], set[str]] = defaultdict(set)
        for verdict in given:
            said[verdict.run, verdict.box].add(verdict.verdict)
        _decide(image, said, decisions)
    return decisions


def _decide(image: Image, said: Mapping[tuple[str, Box | None], set[str]], decisions: Decisions) -> None:
    for texts in said.values():
        if len(texts) > 1:
            decisions.open[image] = f"reviewers differ: {' and '.join(sorted(texts))}"
            return
    verdicts = {subject: next(iter(texts)) for subject, texts in said.items()}
    own = next((verdict for (_, box), verdict in verdicts.items() if box is None), "")
    regions: dict[str, Regions] = defaultdict(Regions)
    for (run, box), verdict in verdicts.items():
        if box is not None and verdict == DEFECT:
            regions[run].defects.append(box)
        if box is not None and verdict == FALSE_ALARM:
            regions[run].false_alarms.append(box)
    has_defect = any(of_run.defects for of_run in regions.values())
    if own in GOOD and has_defect:
        decisions.open[image] = f"the image is judged {own}, but a region of it {DEFECT}"
        return
    decisions.regions[image] = dict(regions)
    if own in GOOD:
        decisions.good.append(image)
    elif own in DEFECTIVE or (not own and has_defect):
        decisions.defective.append(image)
    else:
        decisions.open[image] = "unsure" if own else f"no verdict on the image, and on no region {DEFECT}"
