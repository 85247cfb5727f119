"""Whether a folder or archive is what the server takes: all files, under their names, each of the right form."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from functools import partial
from pathlib import Path

from robis.io.threads import threaded
from robis.submission.images import Finding, inspect_map, inspect_mask
from robis.submission.members import FILE, DamagedError, Member, is_compressed, members
from robis.submission.names import Entry, Names, make_entry
from robis.submission.report import WHOLE, Report, Row, size_text
from robis.submission.upload import MAPS, MASKS, File, Upload

INSPECT = {MAPS: inspect_map, MASKS: inspect_mask}
WORD = {MAPS: "map", MASKS: "mask"}


def check_upload(path: Path, upload: Upload, *, threads: int = 1) -> Report:
    """Compare a folder, a .tar.gz or a .tar with what the upload must hold, and every image with its form.

    The two folders of the upload may lie at the top or, as the benchmark's own script packs them, in one
    folder of any name. An archive is read once and never unpacked to disk.

    Raises:
        DataError: the path is no such folder or archive at all.
    """
    stored_members = members(path, lambda stored: make_entry(FILE, stored).name in upload.files)
    report = check_members(stored_members, upload, source=str(path), threads=threads)
    if (path / "submission.tar.gz").is_file():
        report.notes.append(f"These are the results of a run; what to upload is {path / 'submission.tar.gz'}.")
    elif path.is_dir():
        report.notes.append("This is a folder; the server takes one .tar.gz.")
    elif not is_compressed(path) or not path.name.endswith(".tar.gz"):
        report.notes.append("The server takes one .tar.gz; this is named or packed otherwise.")
    return report


def check_members(found: Iterable[Member], upload: Upload, *, source: str, threads: int = 1) -> Report:
    """Compare entries, in any order, with what the upload must hold."""
    report = Report(source, rows={place: Row() for place in upload.ids})
    entries: list[Entry] = []
    findings: dict[File, Finding] = {}
    damage: list[str] = []
    for entry, finding in threaded(partial(_inspect, upload), _until_damage(found, damage), threads):
        entries.append(entry)
        if finding:
            findings[upload.files[entry.name]] = finding
    names = Names(entries, upload)
    names.report(report)
    if damage:
        # What is missing cannot be told.
        report.add(WHOLE, "damaged or cut off, the rest was not looked at", damage)
    else:
        names.report_missing(report)
    for file in upload.files.values():
        if file in findings:
            _report_finding(file, findings, upload, report)
    _add_remarks(upload, report)
    return report


def _until_damage(found: Iterable[Member], damage: list[str]) -> Iterator[Member]:
    try:
        yield from found
    except DamagedError as error:
        damage.append(str(error))


def _inspect(upload: Upload, member: Member) -> tuple[Entry, Finding | None]:
    entry = make_entry(member.kind, member.name)
    file = upload.files.get(entry.name)
    if file is None or entry.top is None or member.kind != FILE:
        return entry, None
    try:
        return entry, INSPECT[file.kind](member.read())
    except OSError as error:
        return entry, Finding(problem=f"{WORD[file.kind]} cannot be read", detail=str(error.strerror))


def _report_finding(file: File, findings: Mapping[File, Finding], upload: Upload, report: Report) -> None:
    finding, word = findings[file], WORD[file.kind]
    place = "/".join(file.place)
    if finding.problem:
        detail = f" ({finding.detail})" if finding.detail else ""
        report.add(place, finding.problem, [file.short_name + detail])
    row = report.rows[file.place]
    row.maps += file.kind == MAPS
    row.masks += file.kind == MASKS
    row.blank_maps += file.kind == MAPS and finding.is_blank
    row.blank_masks += file.kind == MASKS and finding.is_blank
    if finding.size is None:
        return
    row.sizes.add(finding.size)
    expected = upload.size(file)
    if expected:
        source = "its image's size times the scale"
    else:
        its_map = findings.get(file._replace(kind=MAPS))
        expected, source = (its_map.size if its_map else None), "its map's size"
    if expected and finding.size != expected:
        problem = f"{word} of {size_text(finding.size)} pixels; expected {size_text(expected)}, {source}"
        report.add(place, problem, [file.short_name])


def _add_remarks(upload: Upload, report: Report) -> None:
    for (category, split), row in sorted(report.rows.items()):
        if row.masks and row.blank_masks == row.masks:
            report.warnings.append(f"{category}/{split}: no mask has a defect pixel.")
        if row.maps and row.blank_maps == row.maps:
            report.warnings.append(f"{category}/{split}: each map has the same value everywhere.")
    if not upload.is_benchmark:
        report.notes.append(
            f"For practice only: the server would refuse this upload. It takes the eight categories of MVTec AD 2, "
            f"not {', '.join(upload.categories)}."
        )
    if not upload.sizes:
        report.notes.append("Sizes of masks were compared with their maps', not with the images'.")
