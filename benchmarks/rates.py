"""Throughput of functions of tiles, and the rate of large matrix products to compare it with. Needs torch alone."""

from __future__ import annotations

import statistics
from collections.abc import Callable, Iterable
from typing import Any

import torch

from benchmarks import devices
from benchmarks.harness import timed


def per_call(function: Callable[[], Any], device: str, seconds: float, at_least: int = 3) -> list[float]:
    """Seconds of each call, for `seconds` in all, after two calls to warm up."""
    for _ in range(2):
        function()
    calls: list[float] = []
    while sum(calls) < seconds or len(calls) < at_least:
        calls.append(timed(function, device).seconds)
    return calls


def matrix_rate(side: int, device: str = "cpu", dtype: torch.dtype = torch.float32, seconds: float = 0.0) -> float:
    """FLOP/s in products of square matrices by torch's library: the median of at least nine measurements."""
    x, y = (torch.randn(side, side, device=device).to(dtype) for _ in range(2))
    out = torch.empty(side, side, device=device, dtype=dtype)
    # A GPU is faster than calls to it.
    products = 1 if device == "cpu" else 10

    def several() -> None:
        for _ in range(products):
            torch.mm(x, y, out=out)

    return 2 * products * side**3 / statistics.median(per_call(several, device, seconds, 9))


def busy_share(function: Callable[[], Any], device: str) -> float | None:
    """Share of the time from the first kernel to the last in which the GPU runs one, or copies; None on the CPU."""
    if device == "cpu":
        return None
    from torch.profiler import ProfilerActivity, profile

    with profile(activities=[ProfilerActivity.CUDA]) as profiler:
        function()
        devices.synchronize(device)
    return covered_share(spans_on(torch.autograd.DeviceType.CUDA, profiler.events() or []))


def spans_on(kind: Any, events: Iterable[Any]) -> list[tuple[float, float]]:
    """Start and end of what ran on a kind of device, without named ranges such as the optimizer's, which span gaps."""
    return [
        (event.time_range.start, event.time_range.end)
        for event in events
        if event.device_type == kind
        and not getattr(event, "is_user_annotation", False)
        and not event.name.startswith(("Optimizer.", "ProfilerStep"))
    ]


def covered_share(spans: list[tuple[float, float]]) -> float | None:
    """Share of the time from the first start to the last end that (start, end) spans cover; None: no spans."""
    if not spans:
        return None
    spans = sorted(spans)
    covered, reached = 0.0, spans[0][0]
    for start, end in spans:
        covered += max(0.0, end - max(start, reached))
        reached = max(reached, end)
    return covered / (reached - spans[0][0])
