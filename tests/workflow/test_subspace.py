"""SubspaceAD through the real workflow: all training images, and one, inferred in shards."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pandas as pd
import pytest
import yaml
from safetensors.torch import load_file

from robis.evaluation.metrics import METRICS
from robis.workflow.stages import followers, readers
from tests.workflow.conftest import CONFIG, OTHER_TARGETS, Workspace, made_once, write_tiny_dataset

pytestmark = pytest.mark.workflow

SUBSPACE: dict[str, Any] = {
    **{name: CONFIG[name] for name in ("tiling", "encoder", "merge", "binarize", "report")},
    "dataset": CONFIG["dataset"] | {"splits": ["test_public"]},
    "detectors": ["subspace"],
    "subspace": {"shots": [0, 1], "rotations": 2},
    "infer": {"shards": 2, "batch_size": 4},
    "refine": {"method": "none"},
}
RUNS = ("subspace_all", "subspace_1shot_seed0")
# The validation split is inferred too, for the limit of `judge`.
MAPS = (*["infer_shard"] * 4, *["infer"] * 2, "merge")
PER_RUN = ("train", *MAPS, "binarize", "judge", "refine", "score_images", "evaluate")
SUBSPACE_CHANGES: dict[str, tuple[Any, list[str]]] = {
    # Of the run with references alone.
    "subspace.references": (["good/001_regular"], [*PER_RUN, "report"]),
    "subspace.rotations": (3, [*PER_RUN, "report"]),
    "subspace.explained_variance": (0.9, [*PER_RUN * 2, "report"]),
}


@pytest.fixture(scope="module")
def subspace(tmp_path_factory: pytest.TempPathFactory) -> Workspace:
    """One complete run that nobody may change."""

    def make(workspace: Workspace) -> None:
        write_tiny_dataset(workspace.folder / "data")
        workspace.configfile.write_text(yaml.safe_dump(SUBSPACE))
        workspace.snakemake("all", "metrics")

    return made_once(tmp_path_factory, "subspace", make)


def test_runs_of_all_images_and_of_one_reach_the_report(subspace: Workspace) -> None:
    page = (subspace.results / "report" / "index.html").read_text()
    for run in RUNS:
        folder = subspace.results / run
        assert pd.read_parquet(folder / "metrics/nut/test_public.parquet")[list(METRICS)].notna().all(axis=None)
        model = load_file(folder / "models/nut/model.safetensors")
        dimensions, width = model["components"].shape
        assert model["mean"].shape == (192,) == (width,) and 0 < dimensions < width
        assert (folder / "models/nut/model.safetensors").stat().st_size < 200_000, "a model of kilobytes"
        assert run in page


@pytest.mark.parametrize("key", list(SUBSPACE_CHANGES))
def test_a_changed_key_plans_what_the_table_says(subspace: Workspace, tmp_path: Path, key: str) -> None:
    value, jobs = SUBSPACE_CHANGES[key]
    changed = Workspace(subspace.folder)
    changed.configfile = tmp_path / "config.yaml"
    options = SUBSPACE["subspace"] | {key.partition(".")[2]: value}
    changed.configfile.write_text(yaml.safe_dump(SUBSPACE | {"subspace": options}))
    assert changed.planned("all", "metrics") == sorted(jobs)
    assert set(jobs) - {"infer_shard"} == followers(set(readers(key, ["subspace"])), ["subspace"]) - OTHER_TARGETS
