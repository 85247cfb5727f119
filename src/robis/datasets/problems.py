"""What can be wrong with a data set, listed by kind: how many problems, the first files, and what to do."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass

from robis.datasets.words import NORMAL
from robis.errors import DataError, first_few
from robis.io.images import IMAGE_SUFFIXES


@dataclass(frozen=True)
class Kind:
    """A kind of problem in words, singular and plural, and what to do."""

    singular: str
    plural: str
    cure: str


@dataclass(frozen=True)
class Problem:
    """One problem: `text` names the file or the line, and what is wrong there.

    Attributes:
        kind: what kind of problem it is.
        text: the file or the line of a table, and what is wrong there.
        line: the line or row of a table; 0 for other files.
        files: the files concerned where `text` names only some of them.
    """

    kind: Kind
    text: str
    line: int = 0
    files: tuple[str, ...] = ()


UNREADABLE_IMAGE = Kind("image cannot be read", "images cannot be read", "Replace the files, or take them out")
UNREADABLE_MASK = Kind("mask cannot be read", "masks cannot be read", "Replace the files")
MASK_SIZE = Kind(
    "mask is of another size than its image", "masks are of another size than their images", "Make both the same"
)
EMPTY_MASK = Kind(
    "mask of a defective image has no defect pixel",
    "masks of defective images have no defect pixel",
    "Mark the defects, or move the images to good",
)
MARKED_NORMAL = Kind(
    "mask of a normal image has defect pixels",
    "masks of normal images have defect pixels",
    "Correct the labels or the masks",
)
MISSING_MASK = Kind(
    "defective image has no mask",
    "defective images have no mask",
    "Add the masks where they are looked for, or move the images to good",
)
UNREADABLE_IGNORE = Kind(
    "mask of ignored pixels cannot be read", "masks of ignored pixels cannot be read", "Replace the files"
)
IGNORE_SIZE = Kind(
    "mask of ignored pixels is of another size than its image",
    "masks of ignored pixels are of another size than their images",
    "Make both the same",
)
ALL_IGNORED = Kind(
    "image is ignored completely",
    "images are ignored completely",
    "Pixels above 0 are ignored: invert the masks of dataset.ignore, or take the images out",
)
SPLIT = Kind("split cannot be listed", "splits cannot be listed", "Fix each problem below")
EMPTY_CATEGORY = Kind(
    "category has no images", "categories have no images", "Add some where the layout has them, or take the folders out"
)
NAME = Kind("line has an unusable name", "lines have unusable names", "Rename the category or split")
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
    "file is not an image by its name", "files are not images by their names", f"Expected {', '.join(IMAGE_SUFFIXES)}"
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
    "image would share the names of another image's results",
    "images would share the names of other images' results",
    "Results are named after images without their suffix. Rename one of each pair",
)
SHARED_MASK = Kind("mask is given for two images", "masks are given for two images", "Give each image its own")
ONE_MASK = Kind(
    "mask would be that of two images", "masks would be those of two images", "Put masks into one folder per defect"
)
FILE_NAME = Kind(
    "image has a name that results cannot have", "images have names that results cannot have", "Rename the files"
)
TOO_BRIGHT = Kind(
    "image has values above white",
    "images have values above white",
    "Set dataset.bit_depth to the number of bits that the camera gives, or to null",
)
PLAN = Kind("mistake stops the plan of this config", "mistakes stop the plan of this config", "Fix each problem below")

# What can be used, but is likely to be a mistake.
UNUSED_IMAGE = Kind("image is not used", "images are not used", "Move or convert the files, or ignore this")
UNPAIRED_MASK = Kind(
    "mask belongs to no image", "masks belong to no image", "Give each the name of its image, or ignore this"
)
UNREAD_FOLDER = Kind(
    "folder of images is not read", "folders of images are not read", "Rename the folders, or ignore this"
)
NO_NORMAL = Kind(
    "labeled split has no normal images",
    "labeled splits have no normal images",
    f"Every folder counts as a kind of defect; one named {', '.join(NORMAL[:4])} or the like holds normal images",
)
LEARNED_TOO = Kind(
    "image to inspect is also one to learn from",
    "images to inspect are also images to learn from",
    "Metrics come out too good. Take them out of one of the splits",
)
IDENTICAL = Kind(
    "image is there more than once", "images are there more than once", "Keep one of each unless this is intended"
)
LOSSY_MASK = Kind(
    "mask was saved with loss",
    "masks were saved with loss",
    "JPEG and lossy WebP leave gray around defects, which then counts as defective. Save masks as PNG",
)
MANY_LEVELS = Kind(
    "mask has many gray levels",
    "masks have many gray levels",
    "Every pixel above 0 counts as defective, soft edges included. Save masks with one value per kind of defect",
)
NEARLY_ALL = Kind(
    "mask marks nearly all of its image",
    "masks mark nearly all of their images",
    "Invert the masks if black is defective",
)
EMPTY_IGNORE = Kind(
    "mask of ignored pixels ignores nothing",
    "masks of ignored pixels ignore nothing",
    "Pixels above 0 are ignored, and transparency does not count. Paint the region white",
)
LOSSY_IGNORE = Kind(
    "mask of ignored pixels was saved with loss",
    "masks of ignored pixels were saved with loss",
    "JPEG and lossy WebP leave gray around regions, which is then ignored too. Save the masks as PNG",
)
IGNORED_DEFECT = Kind(
    "defective image has its defects in ignored pixels alone",
    "defective images have their defects in ignored pixels alone",
    "They stay labeled as anomalous, and no mask can show why. Move them to good, or ignore less",
)
TOO_DARK = Kind(
    "split of images uses little of its range",
    "splits of images use little of their range",
    "They look dark. Set dataset.bit_depth, such as 12 for cameras of 12 bits",
)
MASK_AS_IMAGE = Kind(
    "mask is used as an image", "masks are used as images", "Move the masks to where the layout reads them"
)


class ProblemsError(DataError):
    """Problems of one file or data set: the first few of each kind; `problems` holds all."""

    def __init__(self, where: str, problems: Sequence[Problem], limit: int | None = 5) -> None:
        self.where, self.problems = where, list(problems)
        count = f"{len(problems)} problem{'s' if len(problems) > 1 else ''}"
        super().__init__(f"{where}: {count}:\n{grouped(problems, limit)}")


def grouped(problems: Iterable[Problem], limit: int | None = 5) -> str:
    """List problems by kind: how many there are of it, what to do, and the first `limit` of them, one a line.

    With None all of them are listed, with all their files.
    """
    by_kind: dict[Kind, list[str]] = {}
    for problem in sorted(problems, key=lambda problem: problem.line):
        files = [f"  {file}" for file in problem.files] if limit is None else []
        by_kind.setdefault(problem.kind, []).append("\n  ".join([problem.text, *files]))
    return "\n".join(
        f"{len(texts)} {kind.singular if len(texts) == 1 else kind.plural}. {kind.cure}:\n"
        f"{first_few(texts, limit or len(texts))}"
        for kind, texts in by_kind.items()
    )
