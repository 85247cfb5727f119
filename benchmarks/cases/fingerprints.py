"""The fingerprint of many images: the first time, the next time, and after changes."""

from __future__ import annotations

import os
from collections.abc import Iterator
from dataclasses import dataclass
from functools import partial

import numpy as np

from benchmarks.harness import Fact, Options, require, timed
from robis.workflow.fingerprints import fingerprint


@dataclass(frozen=True)
class Sizes:
    """Number of files, and kilobytes of each."""

    images: int = 10_000
    kilobytes: int = 200


FULL = Sizes()
QUICK = Sizes(images=5, kilobytes=1)


def rows(options: Options, sizes: Sizes) -> Iterator[Fact]:
    """One line per situation; the digest has to follow the content and nothing else."""
    root = options.folder / "images"
    root.mkdir()
    content = np.random.default_rng(0).bytes(sizes.kilobytes * 1000 + sizes.images)
    names = [f"{number:05}.png" for number in range(sizes.images)]
    for number, name in enumerate(names):
        (root / name).write_bytes(content[number : number + sizes.kilobytes * 1000])
    table = f"Fingerprint of {sizes.images:,} files of {sizes.kilobytes} kB"
    run = partial(fingerprint, root, names, options.folder / "memory.json")
    first = timed(run)
    yield Fact(table, "first: every file is read", {"s": first.seconds})
    again = timed(run)
    yield Fact(table, "next: sizes and times are compared", {"s": again.seconds})
    for name in names:
        os.utime(root / name)
    touched = timed(run)
    yield Fact(table, "every file touched: all are read again, nothing re-runs", {"s": touched.seconds})
    (root / names[0]).write_bytes(b"another image")
    changed = timed(run)
    yield Fact(table, "one file changed: one is read", {"s": changed.seconds})
    require(first.result == again.result == touched.result, "the fingerprint changed although the content did not")
    require(changed.result != first.result, "the fingerprint did not change although the content did")
