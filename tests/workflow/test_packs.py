"""The target `packs`: what it plans, what it refuses, and what its packs say."""

from __future__ import annotations

import re
import shutil
from pathlib import Path

import pandas as pd
import pytest

from robis.cli import main
from robis.evaluation.metrics import METRICS
from robis.packs.format import read_manifest
from robis.workflow.stages import SHARED
from tests.workflow.conftest import Workspace

pytestmark = pytest.mark.workflow

ALONE = {"merge": {"normalize": "validation"}, "binarize": {"calibrate": "validation"}}


@pytest.fixture(scope="module")
def packed(finished: Workspace, tmp_path_factory: pytest.TempPathFactory) -> Workspace:
    """The complete run, scaled and calibrated by the validation split, and its pack."""
    folder = tmp_path_factory.mktemp("packed") / "run"
    shutil.copytree(finished.folder, folder, symlinks=True)
    workspace = Workspace(folder)
    workspace.write_config(ALONE)
    workspace.snakemake("packs", cores=1)
    return workspace


def test_a_pack_says_that_all_masks_equal_the_workflows(packed: Workspace) -> None:
    manifest = read_manifest(packed.results / "inp_former" / "packs" / "nut")
    assert (manifest.run, manifest.category, manifest.split) == ("inp_former", "nut", "test_public")
    assert manifest.check and manifest.check.model_dump() == {
        **dict.fromkeys(("images", "equal_masks", "equal_maps", "equal_scores"), 5),
        "differing_pixels": 0,
        "score_difference": 0.0,
    }
    row = pd.read_parquet(packed.results / "inp_former" / "metrics" / "nut" / "test_public.parquet").iloc[0]
    assert manifest.metrics == {name: row[name] for name in METRICS}
    verdicts = pd.read_parquet(packed.results / "inp_former" / "verdicts" / "nut" / "test_public.parquet")
    assert manifest.limit and manifest.limit.value == verdicts["limit"][0]


def test_the_metrics_end_with_the_comparison(packed: Workspace, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["metrics", str(packed.results)]) == 0
    said = "inp_former/nut: Masks of 5 of 5 images of test_public equal the workflow's."
    assert f"Packs, compared with the run by inspecting its images:\n  {said}\n" in capsys.readouterr().out


def test_packs_are_stale_with_the_run_and_with_their_own_options_alone(packed: Workspace, tmp_path: Path) -> None:
    assert packed.planned("packs") == []
    changed = Workspace(packed.folder)
    changed.configfile = tmp_path / "config.yaml"
    packed.write_config(ALONE | {"packs": {"checked_images": 1}}, to=changed.configfile)
    assert changed.planned("packs") == ["pack"]
    packed.write_config(ALONE | {"refine": {"method": "none"}}, to=changed.configfile)
    assert changed.planned("packs") == ["evaluate", "pack", "refine", "score_images"]


def test_the_report_reads_packs_where_the_config_says_so(packed: Workspace, tmp_path: Path) -> None:
    reporting = Workspace(packed.folder)
    reporting.configfile = tmp_path / "config.yaml"
    with_packs = ALONE | {"report": {"packs": True}}
    packed.write_config(with_packs, to=reporting.configfile)
    reporting.snakemake(cores=1)
    said = "inp_former, nut: Masks of 5 of 5 images of test_public equal the workflow&#39;s."
    assert (packed.results / "report" / "index.html").read_text().count(said) == 1
    # No stale sentence: another pack, another report.
    packed.write_config(with_packs | {"packs": {"checked_images": 2}}, to=reporting.configfile)
    assert reporting.planned() == ["pack", "report"]


SMALL = ALONE | {"detectability": {"kinds": ["stain"], "sizes": [4.0, 30.0], "defects_per_size": 1}}


def test_detectability_follows_the_packs_and_its_own_options(
    packed: Workspace, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    measuring = Workspace(packed.folder)
    measuring.configfile = tmp_path / "config.yaml"
    packed.write_config(SMALL, to=measuring.configfile)
    measuring.snakemake("detectability", cores=1)
    said = pd.read_parquet(packed.results / "inp_former" / "detectability" / "nut" / "curves.parquet")["sentence"][0]
    assert main(["metrics", str(packed.results)]) == 0
    assert f"nut, inp_former: {said}" in capsys.readouterr().out
    for key, value in (("seed", 1), ("pixel_size", 0.1)):
        packed.write_config(SMALL | {"detectability": SMALL["detectability"] | {key: value}}, to=measuring.configfile)
        assert measuring.planned("detectability") == ["measure_detectability"]
    packed.write_config(SMALL | {"packs": {"checked_images": 1}}, to=measuring.configfile)
    assert measuring.planned("detectability") == ["measure_detectability", "pack"]
    packed.write_config(SMALL | {"report": {"detectability": True}}, to=measuring.configfile)
    assert "measure_detectability" not in measuring.planned() and "report" in measuring.planned()


# What packs of other detectors follow: MuSc.
OTHERS = {"embed_references"}


@pytest.mark.parametrize(("target", "stage"), [("packs", "pack"), ("detectability", "measure_detectability")])
def test_the_table_of_stages_follows_the_rule(packed: Workspace, target: str, stage: str) -> None:
    output = packed.snakemake("--rulegraph", "--forceall", target)
    names = dict(re.findall(r'(\d+)\[label = "(\w+)"', output))
    before = {names[a] for a, b in re.findall(r"(\d+) -> (\d+)", output) if names[b] == stage}
    assert before | OTHERS == set(SHARED[stage].after) | OTHERS


def test_a_run_that_needs_a_split_is_refused_before_any_job(finished: Workspace) -> None:
    output = finished.snakemake("--dry-run", "packs", ok=False)
    assert "merge.normalize and binarize.calibrate: found 'split' for inp_former/nut" in output
