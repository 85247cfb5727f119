"""Lines about the progress of a step: plan, time left, and that they come by time, not by parts done."""

from __future__ import annotations

import logging
import threading

import pytest

from robis.io import progress as module
from robis.io.progress import Progress, duration, progress, tracked


class Clock:
    """Seconds that only a test lets pass."""

    def __init__(self) -> None:
        self.now = 100.0

    def __call__(self) -> float:
        return self.now


def advance(state: Progress, clock: Clock, seconds: float, count: int = 1) -> None:
    clock.now += seconds
    state.update(count)


def test_the_plan_is_estimated_from_the_first_steps_without_the_slow_first_one(
    caplog: pytest.LogCaptureFixture,
) -> None:
    caplog.set_level(logging.INFO)
    clock = Clock()
    state = Progress(600, "steps", clock=clock)
    advance(state, clock, 20.0)  # loads the model
    for _ in range(3):
        advance(state, clock, 0.6)
    assert caplog.messages == []
    advance(state, clock, 0.6)
    # 22.4 s so far, and 595 steps of 0.6 s: 379.4 s.
    assert caplog.messages == ["600 steps, about 6 min"]
    for _ in range(115):
        advance(state, clock, 0.6)
    state.note = "loss 0.0213"
    # 480 steps of 0.6 s: 288 s.
    assert state.line() == "120 of 600 steps, about 5 min left, loss 0.0213"
    assert len(caplog.messages) == 1


def test_a_line_before_the_first_part_is_done_says_how_long_it_takes() -> None:
    clock = Clock()
    state = Progress(1200, "tiles", "encode 1/2", clock=clock)
    clock.now += 30
    assert state.line() == "encode 1/2: 0 of 1,200 tiles after 30 s"
    advance(state, clock, 10, 16)
    assert state.line() == "encode 1/2: 16 of 1,200 tiles after 40 s"


def test_resumed_work_does_not_count_as_done_at_once() -> None:
    clock = Clock()
    state = Progress(600, "steps", done=480, clock=clock)
    advance(state, clock, 1.0)
    advance(state, clock, 2.0)
    # 118 steps of 2 s and the 3 s so far.
    assert state.plan() == "600 steps, 480 of them done before, about 4 min"


def test_the_end_is_told_where_the_plan_was(caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(logging.INFO)
    clock = Clock()
    for seconds, lines in ((0.1, []), (5.0, ["3 images, about 15 s", "3 images in 15 s"])):
        caplog.clear()
        state = Progress(3, "images", clock=clock)
        for _ in range(3):
            advance(state, clock, seconds)
        state.end()
        assert caplog.messages == lines


@pytest.mark.parametrize(
    ("seconds", "text"),
    [(0.2, "1 s"), (42.4, "42 s"), (89, "89 s"), (90, "2 min"), (3600, "60 min"), (7800, "2 h 10 min"), (7200, "2 h")],
)
def test_durations_in_words(seconds: float, text: str) -> None:
    assert duration(seconds) == text


def test_lines_come_while_a_single_part_takes_long(
    monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    monkeypatch.setattr(module, "EVERY", 0.01)
    arrived = threading.Event()

    class Waiter(logging.Handler):
        def emit(self, record: logging.LogRecord) -> None:
            arrived.set()

    logger = logging.getLogger(module.__name__)
    caplog.set_level(logging.INFO)
    waiter = Waiter()
    logger.addHandler(waiter)
    try:
        with progress(2, "blocks", "select"):
            assert arrived.wait(60), "no line although no part has ended"
    finally:
        logger.removeHandler(waiter)
    assert caplog.messages[0] == "select: 0 of 2 blocks after 1 s"


def test_the_thread_of_the_lines_ends_with_the_block() -> None:
    before = threading.active_count()
    assert list(tracked("abc", 3, "letters")) == ["a", "b", "c"]
    with pytest.raises(ZeroDivisionError), progress(1, "steps"):
        raise ZeroDivisionError
    iterator = tracked("abc", 3, "letters")
    next(iterator)
    del iterator
    assert threading.active_count() == before
