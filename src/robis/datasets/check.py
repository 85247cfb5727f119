"""A whole data set checked before anything runs: what it holds, what it will take, and everything that is wrong."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass, field

import numpy as np

from robis.datasets import problems
from robis.datasets.depth import depth_problems, depth_remarks, highest_values
from robis.datasets.excluded import excluded_images, without_excluded
from robis.datasets.identical import Placed, identical_images
from robis.datasets.index import Checked, check_samples, label_remarks, nothing_found
from robis.datasets.layouts import list_categories, list_category, list_samples, list_splits
from robis.datasets.problems import Problem, ProblemsError
from robis.datasets.samples import ANOMALOUS, NORMAL, Sample, Source
from robis.datasets.unused import unused_in_dataset
from robis.errors import DataError

AREA_PERCENTILES = (5, 50, 95)

# (category, split, height, width) of an image -> its tiles, and the bytes that they take on disk.
TileCount = Callable[[str, str, int, int], tuple[int, int]]


@dataclass(frozen=True)
class SplitSummary:
    """What one category holds of one split.

    Attributes:
        category, split: which.
        images, normal, anomalous, unlabeled: numbers of images.
        smallest, largest: sizes (height, width) with the fewest and the most pixels; None where none can be read.
        sizes: number of different sizes.
        defects: number of images by the defect's name.
        mask_shares: percentiles `AREA_PERCENTILES` of the defective share of a mask, over masks with defects.
        tiles, tile_bytes: what `crop` would make of the images.
        ignored_shares: share of the pixels that are ignored, of each image that has such pixels.
    """

    category: str
    split: str
    images: int
    normal: int
    anomalous: int
    unlabeled: int
    smallest: tuple[int, int] | None
    largest: tuple[int, int] | None
    sizes: int
    defects: dict[str, int]
    mask_shares: tuple[float, ...] | None
    tiles: int
    tile_bytes: int
    ignored_shares: tuple[float, ...] = ()


@dataclass(frozen=True)
class Needs:
    """What a config takes from a data set.

    Attributes:
        places: the (category, split) that some job reads; each must have images.
        lending: categories whose training images lend a part to `validation`, as `list_samples` with `hold_out`.
        hold_out_every: which of them, as in `list_samples`.
    """

    places: frozenset[tuple[str, str]]
    lending: frozenset[str] = frozenset()
    hold_out_every: int | None = None


@dataclass
class DatasetReport:
    """What a check of a data set finds.

    Attributes:
        summaries: what each category and split holds.
        problems: what cannot be used; a plan or `index` refuses it.
        held_out: ids of the training images that validate instead, by category.
        elsewhere: the same in categories and splits that the config does not run.
        remarks: what can be used, but is likely to be a mistake.
        excluded: number of images that `dataset.exclude` leaves out.
    """

    summaries: list[SplitSummary] = field(default_factory=list)
    problems: list[Problem] = field(default_factory=list)
    held_out: dict[str, list[str]] = field(default_factory=dict)
    elsewhere: list[Problem] = field(default_factory=list)
    remarks: list[Problem] = field(default_factory=list)
    excluded: int = 0


def check_dataset(
    source: Source,
    count_tiles: TileCount,
    *,
    needs: Needs | None = None,
    bit_depth: int | None = None,
    threads: int = 1,
) -> DatasetReport:
    """Check every category and split as `index` does, and sum up what is there. Writes nothing.

    Without `needs` everything counts, and no split has to have images. A few images of each split are decoded to
    compare their values with `bit_depth`, see `read_image`.

    Raises DataError when the categories cannot be listed: no such folder, another layout, or a damaged table,
    and when `dataset.exclude` names a table that cannot be read.
    """
    excluded_images(source)
    check = _Check(source, count_tiles, needs, bit_depth, threads)
    categories, splits = list_categories(source), list_splits(source)
    for category in categories:
        for split in splits:
            check.split(category, split)
        if needs is None and not any(check.samples.get((category, split), True) for split in splits):
            text = f"{category}: none in {', '.join(splits)}"
            check.report.problems.append(Problem(problems.EMPTY_CATEGORY, text))
    check.whole(categories)
    return check.report


@dataclass
class _Check:
    """A check on its way; `samples` has the places (category, split) that can be listed."""

    source: Source
    count_tiles: TileCount
    needs: Needs | None
    bit_depth: int | None
    threads: int
    report: DatasetReport = field(default_factory=DatasetReport)
    samples: dict[tuple[str, str], list[Sample]] = field(default_factory=dict)
    is_complete: bool = True

    def split(self, category: str, split: str) -> None:
        """List the samples of a split, open their files, and report on them."""
        is_needed = self.needs is None or (category, split) in self.needs.places
        wrong = self.report.problems if is_needed else self.report.elsewhere
        hold_out = self.needs is not None and category in self.needs.lending
        every = self.needs.hold_out_every if self.needs else None
        try:
            samples = list_samples(self.source, category, split, hold_out=hold_out, hold_out_every=every)
        except DataError as error:
            self.is_complete = False
            wrong += error.problems if isinstance(error, ProblemsError) else [Problem(problems.SPLIT, str(error))]
            return
        self.samples[category, split] = samples
        if hold_out and split == "validation" and samples:
            self.report.held_out[category] = [sample.sample_id for sample in samples]
        if samples:
            wrong += self._open(category, split, samples)
        elif self.needs and is_needed:
            wrong.append(Problem(problems.SPLIT, nothing_found(self.source, category, split)))

    def _open(self, category: str, split: str, samples: Sequence[Sample]) -> list[Problem]:
        checked = check_samples(self.source, category, samples, threads=self.threads)
        remarks = [*label_remarks(category, split, samples), *(result.remark for result in checked if result.remark)]
        self.report.remarks += remarks
        self.report.summaries.append(_summary(category, split, samples, checked, self.count_tiles))
        values = highest_values(self.source.root, samples)
        self.report.remarks += depth_remarks(f"{category}/{split}", values, self.bit_depth)
        wrong = [result.problem for result in checked if result.problem]
        return [*wrong, *depth_problems(self.source.root, values, self.bit_depth)]

    def whole(self, categories: Sequence[str]) -> None:
        """Report on what only shows over all splits: images that are not used, and images that are there twice."""
        if self.is_complete:
            # Otherwise the files of a split that cannot be listed would be reported as well.
            by_split = [list_category(self.source, category) for category in categories]
            samples = [sample for listed in by_split for those in listed.values() for sample in those]
            self.report.excluded = len({s.image for s in samples}) - len(
                {s.image for s in without_excluded(self.source, samples)}
            )
            self.report.remarks += unused_in_dataset(self.source, categories, samples)
        images = [Placed(*place, sample.image) for place, listed in self.samples.items() for sample in listed]
        self.report.remarks += identical_images(self.source.root, images, threads=self.threads)


def _summary(
    category: str, split: str, samples: Sequence[Sample], checked: Sequence[Checked], count_tiles: TileCount
) -> SplitSummary:
    labels = Counter(sample.label for sample in samples)
    sizes = Counter((result.height, result.width) for result in checked if result.height)
    by_area = sorted(sizes, key=lambda size: (size[0] * size[1], size))
    shares = [result.defect_share for result in checked if result.defect_share]
    defects = Counter(sample.defect or "unnamed" for sample in samples if sample.label == ANOMALOUS)
    tiles = tile_bytes = 0
    for size, number in sizes.items():
        tiles_of_image, bytes_of_image = count_tiles(category, split, *size)
        tiles += number * tiles_of_image
        tile_bytes += number * bytes_of_image
    return SplitSummary(
        category=category,
        split=split,
        images=len(samples),
        normal=labels[NORMAL],
        anomalous=labels[ANOMALOUS],
        unlabeled=labels[None],
        smallest=by_area[0] if by_area else None,
        largest=by_area[-1] if by_area else None,
        sizes=len(sizes),
        defects=dict(sorted(defects.items())),
        mask_shares=tuple(float(v) for v in np.percentile(shares, AREA_PERCENTILES)) if shares else None,
        tiles=tiles,
        tile_bytes=tile_bytes,
        ignored_shares=tuple(result.ignored_share for result in checked if result.ignored),
    )


HEADER = (
    *("category", "split", "images", "normal", "anomalous", "unlabeled", "width x height"),
    *("defect % (5 / 50 / 95)", "tiles", "disk", "defects"),
)


def format_summary(summaries: Iterable[SplitSummary]) -> str:
    """Set the summaries out as plain text, one line per category and split, with a line for all of them."""
    summaries = list(summaries)
    rows = [_cells(summary) for summary in summaries]
    if len(rows) > 1:
        rows.append(_total(summaries))
    return aligned(HEADER, rows, left=("category", "split", "defects"))


def format_ignored(summaries: Iterable[SplitSummary]) -> str:
    """How many images of each category and split have ignored pixels, and what share they are; empty without any."""
    lines = []
    for summary in summaries:
        if summary.ignored_shares:
            ends = [f"{100 * share:.3g}" for share in (min(summary.ignored_shares), max(summary.ignored_shares))]
            share = ends[0] if ends[0] == ends[1] else " to ".join(ends)
            images = f"{len(summary.ignored_shares)} of {summary.images} images"
            lines.append(f"  {summary.category}/{summary.split}: {share} % of the pixels of {images}")
    return "\n".join(["Ignored by dataset.ignore:", *lines]) if lines else ""


def aligned(header: Sequence[str], rows: Sequence[Sequence[str]], *, left: Collection[str]) -> str:
    """Set out a table as plain text; columns named in `left` start, the others end below each other."""
    widths = [max(len(row[column]) for row in [header, *rows]) for column in range(len(header))]
    lines = []
    for row in [header, *rows]:
        cells = [
            cell.ljust(width) if name in left else cell.rjust(width)
            for name, cell, width in zip(header, row, widths, strict=True)
        ]
        lines.append("  ".join(cells).rstrip())
    return "\n".join(lines)


def format_held_out(held_out: Mapping[str, Sequence[str]], limit: int | None = 5) -> str:
    """Name the training images that validate instead, one line per category, the first `limit` (None: all) of each."""
    lines = []
    for category, names in held_out.items():
        more = [f"and {len(names) - limit} more"] if limit is not None and len(names) > limit else []
        lines.append(f"  {category}: {', '.join([*names[:limit], *more])}")
    return "\n".join(["Training images held out for validation:", *lines])


def _cells(summary: SplitSummary) -> tuple[str, ...]:
    size = "-"
    if summary.smallest and summary.largest:
        least, most = (f"{width} x {height}" for height, width in (summary.smallest, summary.largest))
        size = least if summary.sizes == 1 else f"{least} to {most} ({summary.sizes} sizes)"
    shares = "-" if summary.mask_shares is None else " / ".join(f"{100 * share:.2g}" for share in summary.mask_shares)
    defects = ", ".join(f"{name} {number}" for name, number in summary.defects.items())
    counts = [str(number) for number in (summary.images, summary.normal, summary.anomalous, summary.unlabeled)]
    disk = size_text(summary.tile_bytes)
    return (summary.category, summary.split, *counts, size, shares, str(summary.tiles), disk, defects)


def _total(summaries: Sequence[SplitSummary]) -> tuple[str, ...]:
    names = ("images", "normal", "anomalous", "unlabeled", "tiles", "tile_bytes")
    *counts, tiles, tile_bytes = (sum(getattr(summary, name) for summary in summaries) for name in names)
    return ("all", "", *map(str, counts), "", "", str(tiles), size_text(tile_bytes), "")


def size_text(number: int) -> str:
    """Bytes in the unit that gives one to three digits before the point."""
    value, unit = float(number), "B"
    for unit in ("B", "kB", "MB", "GB", "TB"):
        if value < 1000 or unit == "TB":
            break
        value /= 1000
    return f"{number} B" if unit == "B" else f"{value:.1f} {unit}"
