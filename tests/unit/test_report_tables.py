"""Tables of the report: means, best ones, seeds, LaTeX, CSV, spreadsheet, published numbers."""

from __future__ import annotations

import csv
from pathlib import Path
from typing import Any

import pandas as pd
import pytest
import yaml
from openpyxl import load_workbook
from openpyxl.worksheet.worksheet import Worksheet

from robis.config.settings import every_key
from robis.detectors.settings import Settings, parse
from robis.evaluation.metrics import MEANINGS, METRICS, typed
from robis.io.tables import plain_text
from robis.report.exports import write_metrics_csv, write_tables
from robis.report.images import images_table
from robis.report.overview import HEADINGS, Cell, SplitTables, mark_best, split_tables, without_seeds
from robis.report.page import versions
from robis.report.published import PIXEL_METRICS, comparisons, read_literature
from robis.report.runs import no_metrics
from robis.report.workbook import sheet_name, write_workbook
from robis.workflow.report_facts import report_facts
from robis.workflow.runs import runs_of


def measured(rows: dict[tuple[str, str], float | None], split: str = "test") -> pd.DataFrame:
    """(run, category) -> SegF1; every other metric is undefined."""
    columns = [
        {"detector": run, "category": category, "split": split, "images": 4, "anomalous_images": 2, "defects": 2}
        | dict.fromkeys(METRICS)
        | {"seg_f1": value}
        for (run, category), value in rows.items()
    ]
    return typed(pd.DataFrame(columns))


# Two draws of few-shot WinCLIP and MuSc on two categories, one of them undefined for MuSc.
OWN = measured(
    {
        ("musc", "nut"): 0.5,
        ("musc", "bolt"): None,
        ("winclip_2shot_seed0", "nut"): 0.2,
        ("winclip_2shot_seed0", "bolt"): 0.4,
        ("winclip_2shot_seed1", "nut"): 0.4,
        ("winclip_2shot_seed1", "bolt"): 0.8,
    }
)
NO_IMAGES = images_table([], [])
OTHER = measured({("before: musc", "nut"): 0.5})


def seg_f1(table: SplitTables, category: str) -> list[Cell]:
    return list(next(row.cells for row in table.matrices["seg_f1"] if row.name == category))


def test_a_matrix_has_runs_seeds_and_other_results() -> None:
    (table,) = split_tables(OWN, OTHER)
    kinds = {column.name: column.kind for column in table.columns}
    assert kinds == {
        "musc": "run",
        "winclip_2shot": "seeds",
        "winclip_2shot_seed0": "seed",
        "winclip_2shot_seed1": "seed",
        "before: musc": "other",
    }
    values = [cell.value for cell in seg_f1(table, "nut")]
    assert values == [0.5, pytest.approx(0.3), 0.2, 0.4, 0.5]
    # Of 0.2 and 0.4: the sample standard deviation is 0.2 / sqrt(2).
    assert seg_f1(table, "nut")[1].std == pytest.approx(0.2 / 2**0.5)
    # Means: MuSc over the one category that defines it; seeds over the means 0.3 and 0.6.
    mean = seg_f1(table, "mean")
    assert [cell.value for cell in mean] == [0.5, pytest.approx(0.45), pytest.approx(0.3), pytest.approx(0.6), 0.5]
    assert mean[1].std == pytest.approx(0.3 / 2**0.5)
    assert [cell.categories for cell in mean] == [1, None, None, None, None]
    assert [(row.name, row.categories) for row in table.means] == [
        *[("musc", 2), ("winclip_2shot", 2), ("winclip_2shot_seed0", 2), ("winclip_2shot_seed1", 2)],
        ("before: musc", 1),
    ]


def test_single_seeds_are_never_the_best() -> None:
    (table,) = split_tables(OWN, OTHER)
    assert [cell.best for cell in seg_f1(table, "nut")] == [True, False, False, False, True], "ties are both"
    assert [cell.best for cell in seg_f1(table, "bolt")] == [False] * 5, "nothing to compare with"
    assert [cell.best for cell in mark_best([Cell(0.0), Cell(0.0), Cell(None)], [True] * 3)] == [False] * 3


def test_nothing_measured_gives_no_table(tmp_path: Path) -> None:
    assert split_tables(no_metrics(), no_metrics()) == []
    write_metrics_csv(tmp_path / "metrics.csv", no_metrics())
    assert (tmp_path / "metrics.csv").read_text().startswith("detector,category,split,images,anomalous_images,defects,")
    write_workbook(tmp_path / "metrics.xlsx", [], NO_IMAGES)
    book = load_workbook(tmp_path / "metrics.xlsx")
    assert (book.sheetnames, book.active.title) == (["means", "images"], "images")


def test_runs_that_differ_in_their_seed_are_named_once() -> None:
    runs = ["musc", "winclip_0shot", "winclip_1shot_seed0", "winclip_1shot_seed1", "winclip_2shot_seed0"]
    assert without_seeds(runs) == ["musc", "winclip_0shot", "winclip_1shot (2 seeds)", "winclip_2shot_seed0"]


def test_tables_for_papers(tmp_path: Path) -> None:
    write_tables(tmp_path, OWN, split_tables(OWN, OTHER))
    table = pd.read_csv(tmp_path / "test" / "seg_f1.csv")
    assert table.columns.tolist() == ["category", *split_names(OWN)]
    assert table["musc"].tolist()[0] == 0.5 and pd.isna(table["musc"][1])
    lines = (tmp_path / "test" / "seg_f1.tex").read_text().splitlines()
    assert lines[1] == r"\begin{tabular}{lrr}", "MuSc and the mean over seeds"
    assert lines[3] == r"Category & musc & winclip\_2shot (2 seeds) \\"
    assert lines[5] == r"nut & \textbf{50.0} & 30.0 $\pm$ 14.1 \\"
    assert lines[6] == r"bolt & -- & 60.0 $\pm$ 28.3 \\"
    assert lines[7:9] == [r"\midrule", r"mean & 50.0 & 45.0 $\pm$ 21.2 \\".replace("50.0", r"\textbf{50.0}")]
    note = f"% SegF1: {MEANINGS['seg_f1']}.".replace("100 %", r"100 \%")
    assert lines[-2:] == [r"\end{tabular}", note], "below the table, ready to be printed"
    notes = [line for line in (tmp_path / "means.tex").read_text().splitlines() if line.startswith("% ")]
    assert [line.split(":")[0] for line in notes[1:]] == [f"% {heading[2]}" for heading in HEADINGS.values()]
    seeds = pd.read_csv(tmp_path / "seeds.csv")
    assert seeds["category"].tolist() == ["nut", "bolt", "mean"]
    assert seeds["seg_f1_std"].tolist() == pytest.approx([0.2 / 2**0.5, 0.4 / 2**0.5, 0.3 / 2**0.5])
    means = pd.read_csv(tmp_path / "means.csv")
    assert means["seg_f1"].tolist() == pytest.approx([0.5, 0.3, 0.6])
    assert r"winclip\_2shot\_seed0, test" in (tmp_path / "means.tex").read_text()
    assert r"60.0 $\pm$ 28.3" in (tmp_path / "test" / "winclip_2shot.tex").read_text().splitlines()[6]
    assert not list(tmp_path.rglob("before*")), "other results are not this run's"


def split_names(table: pd.DataFrame) -> list[str]:
    (found,) = split_tables(table, no_metrics())
    return [column.name for column in found.columns]


def test_latex_escapes_names(tmp_path: Path) -> None:
    table = measured({("musc", r"a_b & 50% {x} \ ^~ #$"): 0.5})
    write_tables(tmp_path, table, split_tables(table, no_metrics()))
    escaped = r"a\_b \& 50\% \{x\} \textbackslash \space \textasciicircum \textasciitilde \space \#\$"
    assert (tmp_path / "test" / "seg_f1.tex").read_text().splitlines()[5] == escaped + r" & 50.0 \\"


# What a spreadsheet program would execute: OWASP, "CSV injection".
FORMULAS = ("=1+1", "+1", "-1", "@SUM(A1)", "\t=1", "\r=1", "\n=1", " =1", "\uff1d1")


@pytest.mark.parametrize("text", FORMULAS)
def test_a_name_is_never_a_formula(tmp_path: Path, text: str) -> None:
    """In every file of metrics, in the same way; numbers stay numbers."""
    expected = f"'{text}".translate(str.maketrans("\t\r\n", "   "))
    table = measured({("musc", text): 0.25})
    tables = split_tables(table, no_metrics())
    write_metrics_csv(tmp_path / "metrics.csv", table)
    write_tables(tmp_path / "tables", table, tables)
    write_workbook(tmp_path / "metrics.xlsx", tables, NO_IMAGES)
    files = [tmp_path / "metrics.csv", *(tmp_path / "tables" / "test" / f"{name}.csv" for name in ("seg_f1", "musc"))]
    for path in files:
        with path.open(encoding="utf-8", newline="") as stream:
            rows = list(csv.DictReader(stream))
        assert rows[0]["category"] == expected, path.name
        assert rows[0].get("seg_f1", rows[0].get("musc")) == "0.25"
    cell = load_workbook(tmp_path / "metrics.xlsx")["musc test"]["A2"]
    assert (cell.data_type, cell.value) == ("s", expected)


def test_plain_text_leaves_the_rest_alone() -> None:
    for value in ("nut", "a=b", "01", "", -1.5, None, True):
        assert plain_text(value) is value
    assert plain_text("nut\r=cmd()") == "nut =cmd()", "no new cell within a name"


def test_a_run_with_the_name_of_a_formula_is_neutral_in_headings(tmp_path: Path) -> None:
    table = measured({("=cmd()", "nut"): -0.5})
    write_tables(tmp_path, table, split_tables(table, no_metrics()))
    lines = (tmp_path / "test" / "seg_f1.csv").read_text().splitlines()
    assert lines == ["category,'=cmd()", "nut,-0.5", "mean,-0.5"], "a negative number stays one"


def test_a_row_of_the_spreadsheet_does_not_look_at_the_rows_above(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Otherwise the time would grow with the square of the number of images."""
    of_openpyxl, calls = Worksheet.max_row, []
    monkeypatch.setattr(Worksheet, "max_row", property(lambda sheet: calls.append(1) or of_openpyxl.fget(sheet)))
    numbers = []
    for count in (10, 60):
        images = pd.DataFrame({name: range(count) for name in NO_IMAGES.columns})
        tables = split_tables(measured({("musc", f"c{number}"): 0.5 for number in range(count)}), no_metrics())
        calls.clear()
        write_workbook(tmp_path / "metrics.xlsx", tables, images)
        assert load_workbook(tmp_path / "metrics.xlsx")["images"].max_row == count + 1
        numbers.append(len(calls))
    assert numbers[0] == numbers[1]


def test_the_spreadsheet_holds_numbers(tmp_path: Path) -> None:
    path = tmp_path / "metrics.xlsx"
    tables = [*split_tables(OWN, OTHER), *split_tables(measured({("musc", "=1+1"): 0.25}, "val"), no_metrics())]
    write_workbook(path, tables, NO_IMAGES)
    book = load_workbook(path)
    runs = ["musc", "winclip_2shot_seed0", "winclip_2shot_seed1"]
    assert book.sheetnames == ["means", *(f"{run} test" for run in runs), "musc val", "seeds", "images"]
    column = 1 + 1 + METRICS.index("seg_f1")
    sheet = book["winclip_2shot_seed1 test"]
    assert [cell.value for cell in sheet["A"]] == ["category", "nut", "bolt", "mean"]
    assert sheet.cell(3, column).value == 0.8
    assert sheet.cell(3, column).number_format == "0.0%"
    assert sheet.cell(4, column).value == pytest.approx(0.6)
    assert book["musc test"].cell(3, column).value is None, "undefined is empty"
    formula = book["musc val"]["A2"]
    assert (formula.value, formula.data_type) == ("'=1+1", "s"), "a name is text"
    means = book["means"]
    assert [cell.value for cell in means[1]][:4] == ["detector", "split", "categories", "image_auroc"]
    assert [cell.value for cell in means["A"]] == ["detector", *runs, "musc"]
    seeds = [[cell.value for cell in row] for row in book["seeds"].iter_rows(min_row=2)]
    assert [row[:4] for row in seeds] == [["winclip_2shot", "test", name, 2] for name in ("nut", "bolt", "mean")]
    place = 4 + 2 * METRICS.index("seg_f1")
    assert seeds[0][place : place + 2] == pytest.approx([0.3, 0.2 / 2**0.5])
    assert seeds[2][place : place + 2] == pytest.approx([0.45, 0.3 / 2**0.5])
    first = path.read_bytes()
    write_workbook(path, tables, NO_IMAGES)
    assert path.read_bytes() == first


@pytest.mark.parametrize(
    ("wanted", "name"),
    [
        ("musc test", "musc test"),
        ("a/b\\c*d?e:f[g]", "a_b_c_d_e_f_g_"),
        ("winclip_4shot_seed0 test_private_mixed", "winclip_4shot_seed0 test_privat"),
        ("'quoted'", "quoted"),
        ("History", "history_"),
        ("''", "sheet"),
    ],
)
def test_sheet_names_are_valid(wanted: str, name: str) -> None:
    assert sheet_name(wanted, []) == name
    assert len(name) <= 31


def test_sheet_names_are_unique_in_any_case() -> None:
    taken: list[str] = []
    long = "winclip_4shot_seed0 test_private"
    assert [sheet_name(wanted, taken) for wanted in (long, long + "_mixed", "Means", "means", "MEANS")] == [
        *("winclip_4shot_seed0 test_privat", "winclip_4shot_seed0 test_priv 2", "Means", "means 2", "MEANS 3")
    ]


SETUP = {
    "detector": "musc",
    "encoder.name": "clip_vitl14_336",
    "encoder.weights": "auto",
    "encoder.input_size": None,
    "tiling.window": "image",
    "tiling.resample": "bicubic",
    "score_images.top_fraction": "own",
    "rescore.method": "rscin",
    "rescore.neighborhood_sizes": [1, 2, 3],
    "rescore.embeddings": "own",
    "musc.subsets": 1,
    "winclip.shots": 0,
    "winclip.scales": [2, 3],
    "winclip.temperature": 0.07,
    "evaluate.resolution": 518,
}
LITERATURE = read_literature()
MVTEC_AD = LITERATURE.benchmarks["mvtec_ad"].categories


def compared(method: str, categories: tuple[str, ...] = MVTEC_AD, **changes: Any) -> tuple[Any, str]:
    """Comparable metrics and reasons of a published row, beside a run with some settings changed."""
    setup = SETUP | {key.replace("__", "."): value for key, value in changes.items()}
    rows = [one for one in comparisons(LITERATURE, "mvtec_ad", categories, {"run": setup}) if one.row.method == method]
    assert len(rows) == 1
    return rows[0].comparable, "; ".join(rows[0].reasons)


def test_published_numbers_compare_only_in_the_published_setting() -> None:
    clip = "MuSc, CLIP ViT-L/14-336 at 518"
    everything = ("image_auroc", "image_f1_max", "image_ap", "pixel_auroc", "pixel_f1_max", "pixel_ap", "aupro_0.30")
    assert compared(clip) == (everything, "")
    images, why = compared(clip, evaluate__resolution="ground_truth")
    assert images == everything[:3]
    assert why == "pixel metrics: published at 518 pixels, ours at ground truth (evaluate.resolution)"
    assert compared(clip, encoder__weights="random") == ((), "the encoder's weights are random here")
    assert compared(clip, rescore__neighborhood_sizes=[2, 3]) == (
        (),
        "rescore.neighborhood_sizes: published with 1, 2, 3, here 2, 3",
    )
    assert compared(clip, MVTEC_AD[:3]) == ((), "a mean over 15 categories; this report has 3")
    assert compared(clip, detector="inp_former") == ((), "no run uses this method")
    assert compared("MuSc, DINOv2 ViT-L/14 at 518")[0] == ()
    shot = {"detector": "winclip", "encoder__name": "clip_vitb16plus", "rescore__method": "none"}
    comparable, why = compared("WinCLIP, 0-shot", **shot)
    assert comparable == everything[:3]
    assert why == "pixel metrics: the source does not say at which resolution"
    assert compared("WinCLIP, 4-shot", **shot) == ((), "winclip.shots: published with 4, here 0")


def test_what_the_server_computes_is_never_compared() -> None:
    categories = LITERATURE.benchmarks["mvtec_ad_2"].categories
    rows = comparisons(LITERATURE, "mvtec_ad_2", categories, {"run": SETUP | {"detector": "inp_former"}})
    private = [one for one in rows if one.row.split.startswith("test_private")]
    assert len(private) == 2 * (9 + 10)
    assert not any(one.comparable for one in rows)
    assert all("ground truth of the private splits is not public" in one.reasons[0] for one in private)


def test_other_images_in_a_benchmark_s_layout_are_not_the_benchmark() -> None:
    benchmark = LITERATURE.benchmark_of("mvtec_ad", ("bottle", "pill"))
    assert benchmark and benchmark.name == "MVTec AD"
    assert LITERATURE.benchmark_of("mvtec_ad", ("bottle", "my_part")) is None
    assert LITERATURE.benchmark_of("folder", ("bottle",)) is None
    assert LITERATURE.benchmark_of("mvtec_ad", ()) is None
    assert comparisons(LITERATURE, "mvtec_ad", ("my_part",), {"run": SETUP}) == []


def test_the_settings_that_decide_are_keys_of_the_config() -> None:
    keys = set(LITERATURE.setup_keys())
    assert {"encoder.weights", "evaluate.resolution", "encoder.name"} <= keys <= set(every_key(Settings))
    assert all("detector" in row.needs for row in LITERATURE.results if not row.never)


def test_published_means_are_means_of_their_categories() -> None:
    """RoBiS's table, whose last line is the mean of the eight above, to the digits that are printed."""
    rows = [row for row in LITERATURE.results if row.method == "RoBiS" and row.split.startswith("test_private")]
    for split in ("test_private", "test_private_mixed"):
        for metric in ("aupro_0.05", "class_f1", "seg_f1"):
            values = [row.values[metric] for row in rows if row.split == split and row.category != "mean"]
            (mean,) = [row.values[metric] for row in rows if row.split == split and row.category == "mean"]
            assert len(values) == 8
            assert sum(values) / 8 == pytest.approx(mean, abs=0.006)
    assert all(set(row.values) <= set(METRICS) for row in LITERATURE.results)
    assert {row.benchmark for row in LITERATURE.results} == {
        benchmark.name for benchmark in LITERATURE.benchmarks.values()
    }
    assert set(PIXEL_METRICS) == {"pixel_auroc", "pixel_ap", "pixel_f1_max", "aupro_0.30", "aupro_0.05"}


def test_versions_are_of_what_is_installed() -> None:
    found = versions()
    assert {"robis", "Python", "numpy", "pandas"} <= set(found)


def test_facts_hold_the_config_and_what_auto_means() -> None:
    values = {"detectors": ["inp_former", "winclip"], "winclip": {"shots": [0, 2]}, "encoder": {"input_size": 240}}
    settings = parse(values | {"infer": {"shards": 2}})
    facts = report_facts(settings, runs_of(settings), ["winclip.shots", "encoder.name"])
    assert yaml.safe_load(facts["config"])["encoder"] == settings.encoder.model_dump(mode="json")
    own = yaml.safe_load("\n".join(line[4:] for line in facts["config"].splitlines() if line.startswith("#   ")))
    assert own["inp_former"]["encoder.name"] == "dinov2_reg_vitb14"
    assert own["winclip_2shot_seed0"]["winclip.shots"] == 2
    setup = {"detector": "winclip", "winclip.shots": 0, "encoder.name": "clip_vitb16plus"}
    assert facts["setups"]["winclip_0shot"] == setup
    assert facts["layout"] == settings.dataset.layout
