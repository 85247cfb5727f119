"""The benchmarks run, and their sides agree, at sizes that take seconds; tables and the docs' block are as expected."""

from __future__ import annotations

import json
from importlib import import_module
from pathlib import Path

import numpy as np
import pytest

from benchmarks import encoders, harness
from benchmarks.stages.metrics import equal_metrics
from robis.evaluation.metrics import METRICS


def measured(stage: str, folder: Path) -> list[harness.Row | harness.Fact]:
    options = harness.Options(folder, repeats=1, threads=1, quick=True)
    return list(import_module(f"benchmarks.stages.{stage}").rows(options))


@pytest.mark.parametrize(
    ("stage", "targets"),
    [
        ("crop", [4, None, None]),
        ("merge", [5]),
        ("binarize", [12, 15]),
        ("metrics", [100, 100]),
        ("refine", [1.5, 1.5]),
    ],
)
def test_both_sides_agree_and_are_timed(stage: str, targets: list[float | None], tmp_path: Path) -> None:
    rows = [one for one in measured(stage, tmp_path) if isinstance(one, harness.Row)]
    # A library that is not installed everywhere has no target.
    assert [row.target for row in rows if row.target or stage == "crop"] == targets
    assert {row.stage for row in rows} == {stage}
    for row in rows:
        assert row.equal and len(row.plain_s) == len(row.ours_s) == 1 and row.ratio > 0


def test_memory_is_told_for_few_and_many_images(tmp_path: Path) -> None:
    facts = [one for one in measured("memory", tmp_path) if isinstance(one, harness.Fact)]
    assert [fact.stage for fact in facts] == ["crop", "merge", "evaluate"]
    for fact in facts:
        few, many, libraries = (float(fact.values[name] or 0) for name in ("2 images", "8 images", "imports"))
        assert libraries > 20 and few > 0.9 * libraries
        assert many < few + 50


def test_stages_without_a_model_do_not_import_torch(tmp_path: Path) -> None:
    facts = [one for one in measured("jobs", tmp_path) if isinstance(one, harness.Fact)]
    assert {fact.stage: fact.values["loads torch"] for fact in facts} == {"crop": "no", "binarize": "no"}


def test_different_results_are_not_timed() -> None:
    calls: list[str] = []

    def equal(one: int, other: int) -> str:
        harness.require(one == other, f"{one} and {other}")
        return "equal"

    with pytest.raises(harness.DifferentResultsError, match="1 and 2"):
        harness.compare("s", "w", "p", lambda: calls.append("p") or 1, lambda: calls.append("o") or 2, equal, repeats=3)
    assert calls == ["p", "o"]
    values = {"pixel_auroc": 0.5, "pixel_ap": 0.25}
    assert equal_metrics(values, dict(values)) == "equal to 0e+00"
    with pytest.raises(harness.DifferentResultsError, match="metrics differ"):
        equal_metrics(values, values | {"pixel_ap": 0.25 + 1e-8})


def test_sides_take_turns_and_their_medians_make_the_ratio() -> None:
    order: list[str] = []
    row = harness.compare(
        *("s", "w", "p"),
        *(lambda: order.append("p"), lambda: order.append("o"), lambda one, other: "equal"),
        repeats=3,
    )
    # The first pair is compared and not counted.
    assert order == ["p", "o", "p", "o", "o", "p", "p", "o"]
    assert len(row.plain_s) == len(row.ours_cpu_s) == 3
    timed = harness.Row("s", "w", "p", [9.0, 4.0, 6.0], [2.0, 1.0, 3.0], [8.0], [1.0], 3.5, "equal")
    assert (timed.ratio, timed.cpu_ratio, timed.met) == (3.0, 8.0, False)


def test_tables_and_the_block_of_the_docs(tmp_path: Path) -> None:
    row = harness.Row("merge", "work", "loop", [2.0, 4.0], [0.5, 0.5], [2.0], [0.25], 5.0, "bit-identical", "a note")
    fact = harness.Fact("Memory, MB", "crop", {"10 images": 151.0, "why": None}, "flat")
    found = harness.as_json(harness.machine(2), [row, fact])
    assert json.loads(json.dumps(found)) == found
    text = harness.markdown(found)
    assert "| merge | work | loop | 3 (2-4) | 0.500 (0.500-0.500) | 6 | 8 | 5: met | bit-identical; a note |" in text
    assert (
        "Memory, MB:\n\n| stage | 10 images | why | note |\n| --- | --- | --- | --- |\n| crop | 151 |  | flat |" in text
    )
    assert f"numpy {np.__version__}" in text and "2 of" in text

    document = tmp_path / "doc.md"
    document.write_text("before\n<!-- x: begin -->\nold\n<!-- x: end -->\nafter\n")
    for _ in range(2):
        harness.write_block(document, "x", text)
    assert document.read_text() == f"before\n<!-- x: begin -->\n\n{text.strip()}\n\n<!-- x: end -->\nafter\n"
    with pytest.raises(ValueError, match=r"no <!-- y: begin -->"):
        harness.write_block(document, "y", text)


def test_the_docs_have_the_block_that_is_written() -> None:
    from benchmarks.bench import BLOCK

    text = harness.DOCUMENT.read_text(encoding="utf-8")
    assert text.count(f"<!-- {BLOCK}: begin -->") == text.count(f"<!-- {BLOCK}: end -->") == 1


@pytest.mark.parametrize(
    ("value", "text"), [(0.0, "0"), (0.01234, "0.0123"), (0.5, "0.500"), (3.0, "3"), (12.34, "12.3"), (123.4, "123")]
)
def test_figures_have_three_digits(value: float, text: str) -> None:
    assert harness.spread([value]) == f"{text} ({text}-{text})"


def test_runs_of_the_table_of_encoders_add_up(tmp_path: Path) -> None:
    """Two processes may write to one file; the table takes mean and spread over the seeds."""
    results = tmp_path / "encoders.json"
    for seed, value in ((0, 0.25), (1, 0.75)):
        encoders.add(results, f"demo/ours/superadd/{seed}", dict.fromkeys(METRICS, value))
    rows = encoders.table(encoders.read(results), seeds=3).splitlines()[2:]
    assert rows == ["| demo | ours | superadd | " + " | ".join(["0.500 ± 0.250"] * len(METRICS)) + " |"]


def test_only_runs_that_draw_something_are_run_for_every_seed() -> None:
    whole, tiled = encoders.DATA["magnetic_tile, whole"], encoders.DATA["magnetic_tile, tiled"]
    assert not encoders.is_drawn(whole, "ours", "musc")
    assert encoders.is_drawn(tiled, "ours", "musc"), "subsets are drawn"
    assert encoders.is_drawn(whole, "random", "musc") and encoders.is_drawn(whole, "ours", "superadd")
