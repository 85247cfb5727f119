"""Images that are in a data set more than once, byte for byte."""

from __future__ import annotations

from collections.abc import Iterable
from pathlib import Path
from typing import NamedTuple

from robis.datasets import problems
from robis.datasets.problems import Problem
from robis.datasets.samples import LEARNED
from robis.io.content import identical_files


class Placed(NamedTuple):
    """An image of the data set, by its path below the root, and the category and split that have it."""

    category: str
    split: str
    image: str


def identical_images(
    root: Path, placed: Iterable[Placed], *, split: str | None = None, threads: int = 1
) -> list[Problem]:
    """List the images that have the same content, each group as one problem, those in train and test as a worse one.

    With a `split`, only groups with an image of that split.
    """
    by_path: dict[Path, list[Placed]] = {}
    for image in placed:
        by_path.setdefault(root / image.image, []).append(image)
    identical = identical_files(by_path, threads=threads)
    groups = [[image for path in group for image in by_path[path]] for group in identical]
    # A table may list one file in several splits.
    in_groups = {image for group in groups for image in group}
    groups += [images for images in by_path.values() if len(images) > 1 and images[0] not in in_groups]
    return [_problem(root, group) for group in groups if split is None or any(image.split == split for image in group)]


def _problem(root: Path, group: list[Placed]) -> Problem:
    learned = {image.category: image for image in group if image.split in LEARNED}
    inspected = [image for image in group if image.split not in LEARNED and image.category in learned]
    pair = [inspected[0], learned[inspected[0].category]] if inspected else group[:2]
    texts = [f"{root / image.image} ({image.category}/{image.split})" for image in pair]
    more = f", and {len(group) - 2} more" if len(group) > 2 else ""
    kind = problems.LEARNED_TOO if inspected else problems.IDENTICAL
    return Problem(kind, f"{texts[0]} is {texts[1]}{more}", files=tuple(str(root / image.image) for image in group))
