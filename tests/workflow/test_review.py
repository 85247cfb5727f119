"""A review of a finished run: its table gives the next run, which computes only what depends on the verdicts."""

from __future__ import annotations

import contextlib

import pandas as pd
import pytest

from robis.cli import main
from robis.workflow.verdict_files import COLUMNS
from tests.workflow.conftest import Workspace

pytestmark = pytest.mark.workflow


def judge(workspace: Workspace, *lines: str) -> None:
    """Apply verdicts (sample id, verdict) on images without labels, and write the config that uses the table."""
    rows = [f"nut,test_private,{line.partition(',')[0]},,,,,,{line.partition(',')[2]},," for line in lines]
    (workspace.folder / "verdicts.csv").write_text("\n".join([",".join(COLUMNS), *rows, ""]))
    with contextlib.chdir(workspace.folder):
        assert main(["review", "apply", "verdicts.csv", "--configfile", "config.yaml", "--out", "next"]) == 0
    table = str(workspace.folder / "next" / "samples.csv")
    workspace.write_config({"dataset": {"layout": "table", "table": table, "allow_outside_root": True}})


def test_only_what_reads_the_labels_runs_again(copy: Workspace) -> None:
    """The table lists the same images under the same names, with two labels more."""
    before = copy.outputs()
    judge(copy, "000_regular,good", "001_regular,false alarm")
    of_split = ("index", "crop", "infer", "merge", "binarize", "judge", "refine", "score_images", "evaluate")
    assert copy.planned("all", "metrics") == sorted([*of_split, "report"]), "one job each, and no training"
    copy.snakemake("metrics")
    after = copy.outputs()
    labels = "samples/nut/test_private.parquet"
    new = {f"inp_former/{table}/nut/test_private.parquet" for table in ("metrics", "curves")}
    assert {name for name in after if after[name] != before.get(name)} == {labels, *new}
    assert pd.read_parquet(copy.results / labels)["label"].tolist() == ["normal", "normal"]
