"""Work on several threads, in order, a bounded number of items at a time."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import ThreadPoolExecutor
from typing import TypeVar

T = TypeVar("T")
R = TypeVar("R")


def threaded(function: Callable[[T], R], items: Iterable[T], threads: int) -> Iterator[R]:
    """Apply `function` to every item on `threads` threads, in order, a bounded number of items at a time.

    For work that releases the GIL (decoding, OpenCV, NumPy). With a single thread the caller does the work. The first
    exception is raised here.
    """
    if threads <= 1:
        yield from map(function, items)
        return
    with ThreadPoolExecutor(threads) as pool:
        pending = []
        try:
            for item in items:
                pending.append(pool.submit(function, item))
                if len(pending) > 2 * threads:
                    yield pending.pop(0).result()
            while pending:
                yield pending.pop(0).result()
        finally:
            for future in pending:
                future.cancel()
