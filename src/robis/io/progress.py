"""Signs of life of a long step: its plan once the first parts are done, and a line every half minute."""

from __future__ import annotations

import logging
import threading
import time
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from typing import TypeVar

T = TypeVar("T")

logger = logging.getLogger(__name__)

# Seconds between two lines, and seconds of work that an estimate is based on.
EVERY = 30.0
MEASURED = 2.0


class Progress:
    """How far a step is.

    Attributes:
        note: what a line says besides, such as the loss.
    """

    def __init__(
        self, total: int, unit: str, name: str = "", *, done: int = 0, clock: Callable[[], float] = time.monotonic
    ) -> None:
        """Start counting.

        Args:
            total: parts of the step.
            unit: what they are, in the plural.
            name: tells the step from others of the same job; empty where it is the only one.
            done: parts that an earlier process has done.
            clock: seconds.
        """
        self.note = ""
        self._total, self._unit, self._prefix = total, unit, f"{name}: " if name else ""
        self._done = self._before = done
        self._clock, self._start = clock, clock()
        # The first part also loads libraries and fills caches: the speed is measured after it.
        self._first: tuple[float, int] | None = None
        self._is_planned = False

    def update(self, count: int = 1) -> None:
        """Count parts as done. Logs the plan as soon as there is an estimate."""
        self._done += count
        now = self._clock()
        if self._first is None:
            self._first = now, self._done
        elif not self._is_planned and now - self._first[0] >= MEASURED:
            self._is_planned = True
            logger.info("%s", self.plan())

    def plan(self) -> str:
        """What there is to do and how long it takes, e.g. "600 steps, about 6 min"."""
        before = f", {self._before:,} of them done before" if self._before else ""
        remaining = self._remaining()
        about = "" if remaining is None else f", about {duration(self._elapsed() + remaining)}"
        return f"{self._prefix}{self._total:,} {self._unit}{before}{about}"

    def line(self) -> str:
        """How far the step is, e.g. "120 of 600 steps, about 5 min left"."""
        remaining = self._remaining()
        left = f" after {duration(self._elapsed())}" if remaining is None else f", about {duration(remaining)} left"
        note = f", {self.note}" if self.note else ""
        return f"{self._prefix}{self._done:,} of {self._total:,} {self._unit}{left}{note}"

    def end(self) -> None:
        """Log how long the step took, if its plan was logged."""
        if self._is_planned:
            logger.info("%s%s %s in %s", self._prefix, f"{self._done:,}", self._unit, duration(self._elapsed()))

    def _elapsed(self) -> float:
        return self._clock() - self._start

    def _remaining(self) -> float | None:
        """Seconds to go at the speed so far; None while that is not known."""
        if self._first is None or self._done <= self._first[1]:
            return None
        since, done = self._first
        return (self._total - self._done) * (self._clock() - since) / (self._done - done)


@contextmanager
def progress(total: int, unit: str, name: str = "", *, done: int = 0) -> Iterator[Progress]:
    """Log a line about the block every `EVERY` seconds, also while one part of it takes longer than that.

    Args: as for `Progress`.
    """
    state, finished = Progress(total, unit, name, done=done), threading.Event()
    thread = threading.Thread(target=_report, args=(state, finished, EVERY), daemon=True)
    thread.start()
    try:
        yield state
        state.end()
    finally:
        finished.set()
        thread.join()


def tracked(items: Iterable[T], total: int, unit: str, name: str = "") -> Iterator[T]:
    """Give the items one by one, with the lines of `progress` about them."""
    with progress(total, unit, name) as state:
        for item in items:
            yield item
            state.update()


def _report(state: Progress, finished: threading.Event, every: float) -> None:
    while not finished.wait(every):
        logger.info("%s", state.line())


def duration(seconds: float) -> str:
    """Seconds as people say them: 40 s, 6 min, 2 h 10 min."""
    if seconds < 90:
        return f"{max(1, round(seconds))} s"
    minutes = round(seconds / 60)
    hours, rest = divmod(minutes, 60)
    if minutes < 90:
        return f"{minutes} min"
    return f"{hours} h {rest} min" if rest else f"{hours} h"
