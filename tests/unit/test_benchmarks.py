"""The harness, the tables and the quick mode of every benchmark."""

from __future__ import annotations

import argparse
import json
from functools import partial
from pathlib import Path

import numpy as np
import pytest

from benchmarks import bench, harness, rates, tables
from benchmarks.bench import BENCHMARKS
from benchmarks.cases import growth, index, latency, musc, submission, superadd
from benchmarks.cases.metrics import equal_metrics
from benchmarks.harness import Call, DifferentResultsError, Fact, Measured, Options, Row, Timings, Work

# Benchmarks that have tests of their own.
ELSEWHERE = ("infer", "train", "gpu", "memory", "jobs", "latency")
SLOW = dict.fromkeys(("cluster", "incremental", "plan", "whole"), pytest.mark.workflow)
# Benchmark -> targets of its rows in quick mode.
TARGETS: dict[str, list[float | None]] = {
    "crop": [4.0, None, None],
    "merge": [5.0],
    "binarize": [12.0, 15.0],
    "encode": [10.0],
    "refine": [1.5, 1.5],
    "musc": [None, None],
    "musc_gpu": [None],
    "superadd": [None, None],
    "winclip": [None],
    "index": [None, None],
    "submission": [None],
}


def quick(name: str, **changes: object) -> list[Row | Fact]:
    """What a benchmark yields in quick mode, each side once, on one thread."""
    options = {"quick": True, "repeats": 1, "threads": 1, "device": "cpu", "set": []} | changes
    return list(bench.run(name, argparse.Namespace(**options)))


@pytest.mark.parametrize(
    "name", [pytest.param(name, marks=SLOW.get(name, ())) for name in BENCHMARKS if name not in ELSEWHERE]
)
def test_every_benchmark_runs_and_its_sides_agree(name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(harness.REPOSITORY)
    measured = quick(name)
    rows = [item for item in measured if isinstance(item, Row)]
    if name == "metrics":
        # A library is compared where it is installed, without a target.
        assert [row.work.target for row in rows if row.work.target] == [100.0, 100.0]
    elif name == "winclip":
        assert rows[0].equal and len(rows) <= 2
    else:
        assert [row.work.target for row in rows] == TARGETS.get(name, [])
    for row in rows:
        assert row.equal and len(row.plain.seconds) == len(row.ours.seconds) == 1 and row.ratio > 0
    facts = [item for item in measured if isinstance(item, Fact)]
    assert rows or facts
    assert not [fact for fact in facts if fact.failed]
    json.dumps(tables.as_json(tables.machine(1), measured))


def test_memory_is_measured_for_few_and_many_images() -> None:
    facts = [item for item in quick("memory") if isinstance(item, Fact)]
    assert [fact.stage for fact in facts] == ["crop", "merge", "evaluate"]
    for fact in facts:
        few, many, libraries = (float(fact.values[name] or 0) for name in ("2 images", "8 images", "imports"))
        assert libraries > 20 and few >= libraries and many < few + 50


def test_latency_has_the_fastest_times_and_ratios_to_the_library() -> None:
    figures = {
        "library": [{"first": 3, "next": 0.2, "cpu": 0.3}, {"first": 2, "next": 0.4, "cpu": 0.1}],
        "ONNX Runtime": [{"first": 1, "next": 0.1, "cpu": 0.1}, {"first": 4, "next": 0.5, "cpu": 0.1}],
    }
    assert latency.columns(figures) == {
        **{"library, first, s": 2, "library, ms": 200, "library, CPU ms": "200 (100-300)"},
        **{"ONNX Runtime, first, s": 1, "ONNX Runtime, ms": 100, "ONNX Runtime, CPU ms": "100 (100-100)"},
        **{"library / ONNX Runtime, ms": 2.0, "library / ONNX Runtime, CPU ms": 2.0},
    }


def test_growth_tells_what_each_further_image_takes() -> None:
    linear, quadratic = ({n: (2 + 0.01 * n**power, 100.0 + n) for n in (10, 20, 40)} for power in (1, 2))
    assert growth.columns(linear) == {
        "10 images, CPU s": 2.1,
        "each further to 20, CPU ms": pytest.approx(10),
        "each further to 40, CPU ms": pytest.approx(10),
        "10 images, MB": 110,
        "40 images, MB": 140,
    }
    # (16 - 4) / 20 and (4 - 1) / 10 seconds.
    columns = growth.columns(quadratic)
    assert [columns[f"each further to {n}, CPU ms"] for n in (20, 40)] == [pytest.approx(300), pytest.approx(600)]


def test_stages_without_a_model_do_not_import_torch() -> None:
    facts = [item for item in quick("jobs") if isinstance(item, Fact)]
    assert {fact.stage: fact.values["loads torch"] for fact in facts} == {"crop": "no", "binarize": "no"}


def test_every_module_of_a_benchmark_is_listed(capsys: pytest.CaptureFixture[str]) -> None:
    modules = {path.stem for path in Path(index.__file__).parent.glob("*.py")} - {"__init__"}
    assert modules == set(BENCHMARKS)
    bench.main(["--list"])
    assert [line.split()[0] for line in capsys.readouterr().out.splitlines()] == list(BENCHMARKS)


def test_different_results_are_not_timed() -> None:
    calls: list[str] = []

    def equal(plain: int, ours: int) -> str:
        harness.require(plain == ours, f"{plain} and {ours}")
        return "equal"

    def side(name: str, result: int) -> int:
        calls.append(name)
        return result

    with pytest.raises(DifferentResultsError, match="1 and 2"):
        harness.compare(Work("s", "w", "p"), partial(side, "p", 1), partial(side, "o", 2), equal, 3)
    assert calls == ["p", "o"]


def test_sides_take_turns_and_their_medians_make_the_ratio() -> None:
    order: list[str] = []
    row = harness.compare(
        Work("s", "w", "p"), lambda: order.append("p"), lambda: order.append("o"), lambda plain, ours: "equal", 3
    )
    # The first pair is compared and not counted.
    assert order == ["p", "o", "p", "o", "o", "p", "p", "o"]
    assert len(row.plain.seconds) == len(row.ours.cpu_seconds) == 3
    sides = Timings([9.0, 4.0, 6.0], [8.0], [5.0, 7.0]), Timings([2.0, 1.0, 3.0], [1.0])
    row = Row(Work("s", "w", "p", target=3.5), *sides, "equal")
    assert (row.ratio, row.cpu_ratio, row.met) == (3.0, 8.0, False)
    assert (row.plain.peak_mb, row.ours.peak_mb) == (7.0, None)


@pytest.mark.skipif(not Path("/proc/self/clear_refs").exists(), reason="only Linux lets a peak begin anew")
def test_a_process_measures_the_run_and_not_its_set_up() -> None:
    large = harness.run_alone(Call("tests.child_calls:reserve", {"megabytes": 100}), 1)
    assert large.result == 1.0
    assert large.peak_mb is not None and large.held_mb is not None
    # What the set-up took and gave back is not counted.
    assert 90 < large.peak_mb < 150 and large.held_mb > 10


def test_a_failing_process_says_why() -> None:
    with pytest.raises(RuntimeError, match=r"child_calls:fail failed: (?s:.*)no such weights"):
        harness.run_alone(Call("tests.child_calls:fail", {"message": "no such weights"}), 1)


def test_all_runs_in_processes_count(tmp_path: Path) -> None:
    calls = [Call("tests.child_calls:reserve", {"megabytes": size}) for size in (60, 20)]
    row = harness.compare_processes(Work("s", "w", "p"), *calls, lambda x, y: f"{x} and {y}", Options(tmp_path, 2, 1))
    assert row.equal == "1.0 and 1.0"
    assert len(row.plain.seconds) == len(row.ours.seconds) == len(row.ours.peaks_mb) == 2
    assert (row.plain.peak_mb or 0) >= (row.ours.peak_mb or 0)


def test_an_array_comes_back_from_a_process(tmp_path: Path) -> None:
    call = Call(
        "benchmarks.cases.musc:neighborhoods", {"side_name": "robis", "images": 2, "grid": 3, "width": 4, "side": 3}
    )
    measured = harness.run_alone(call, 1, tmp_path / "result.npy")
    np.testing.assert_allclose(np.linalg.norm(measured.result, axis=-1), 1, rtol=1e-5)
    assert measured.result.shape == (2, 9, 4)
    assert isinstance(measured, Measured)


def test_an_earlier_array_does_not_pass_for_a_result(tmp_path: Path) -> None:
    np.save(tmp_path / "result.npy", np.zeros(2))
    call = Call("benchmarks.child:imports", {"modules": ["json"]})
    assert harness.run_alone(call, 1, tmp_path / "result.npy").result == {"torch": False}


def test_results_may_differ_by_rounding_only(tmp_path: Path) -> None:
    values = np.array([0.0, 1.0, 2.0], np.float32)
    assert musc.agree(values, values + 1e-6).startswith("differ by at most")
    for agree in (musc.agree, superadd.agree):
        with pytest.raises(DifferentResultsError, match="differ by"):
            agree(values, values + 0.01)
        with pytest.raises(DifferentResultsError, match="all the same"):
            agree(np.ones(3), np.ones(3))
    # Neighbors come in no order.
    assert superadd.agree(np.array([[1.0, 2.0]]), np.array([[2.0, 1.0]])) == "differ by at most 0e+00"
    with pytest.raises(DifferentResultsError, match="sizes differ"):
        index.same_sizes([[2, 3]], [[3, 2]])
    metrics = {"pixel_auroc": 0.5, "pixel_ap": 0.25}
    assert equal_metrics(metrics, dict(metrics)) == "equal to 0e+00"
    with pytest.raises(DifferentResultsError, match="metrics differ"):
        equal_metrics(metrics, metrics | {"pixel_ap": 0.25 + 1e-8})
    archives = []
    for number in range(2):
        (tmp_path / str(number)).mkdir()
        (tmp_path / str(number) / "a").write_bytes(bytes([number]))
        archives.append(submission.pack(tmp_path / str(number), tmp_path / f"{number}.tar.gz"))
    with pytest.raises(DifferentResultsError, match="different files"):
        submission.same_members(*archives)


@pytest.mark.parametrize(
    ("spans", "share"),
    [([], None), ([(0, 1), (3, 4)], 0.5), ([(0, 3), (1, 2), (2, 4)], 1.0), ([(5, 6), (0, 3)], 4 / 6)],
)
def test_the_busy_share_counts_overlapping_spans_once(spans: list[tuple[float, float]], share: float | None) -> None:
    assert rates.covered_share(spans) == share


def test_sizes_are_set_by_name_and_keep_their_type() -> None:
    sizes = bench.with_values(musc.FULL, ["images=7", "growth=3,4"], "musc")
    assert (sizes.images, sizes.growth, sizes.width) == (7, (3, 4), 1024)
    with pytest.raises(SystemExit, match=r"musc has no size 'tiles'. Valid: images, grid, width"):
        bench.with_values(musc.FULL, ["tiles=7"], "musc")
    with pytest.raises(SystemExit, match="expected a value of type int, such as 12"):
        bench.with_values(musc.FULL, ["images=many"], "musc")
    assert bench.sizes_of(superadd, quick=False) is superadd.FULL  # type: ignore[arg-type]
    assert bench.sizes_of(superadd, quick=False, device="cuda") is superadd.GPU  # type: ignore[arg-type]
    assert bench.sizes_of(superadd, quick=True, device="cuda") is superadd.QUICK  # type: ignore[arg-type]


def test_a_failing_benchmark_leaves_the_others_and_ends_with_an_error(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    def rows(options: Options, sizes: object) -> None:
        raise DifferentResultsError("maps differ")

    monkeypatch.setattr("benchmarks.cases.musc.rows", rows)
    arguments = ["musc", "fingerprints", "--quick", "--json", str(tmp_path / "out" / "a.json")]
    with pytest.raises(SystemExit, match="musc: DifferentResultsError: maps differ"):
        bench.main(arguments)
    results = json.loads((tmp_path / "out" / "a.json").read_text())
    assert len(results["facts"]) == 4 and results["failures"] == ["musc: DifferentResultsError: maps differ"]
    assert "one file changed" in capsys.readouterr().out
    with pytest.raises(SystemExit, match=r"croq is no benchmark. Valid: crop, train"):
        bench.main(["croq"])
    with pytest.raises(SystemExit, match="one benchmark; expected one name, found crop, merge"):
        bench.main(["crop", "merge", "--set", "images=2"])


def test_tables_and_the_block_of_the_docs(tmp_path: Path) -> None:
    work = Work("merge", "work", "loop", 5.0, "a note")
    row = Row(work, Timings([2.0, 4.0], [2.0], [10.0]), Timings([0.5, 0.5], [0.25], [2.5]), "bit-identical")
    fact = Fact("Memory, MB", "crop", {"10 images": 151.0, "why": None}, "flat")
    results = tables.as_json(tables.machine(2), [row, fact])
    assert json.loads(json.dumps(results)) == results
    text = tables.markdown(results)
    measured = (
        "| merge | work | loop | 3 (2-4) | 0.500 (0.500-0.500) | 6 | 8 | 10 | 2.50 | 5: met | bit-identical; a note |"
    )
    assert measured in text
    assert (
        "Memory, MB:\n\n| stage | 10 images | why | note |\n| --- | --- | --- | --- |\n| crop | 151 |  | flat |" in text
    )
    assert f"numpy {np.__version__}" in text and "2 of" in text

    document = tmp_path / "doc.md"
    document.write_text("before\n<!-- x: begin -->\nold\n<!-- x: end -->\nafter\n")
    for _ in range(2):
        tables.write_block(document, "x", text)
    assert document.read_text() == f"before\n<!-- x: begin -->\n\n{text.strip()}\n\n<!-- x: end -->\nafter\n"
    with pytest.raises(ValueError, match=r"expected a block <!-- y: begin -->"):
        tables.write_block(document, "y", text)


def test_the_docs_hold_the_figures_on_disk(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    text = bench.DOCUMENT.read_text(encoding="utf-8")
    document = tmp_path / "performance.md"
    document.write_text(text, encoding="utf-8")
    monkeypatch.setattr(bench, "DOCUMENT", document)
    bench.write_docs()
    assert document.read_text(encoding="utf-8") == text
    for block in bench.BLOCKS:
        assert text.count(f"<!-- {block}: begin -->") == text.count(f"<!-- {block}: end -->") == 1


@pytest.mark.parametrize(
    ("value", "text"), [(0.0, "0"), (0.01234, "0.0123"), (0.5, "0.500"), (3.0, "3"), (12.34, "12.3"), (123.4, "123")]
)
def test_figures_have_three_digits(value: float, text: str) -> None:
    assert tables.spread([value]) == f"{text} ({text}-{text})"
