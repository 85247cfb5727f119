"""Metrics of other settings than the rest are marked, named with what differs, and not averaged."""

from __future__ import annotations

import os
import unicodedata
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pandas as pd
import pytest

from robis.cli import main
from robis.config.settings import SharedSettings
from robis.detectors.settings import parse
from robis.evaluation.metrics import METRICS, typed
from robis.evaluation.tables import format_table, mean_metrics, seed_spread
from robis.io.tables import write_table
from robis.workflow.provenance import metrics_and_settings, settings_record


class Results:
    """A results folder whose metrics were written one after the other."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.files: list[Path] = []

    def evaluate(self, category: str, value: float, settings: SharedSettings | None, run: str = "inp_former") -> None:
        names = {"detector": run, "category": category, "split": "test_public"}
        counts = {"images": 4, "anomalous_images": 2, "defects": 2}
        table = typed(pd.DataFrame([names | counts | dict.fromkeys(METRICS, value)]))
        if settings:
            table.attrs["settings"] = settings_record(settings, run=run, category=category, split="test_public")
        file = self.folder / run / "metrics" / category / "test_public.parquet"
        self.files = [*(other for other in self.files if other != file), file]
        write_table(file, table)
        os.utime(file, ns=(0, len(self.files) * 10**9 + int(value * 10**6)))

    def read(self) -> tuple[dict[str, bool], list[str]]:
        table, sentences = metrics_and_settings(sorted(self.files))
        return dict(zip(table["category"], table["other_settings"].tolist(), strict=True)), sentences


@pytest.fixture
def results(tmp_path: Path) -> Results:
    return Results(tmp_path / "results" / "parts")


def config(**sections: Any) -> SharedSettings:
    return parse({"encoder": {"input_size": 28}, **sections})


def test_a_row_of_an_earlier_setting_is_marked_and_not_averaged(
    results: Results, capsys: pytest.CaptureFixture[str]
) -> None:
    for category in ("01", "02"):
        results.evaluate(category, 0.5, config())
    assert results.read() == ({"01": False, "02": False}, [])
    results.evaluate("02", 0.75, config(encoder={"input_size": 42}))
    assert results.read() == (
        {"01": True, "02": False},
        ["inp_former, 01/test_public: encoder.input_size was 28, now 42"],
    )
    assert main(["metrics", str(results.folder)]) == 0
    printed = capsys.readouterr().out
    lines = {line.split("  ")[0]: line.split()[-1] for line in printed.splitlines() if line}
    assert lines["01 *"] == "50.0" and lines["02"] == "75.0"
    assert lines["mean"] == "75.0", "the mean of the rows that belong together"
    assert (
        "* Computed with other settings than the newest results, and not averaged. `snakemake` renews them.\n"
        "  inp_former, 01/test_public: encoder.input_size was 28, now 42\n\n"
    ) in printed
    results.evaluate("01", 0.25, config(encoder={"input_size": 42}))
    table, sentences = metrics_and_settings(results.files)
    assert not sentences and mean_metrics(table)["seg_f1"].item() == 0.5
    assert "*" not in format_table(table, sentences)


@pytest.mark.parametrize(
    ("before", "after", "difference"),
    [
        ({}, {"merge": {"scale": 0.5}}, "merge.scale was 0.25, now 0.5"),
        ({}, {"evaluate": {"resolution": 256}}, "evaluate.resolution was ground_truth, now 256"),
        ({}, {"inp_former": {"epochs": 9}}, "inp_former.epochs was 200, now 9"),
        ({}, {"refine": {"method": "none"}}, "refine.method was sam, now none"),
        # A key that is read with one setting only.
        (
            {"refine": {"method": "none"}},
            {"refine": {"method": "grabcut", "max_boxes": 2}},
            "refine.method was none, now grabcut; refine.max_boxes was not read, now 2",
        ),
        (
            {},
            {"overrides": [{"where": {"category": ["01", "02"]}, "set": {"merge.blend": "feather"}}]},
            "merge.blend was mean, now feather",
        ),
    ],
)
def test_every_setting_that_changes_metrics_counts(
    results: Results, before: dict[str, Any], after: dict[str, Any], difference: str
) -> None:
    results.evaluate("01", 0.5, config(**before))
    results.evaluate("02", 0.5, config(**after))
    marked, sentences = results.read()
    assert marked == {"01": True, "02": False}
    assert difference in sentences[0]


@pytest.mark.parametrize(
    "after",
    [
        {"infer": {"shards": 2}, "report": {"max_images": 3}, "detectors": ["inp_former", "musc"]},
        {"musc": {"subsets": 2}},
        {"refine": {"method": "sam", "sha256": "a" * 64}},
        # Another category's setting: its own metrics are renewed, these stay right.
        {"overrides": [{"where": {"category": "02"}, "set": {"merge.scale": 0.5}}]},
        {"overrides": [{"where": {"detector": "musc"}, "set": {"merge.scale": 0.5}}]},
        {"dataset": {"categories": ["02"], "root": "elsewhere"}},
    ],
)
def test_what_does_not_change_these_metrics_does_not_count(results: Results, after: dict[str, Any]) -> None:
    results.evaluate("01", 0.5, config())
    results.evaluate("02", 0.5, config(**after))
    assert results.read() == ({"01": False, "02": False}, [])


def test_runs_that_the_newest_config_does_not_have_are_compared_among_themselves(results: Results) -> None:
    few_shot = {"detectors": ["winclip"], "winclip": {"shots": [1, 2]}}
    for category in ("01", "02"):
        results.evaluate(category, 0.5, config(**few_shot), run="winclip_1shot_seed0")
    results.evaluate("01", 0.5, config(merge={"scale": 0.5}))
    table, sentences = metrics_and_settings(results.files)
    assert not table["other_settings"].any() and not sentences
    results.evaluate("02", 0.6, config(**few_shot, merge={"scale": 0.5}), run="winclip_1shot_seed0")
    _, sentences = metrics_and_settings(results.files)
    assert sentences == ["winclip_1shot_seed0, 01/test_public: merge.scale was 0.25, now 0.5"]


def test_embeddings_of_another_run_count(results: Results) -> None:
    lent = {"detectors": ["inp_former", "musc"], "rescore": {"method": "rscin", "embeddings": "musc"}}
    results.evaluate("01", 0.5, config(**lent))
    results.evaluate("02", 0.5, config(**lent, musc={"neighborhood_sizes": [1]}))
    assert results.read()[1] == [
        "inp_former, 01/test_public: musc.neighborhood_sizes of musc was [1, 3, 5], now [1]",
    ]


def test_the_record_holds_nothing_that_changes_no_result() -> None:
    """The same results have the same bytes, wherever the data lie and however the work was shared."""
    job = {"run": "inp_former", "category": "01", "split": "test_public"}
    same = config(dataset={"root": "elsewhere"}, infer={"shards": 4}, report={"max_images": 3}, musc={"memory_gb": 1.0})
    assert settings_record(config(), **job) == settings_record(same, **job)


def test_a_results_folder_is_known_in_any_form_of_unicode(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    results = Results(tmp_path / unicodedata.normalize("NFC", "Mu\u0308sli"))
    results.evaluate("01", 0.5, config())
    assert main(["metrics", str(tmp_path / unicodedata.normalize("NFD", "Mu\u0308sli"))]) == 0
    assert "50.0" in capsys.readouterr().out


@pytest.mark.parametrize(
    ("damage", "message"),
    [
        (lambda table: table.drop(columns="seg_f1"), "no column 'seg_f1'; found detector, category"),
        (lambda table: table.assign(seg_f1="high"), "the column 'seg_f1' holds"),
        (lambda table: table.iloc[:0], "0 rows; expected one"),
        (lambda table: pd.concat([table, table]), "2 rows; expected one"),
    ],
)
def test_a_damaged_table_of_metrics_is_named_with_its_rule(
    results: Results, capsys: pytest.CaptureFixture[str], damage: Callable[[pd.DataFrame], pd.DataFrame], message: str
) -> None:
    results.evaluate("01", 0.5, config())
    write_table(results.files[0], damage(pd.read_parquet(results.files[0])))
    assert main(["metrics", str(results.folder)]) == 1
    error = capsys.readouterr().err
    assert error.startswith(f"robis: {results.files[0]}: {message}")
    assert error.endswith("Make it again with `snakemake --forcerun evaluate`.\n")


def test_rows_without_a_record_are_marked_among_others_with_one(results: Results) -> None:
    for category in ("01", "02"):
        results.evaluate(category, 0.5, None)
    assert results.read() == ({"01": False, "02": False}, [])
    results.evaluate("02", 0.6, config())
    assert results.read() == (
        {"01": True, "02": False},
        ["inp_former, 01/test_public: computed with settings that are not recorded"],
    )


def test_the_spread_over_seeds_leaves_marked_rows_out() -> None:
    names = {"split": "test", "category": "01", "images": 4, "anomalous_images": 2, "defects": 2}
    rows = [
        names | dict.fromkeys(METRICS, value) | {"detector": f"winclip_1shot_seed{seed}", "other_settings": other}
        for seed, (value, other) in enumerate([(0.2, False), (0.4, False), (0.9, True)])
    ]
    spread = seed_spread(pd.DataFrame(rows))
    assert spread["seeds"].tolist() == [2, 2]
    assert spread["seg_f1"].tolist() == pytest.approx([0.3, 0.3])
