"""Layouts whose images are listed in a table, one row per image: `table` and `visa`.

The file is parsed once for all categories and splits. A plan checks all its rows, a job only its own.
"""

from __future__ import annotations

import csv
import os
import re
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path, PurePosixPath
from typing import Any, NamedTuple

from robis.datasets import problems
from robis.datasets.folders import has_images
from robis.datasets.problems import Kind, Problem, ProblemsError
from robis.datasets.samples import ANOMALOUS, LEARNED, NORMAL, Sample, Source
from robis.datasets.words import folded, is_anomalous, is_normal, is_unknown
from robis.errors import DataError
from robis.io.images import is_image, mask_files
from robis.io.names import composed, expanded, folder_problem, id_problem, on_disk
from robis.io.tables import read_table
from robis.io.text import EncodingError, decoded

PARQUET = (".parquet", ".pq")


@dataclass(frozen=True)
class Form:
    """What a layout's table is called and how it names things.

    Attributes:
        file: where the table lies below the root when the config names no other.
        category: the category's column.
        label_is_defect: whether every label but a normal one is the name of a defect; there is no column for it then.
        short_ids: whether an image's id is its folder and stem alone, not its whole path.
        splits: the only ones that a row may have; none: any.
    """

    file: str
    category: str = "category"
    label_is_defect: bool = False
    short_ids: bool = False
    splits: tuple[str, ...] = ()

    @property
    def columns(self) -> tuple[str, ...]:
        """Columns that the table must have."""
        return (self.category, "split", "image", "label", "mask")


TABLE = Form("samples.csv")
# Columns that a table with the names of TABLE may have besides.
OPTIONAL = ("defect", "sample_id")
VISA = Form("split_csv/1cls.csv", category="object", label_is_defect=True, short_ids=True, splits=("train", "test"))


class _Row(NamedTuple):
    """One row as text; `surplus` counts the cells that no column has a name for."""

    number: int
    surplus: int
    category: str
    split: str
    image: str
    label: str
    mask: str
    defect: str
    sample_id: str


_Rows = dict[tuple[str, str], list[_Row]]
_Report = Callable[[Kind, str], None]


def listed_categories(source: Source, form: Form) -> list[str]:
    """Categories of the table, sorted. Raises DataError that lists all that is wrong in any row."""
    path = _table_file(source, form)
    _check_all(source, form, _stamp(path))
    return sorted({category for category, _ in _rows(path, form, _stamp(path))})


def listed_splits(source: Source, form: Form) -> list[str]:
    """Splits of the table, in the order of their first rows."""
    path = _table_file(source, form)
    return list(dict.fromkeys(split for _, split in _rows(path, form, _stamp(path))))


def read_listed(source: Source, category: str, split: str, form: Form) -> list[Sample]:
    """Samples of one split. Raises DataError that lists all that is wrong in its rows."""
    path = _table_file(source, form)
    wrong: list[Problem] = []
    rows = _rows(path, form, _stamp(path)).get((category, split), [])
    samples = [sample for _, _, sample in _read_rows(source, form, rows, wrong)]
    _raise(path, wrong)
    return samples


def listed_files(source: Source, form: Form) -> set[str]:
    """All images and masks that the table names, as posix paths relative to the root with composed names."""
    path = _table_file(source, form)
    root = os.path.normpath(source.root.absolute())
    groups = _rows(path, form, _stamp(path)).values()
    named = {name for rows in groups for row in rows for name in (row.image, row.mask)}
    paths = [_path(source, root, name, lambda kind, text: None, may_be_folder=True) for name in named if name]
    files = [f"{path}/{file.name}" for path in paths if not is_image(path) for file in _files_of(source.root / path)]
    return {composed(path) for path in [*paths, *files]}


def _files_of(folder: Path) -> list[Path]:
    return mask_files(folder) if _is_folder(folder) and has_images(folder) else []


@lru_cache(maxsize=8)
def _check_all(source: Source, form: Form, stamp: object) -> None:
    """Check every row, and that its files are there."""
    path = _table_file(source, form)
    wrong: list[Problem] = []
    for rows in _rows(path, form, stamp).values():
        for row, place, sample in _read_rows(source, form, rows, wrong):
            missing = [] if _is_file(source.root / sample.image) else [sample.image]
            if sample.mask and not (_is_file(mask := source.root / sample.mask) or _files_of(mask)):
                missing.append(sample.mask)
            wrong += [Problem(problems.NO_FILE, f"{place}: {name}", row.number) for name in missing]
    _raise(path, wrong)


def _is_file(path: Path) -> bool:
    """Whether there is such a file that can be seen; a name that no file can have is none."""
    try:
        return path.is_file()
    except OSError:
        return False


def _raise(path: Path, wrong: Sequence[Problem]) -> None:
    if wrong:
        raise ProblemsError(str(path), wrong)


def _table_file(source: Source, form: Form) -> Path:
    return on_disk(source.root / expanded(source.table or form.file))


def _stamp(path: Path) -> tuple[int, ...]:
    """What changes when the file does."""
    try:
        status = os.stat(path)
    except OSError as error:
        raise DataError(
            f"{path}: cannot be read ({error.strerror}). Expected a table with one row per image there; "
            f"dataset.table names another file."
        ) from error
    return status.st_size, status.st_mtime_ns, status.st_ino


@lru_cache(maxsize=8)
def _rows(path: Path, form: Form, stamp: object) -> _Rows:
    """All rows by category and split."""
    rows: _Rows = {}
    for row in _parquet_rows(path, form) if path.suffix.lower() in PARQUET else _csv_rows(path, form):
        rows.setdefault((row.category, row.split), []).append(row)
    return rows


def _csv_rows(path: Path, form: Form) -> Iterator[_Row]:
    try:
        with path.open(newline="", encoding="utf-8-sig") as stream:
            # Spreadsheets separate cells by what their language has for lists.
            separator = max(",;\t", key=stream.readline().count)
            stream.seek(0)
            reader = csv.reader(stream, delimiter=separator, skipinitialspace=True)
            header = [name.strip() for name in next(reader, [])]
            row_of = _row_maker(path, header, form)
            for cells in reader:
                if any(cells):
                    yield row_of(reader.line_num, cells)
    except UnicodeDecodeError as error:
        raise DataError(_encoding_problem(path)) from error
    except (OSError, csv.Error) as error:
        raise DataError(f"{path}: cannot be read ({error}). Expected text in UTF-8, one row per image.") from error


def _encoding_problem(path: Path) -> str:
    """What is wrong with the encoding of a file that was read as UTF-8."""
    try:
        decoded(path.read_bytes())
    except EncodingError as error:
        return error.at(path)
    return f"{path}: cannot be read as UTF-8."


def _parquet_rows(path: Path, form: Form) -> Iterator[_Row]:
    table = read_table(path)
    row_of = _row_maker(path, [str(name) for name in table], form)
    columns = [[_text(value) for value in table.iloc[:, n].tolist()] for n in range(table.shape[1])]
    for number, cells in enumerate(zip(*columns, strict=True), start=1):
        yield row_of(number, cells)


def _text(value: Any) -> str:
    """A value as a CSV would have it: labels may be numbers or true and false, and what is empty NaN or None."""
    if value is None or str(value) in ("nan", "<NA>"):
        return ""
    is_whole = isinstance(value, bool) or (isinstance(value, float) and value.is_integer())
    return str(int(value)) if is_whole else str(value)


def _row_maker(path: Path, header: Sequence[str], form: Form) -> Callable[[int, Sequence[str]], _Row]:
    missing = [name for name in form.columns if name not in header]
    if missing:
        raise DataError(
            f"{path}: no column {', '.join(map(repr, missing))}; found {', '.join(header) or 'nothing'}; "
            f"expected {', '.join(form.columns)}."
        )
    if twice := [name for name in (*form.columns, *OPTIONAL) if header.count(name) > 1]:
        raise DataError(f"{path}: more than one column {', '.join(map(repr, twice))}; expected one each.")
    category, split, image, label, mask = (header.index(name) for name in form.columns)
    has_more = not form.label_is_defect
    defect, sample_id = (header.index(name) if name in header and has_more else None for name in OPTIONAL)
    width = len(header)

    def row_of(number: int, cells: Sequence[str]) -> _Row:
        surplus = len(cells) - width
        if surplus < 0:
            cells = [*cells, *[""] * -surplus]
        return _Row(
            number,
            max(0, surplus),
            composed(cells[category].strip()),
            composed(cells[split].strip()),
            cells[image],
            cells[label].strip(),
            cells[mask],
            "" if defect is None else composed(cells[defect].strip()),
            "" if sample_id is None else composed(cells[sample_id].strip()),
        )

    return row_of


def _read_rows(
    source: Source, form: Form, rows: Sequence[_Row], wrong: list[Problem]
) -> Iterator[tuple[_Row, str, Sample]]:
    """Samples of one category and split with their rows and places; what is wrong with the others joins `wrong`."""
    # By its letters alone: a link inside the root may lead anywhere.
    root = os.path.normpath(source.root.absolute())
    unit = "row" if _table_file(source, form).suffix.lower() in PARQUET else "line"
    by_id: dict[str, tuple[str, str]] = {}
    by_mask: dict[str, str] = {}
    for row in rows:
        place = f"{unit} {row.number}"
        before = len(wrong)

        def report(kind: Kind, text: str, place: str = place, line: int = row.number) -> None:
            wrong.append(Problem(kind, f"{place}: {text}", line))

        sample = _read_row(source, root, form, row, report)
        first, image = by_id.setdefault(sample.sample_id, (place, sample.image)) if sample.image else (place, "")
        if first != place and image == sample.image:
            report(problems.TWICE, f"{image}, as in {first}")
        elif first != place:
            report(problems.SAME_ID, f"{sample.image}, and {image} in {first}")
        elif sample.mask and sample.label != NORMAL and (other := by_mask.setdefault(sample.mask, place)) != place:
            report(problems.SHARED_MASK, f"{sample.mask}, as in {other}")
        if len(wrong) == before:
            yield row, place, sample


def _read_row(source: Source, root: str, form: Form, row: _Row, report: _Report) -> Sample:
    """The sample of a row, of no meaning where something was reported."""
    for column, name in ((form.category, row.category), ("split", row.split)):
        if reason := folder_problem(name):
            report(problems.NAME, f"{column} {name!r} {reason}")
    if (learned := folded(row.split)) in LEARNED and row.split != learned:
        report(problems.NAME, f"split {row.split!r}; write {learned!r} for images to learn from")
    elif form.splits and row.split and row.split not in form.splits:
        report(problems.NAME, f"split {row.split!r}; this layout has only {' and '.join(form.splits)}")
    if row.surplus:
        report(problems.CELLS, f"{row.surplus} more")
    if not row.image:
        report(problems.NO_IMAGE, "the cell is empty")
    image = _path(source, root, row.image, report) if row.image else ""
    mask = _path(source, root, row.mask, report, may_be_folder=True) if row.mask else None
    label, defect = _label(form, row, report)
    sample_id = row.sample_id or _sample_id(image, form)
    if reason := "leads elsewhere" if _leads_elsewhere(row.sample_id) else id_problem(sample_id):
        report(problems.FILE_NAME, f"{row.sample_id or image!r} {reason}")
    return Sample(sample_id, image, label, defect, mask)


# Parts that `normpath` would take out, or a path from the root of all.
_NOT_PLAIN = re.compile(r"^/|(^|/)\.{0,2}(/|$)")


def _path(source: Source, root: str, name: str, report: _Report, *, may_be_folder: bool = False) -> str:
    """A path as the disk spells it, relative to the root unless it leads out of it."""
    if not is_image(name.rpartition("/")[2]) and not (may_be_folder and _is_folder(source.root / name)):
        report(problems.NOT_AN_IMAGE, repr(name))
    if _NOT_PLAIN.search(name):
        path = PurePosixPath(os.path.normpath(PurePosixPath(root, name)))
        if path.is_relative_to(root):
            name = path.relative_to(root).as_posix()
        else:
            name = os.path.normpath(name)
            if not source.allow_outside_root:
                report(problems.OUTSIDE, name)
    if name.isascii():
        return name
    spelled = on_disk(source.root / name)
    return spelled.as_posix() if Path(name).is_absolute() else os.path.relpath(spelled, source.root)


def _leads_elsewhere(sample_id: str) -> bool:
    """Whether a name that a table gives is no plain path below a folder of results."""
    return bool(sample_id) and ("\\" in sample_id or _NOT_PLAIN.search(sample_id) is not None)


def _is_folder(path: Path) -> bool:
    try:
        return path.is_dir()
    except OSError:
        return False


def _label(form: Form, row: _Row, report: _Report) -> tuple[str | None, str | None]:
    """Label and defect."""
    learned = row.split in LEARNED
    word = "" if is_unknown(row.label) and not (learned or form.label_is_defect) else row.label
    defect = composed(row.label) if form.label_is_defect else row.defect
    if is_normal(word) or (word == "0" and not form.label_is_defect) or (learned and not word):
        if not form.label_is_defect and defect and not is_normal(defect) and defect != "0":
            report(problems.DEFECT, f"{defect!r}, but the image is normal")
        return NORMAL, "good"
    if not word and not form.label_is_defect:
        if defect:
            report(problems.DEFECT, f"{defect!r}, but the image has no label")
        return None, None
    if not word or not (form.label_is_defect or is_anomalous(word) or word == "1"):
        report(problems.LABEL, repr(row.label))
    elif learned:
        report(problems.LEARNED_DEFECT, f"{row.image} in {row.split}")
    return ANOMALOUS, defect or None


def _sample_id(image: str, form: Form) -> str:
    """A relative path without suffix that never leads upward: it names the image's results."""
    folder, _, file = image.rpartition("/")
    parts = [part for part in folder.split("/") if part not in ("", "..")]
    return composed("/".join([*(parts[-1:] if form.short_ids else parts), file.rpartition(".")[0]]))
