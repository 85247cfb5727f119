"""The tests that need a GPU."""

from __future__ import annotations

import os
from collections import Counter

import pytest

from benchmarks.gpu_check.record import Check
from benchmarks.harness import REPOSITORY, Fact


class Outcomes:
    """Keeps the outcome of each test as it ends."""

    def __init__(self, check: Check) -> None:
        self.check, self.counts = check, Counter[str]()

    def pytest_runtest_logreport(self, report: pytest.TestReport) -> None:
        """Of the parts of a test the call counts, and what stops it before or after."""
        if report.when != "call" and report.passed:
            return
        self.counts[report.outcome] += 1
        note = report.longreprtext.strip().splitlines()[-1][:300] if report.failed else ""
        values: dict[str, str | float | None] = {"outcome": report.outcome, "s": report.duration}
        self.check.add(Fact("Tests", report.nodeid.rpartition("::")[2], values, note, failed=report.failed))


def run(check: Check) -> None:
    """Run them in this process, whose memory is measured."""
    outcomes = Outcomes(check)
    folder = REPOSITORY / "tests" / "unit" / "test_on_a_gpu.py"
    options = ["-q", "-m", "gpu", "-p", "no:cacheprovider", f"--basetemp={check.folder / 'tests'}"]
    # Plugins of the machine may not fit the carried pytest.
    os.environ["PYTEST_DISABLE_PLUGIN_AUTOLOAD"] = "1"
    code = pytest.main([*options, str(folder)], plugins=[outcomes])
    check.headline = ", ".join(f"{count} {outcome}" for outcome, count in outcomes.counts.items())
    if code or not outcomes.counts["passed"]:
        check.fail(f"pytest ended with {code!r}")
