"""What a check found, in words: every problem, grouped by place and kind, and a table of what is there."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable
from dataclasses import dataclass, field

from robis.submission.upload import Place, Size, few

WHOLE = ""  # the place of what concerns the upload as a whole


@dataclass
class Row:
    """One category and split of the table."""

    maps: int = 0
    masks: int = 0
    blank_maps: int = 0
    blank_masks: int = 0
    sizes: set[Size] = field(default_factory=set)


@dataclass
class Report:
    """Findings of one check.

    Attributes:
        source: the folder or archive, for messages.
        problems: place -> problem in words -> names of files or folders with the number of files each stands for.
        warnings: what the server takes, but is likely a mistake.
        notes: what a reader has to know: what was not checked, or is not the benchmark.
        rows: what was found in each category and split.
    """

    source: str
    problems: dict[str, dict[str, Counter[str]]] = field(default_factory=dict)
    warnings: list[str] = field(default_factory=list)
    notes: list[str] = field(default_factory=list)
    rows: dict[Place, Row] = field(default_factory=dict)

    def add(self, place: str, problem: str, names: Iterable[str], *, files: int = 1) -> None:
        """Add one problem of files or folders; the same words at the same place become one line.

        `files` is how many files each name stands for: none for a folder, whose files are added by themselves.
        """
        group = self.problems.setdefault(place, {}).setdefault(problem, Counter())
        for name in names:
            group[name] += files

    @property
    def is_good(self) -> bool:
        """Whether nothing was found that the server would refuse or give 0 for."""
        return not self.problems

    def problem_text(self) -> str:
        """Every problem with the first names, grouped by category and split."""
        count = sum(max(1, n) for found in self.problems.values() for names in found.values() for n in names.values())
        lines = [f"{self.source}: {count} problem{'s' * (count != 1)}:"]
        for place in sorted(self.problems):
            indent = "  " if place == WHOLE else "    "
            lines += [f"  {place}"] if place else []
            for problem, names in self.problems[place].items():
                listed = few(
                    f"{printable(name)} ({n} files)" if n > 1 else printable(name) for name, n in names.items()
                )
                lines.append(f"{indent}{problem}: {listed}")
        return "\n".join([*lines, *self.remarks])

    def table(self) -> str:
        """What was found in each category and split."""
        header = ["category", "split", "maps", "masks", "width x height", "masks with defects"]
        cells = [header] + [
            [*place, str(row.maps), str(row.masks), _sizes(row.sizes), str(row.masks - row.blank_masks)]
            for place, row in sorted(self.rows.items())
        ]
        widths = [max(map(len, column)) for column in zip(*cells, strict=True)]
        right = [False, False, True, True, True, True]
        lines = [
            "  ".join(
                cell.rjust(width) if is_number else cell.ljust(width)
                for cell, width, is_number in zip(row, widths, right, strict=True)
            ).rstrip()
            for row in cells
        ]
        return "\n".join(lines)

    @property
    def remarks(self) -> list[str]:
        """Warnings and notes, one line each."""
        return [f"Warning: {warning}" for warning in self.warnings] + [f"Note: {note}" for note in self.notes]


def printable(name: str) -> str:
    """A name from an archive without what would break, or steer, a terminal."""
    return name if name.isprintable() else ascii(name)[1:-1]


def size_text(size: Size) -> str:
    """Width x height."""
    return f"{size[1]} x {size[0]}"


def _sizes(sizes: set[Size]) -> str:
    if not sizes:
        return "-"
    first = size_text(min(sizes))
    return first if len(sizes) == 1 else f"{first} ... {size_text(max(sizes))} ({len(sizes)} sizes)"
