"""Reading label files: their structure is checked, and mistakes are named by file and key."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path, PurePosixPath
from typing import Any, TypeVar

import numpy as np
from pydantic import TypeAdapter, ValidationError

from robis.errors import DataError, first_few
from robis.io.text import EncodingError, decoded
from robis.labels.images import KnownImages
from robis.labels.model import LabeledImage

T = TypeVar("T")
POLYGONS, MASKS = "polygons", "masks"


@dataclass(frozen=True)
class Drawing:
    """How regions are written.

    Attributes:
        shapes: POLYGONS, or MASKS where the format has run lengths or pictures of pixels.
        tolerance: of polygons, in pixels; see `polygon_of`.
        image_prefix: what stands before an image's path in the label file.
    """

    shapes: str
    tolerance: float = 0.0
    image_prefix: str = ""


@dataclass(frozen=True)
class Format:
    """A label format.

    Attributes:
        write: takes the images, the names of all classes, what to write (`target`), and how regions are drawn.
        read: takes the file or folder and the images that it may name; leaves out images with problems, which
            `KnownImages` notes.
        shapes: what it can hold, the usual kind first.
        target: name of what is written; a folder where it has no suffix.
        about: what it is, for `--help`.
    """

    write: Callable[[Iterator[LabeledImage], Sequence[str], Path, Drawing], None]
    read: Callable[[Path, KnownImages], Iterator[LabeledImage]]
    shapes: tuple[str, ...]
    target: str
    about: str


def read_json(path: Path, kind: type[T]) -> T:
    """Read JSON of a known structure. Raises DataError that names the keys that are missing or wrong."""
    return validated(load_json(path), kind, path)


def load_json(path: Path) -> Any:
    """Read JSON. Raises DataError where the file is none."""
    try:
        return json.loads(read_text(path))
    except ValueError as error:
        raise DataError(f"{path}: cannot be read as JSON ({error}). Export the labels again.") from error


def validated(values: Any, kind: type[T], path: Path) -> T:
    """The values of a file as a known structure. Raises DataError that names the keys that are missing or wrong."""
    try:
        return TypeAdapter(kind).validate_python(values)
    except ValidationError as error:
        lines = [
            f"{'.'.join(map(str, problem['loc'])) or 'the file'}: {_in_words(problem)}" for problem in error.errors()
        ]
        raise DataError(f"{path}: not of the expected structure.\n{first_few(lines)}") from error


def read_text(path: Path) -> str:
    """The text of a label file. Raises DataError."""
    try:
        return decoded(path.read_bytes())
    except EncodingError as error:
        raise DataError(error.at(path)) from error
    except OSError as error:
        raise DataError(f"{path}: cannot be read ({error.strerror}). Expected a file of labels.") from error


def write_json(path: Path, values: Any) -> None:
    """Write JSON as labeling tools do: one file, letters of all languages as they are."""
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(json.dumps(values, ensure_ascii=False), encoding="utf-8")


def label_file(target: Path, image: str, suffix: str) -> Path:
    """Where the label file of an image lies, in the same folders below `target`, wherever the image lies.

    Raises DataError where another image has it already.
    """
    parts = [part for part in PurePosixPath(image).with_suffix(suffix).parts if part not in ("/", "..")]
    file = target.joinpath(*parts)
    if file.exists():
        raise DataError(
            f"{image}: another image has the same path but for its suffix, and formats with a file per image know them "
            f"apart by it alone. Choose a format of one file, such as coco."
        )
    file.parent.mkdir(parents=True, exist_ok=True)
    return file


def points_of(numbers: Sequence[float], where: str) -> np.ndarray:
    """x, y, x, y, ... as (N, 2). Raises DataError for an odd number of them, or fewer than three points."""
    if len(numbers) % 2 or len(numbers) < 6:
        raise DataError(f"{where}: a polygon of {len(numbers)} numbers; expected x and y of three points or more.")
    points = np.asarray(numbers, np.float64).reshape(-1, 2)
    if not np.isfinite(points).all():
        raise DataError(f"{where}: a polygon with coordinates that are no numbers.")
    return points


def rounded(points: np.ndarray, digits: int = 3) -> list[list[float]]:
    """Points for a text file; whole numbers as such."""
    return [
        [int(value) if value == int(value) else round(value, digits) for value in point] for point in points.tolist()
    ]


def files_below(folder: Path, suffix: str) -> list[Path]:
    """The label files of a folder and those below it, sorted. Raises DataError where there is none."""
    if files := sorted(path for path in folder.rglob(f"*{suffix}") if not path.name.startswith(".")):
        return files
    what = "holds none" if folder.is_dir() else "is not a folder"
    raise DataError(f"{folder}: {what}. Expected a folder with {suffix} files, one per image.")


def _in_words(problem: Any) -> str:
    if problem["type"] == "missing":
        return "the key is missing"
    return f"{problem['msg']}, found {str(problem['input'])[:60]!r}"
