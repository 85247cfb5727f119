"""What can be wrong with a data set, told all at once: each kind with its number, its first files and its cure."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass

from robis.errors import DataError, first_few


@dataclass(frozen=True)
class Kind:
    """A kind of problem in words, for one and for many of it, and what to do."""

    one: str
    many: str
    cure: str


@dataclass(frozen=True)
class Problem:
    """One problem: `text` names the file or the line, and what was found there; `line` is that of a table."""

    kind: Kind
    text: str
    line: int = 0


UNREADABLE_IMAGE = Kind("image cannot be read", "images cannot be read", "Replace the files, or take them out")
UNREADABLE_MASK = Kind("mask cannot be read", "masks cannot be read", "Replace the files")
MASK_SIZE = Kind(
    "mask is of another size than its image", "masks are of another size than their images", "Make both the same"
)
EMPTY_MASK = Kind(
    "mask of a defective image has no defect pixel",
    "masks of defective images have no defect pixel",
    "Mark the defects, or count the images as normal",
)
MARKED_NORMAL = Kind(
    "mask of a normal image has defect pixels",
    "masks of normal images have defect pixels",
    "Count the images as defective, or take the masks out",
)
MISSING_MASK = Kind(
    "defective image has no mask",
    "defective images have no mask",
    "Add the masks, or count the images as normal",
)
SPLIT = Kind("split cannot be listed", "splits cannot be listed", "Mend what is said of each")
EMPTY_CATEGORY = Kind(
    "category has no images", "categories have no images", "Add some where the layout has them, or take the folders out"
)
NAME = Kind("line has an unusable name", "lines have unusable names", "Name category and split as folders are named")
CELLS = Kind(
    "line has another number of cells than the header",
    "lines have another number of cells than the header",
    "Put cells that hold the separator in quotes",
)
NO_IMAGE = Kind("line names no image", "lines name no image", "Fill the cell, or delete the line")
OUTSIDE = Kind(
    "path leads out of dataset.root",
    "paths lead out of dataset.root",
    "Write them relative to it, or set dataset.allow_outside_root: true",
)
NOT_AN_IMAGE = Kind(
    "file is no image by its name", "files are no images by their names", "Give .png, .jpg, .bmp or .tif"
)
NO_FILE = Kind(
    "file does not exist", "files do not exist", "Paths are relative to dataset.root, with / between folders"
)
LABEL = Kind(
    "label is unknown",
    "labels are unknown",
    "Write normal, good or 0; anomalous, anomaly, bad or 1; or nothing",
)
DEFECT = Kind(
    "defect does not fit its label", "defects do not fit their labels", "Name defects of anomalous images only"
)
LEARNED_DEFECT = Kind(
    "image to learn from is labeled anomalous",
    "images to learn from are labeled anomalous",
    "Move them to a split that is inspected",
)
TWICE = Kind("image is listed twice", "images are listed twice", "Keep one of the lines")
SAME_ID = Kind(
    "image would share the names of another one's results",
    "images would share the names of others' results",
    "Rename one of each pair",
)
SHARED_MASK = Kind("mask is given for two images", "masks are given for two images", "Give each image its own")


class ProblemsError(DataError):
    """Problems of one file or data set: the first few of each kind; `problems` holds all."""

    def __init__(self, where: str, problems: Sequence[Problem], limit: int = 5) -> None:
        self.where, self.problems = where, list(problems)
        count = f"{len(problems)} problem{'s' if len(problems) > 1 else ''}"
        super().__init__(f"{where}: {count}:\n{grouped(problems, limit)}")


def grouped(problems: Iterable[Problem], limit: int = 5) -> str:
    """List problems by kind: how many there are of it, what to do, and the first `limit` of them, one a line."""
    by_kind: dict[Kind, list[str]] = {}
    for problem in sorted(problems, key=lambda problem: problem.line):
        by_kind.setdefault(problem.kind, []).append(problem.text)
    return "\n".join(
        f"{len(texts)} {kind.one if len(texts) == 1 else kind.many}. {kind.cure}:\n{first_few(texts, limit)}"
        for kind, texts in by_kind.items()
    )
