"""New images among old ones: only they are computed, and every result is as in a full run."""

from __future__ import annotations

import re
import shutil

import numpy as np
import pandas as pd
import pytest
from PIL import Image

from tests.workflow.conftest import Workspace

pytestmark = pytest.mark.workflow

SPLIT = "test_public"


def change_images(workspace: Workspace) -> None:
    """Add an unjudged image, change one and remove one."""
    folder = workspace.folder / "data" / "nut" / SPLIT
    image = np.array(Image.open(folder / "good" / "001_regular.png"))
    (folder / "Unknown").mkdir()
    Image.fromarray(image[::-1]).save(folder / "Unknown" / "000.png")
    Image.fromarray(255 - image).save(folder / "good" / "001_regular.png")
    (folder / "bad" / "001_regular.png").unlink()
    (folder / "ground_truth" / "bad" / "001_regular_mask.png").unlink()


@pytest.fixture(scope="module")
def changed(finished: Workspace, tmp_path_factory: pytest.TempPathFactory) -> Workspace:
    """A full run on the changed images."""
    folder = tmp_path_factory.mktemp("changed") / "full"
    shutil.copytree(finished.folder / "data", folder / "data")
    workspace = Workspace(folder)
    workspace.write_config()
    change_images(workspace)
    workspace.snakemake("all", "metrics")
    return workspace


@pytest.mark.parametrize("killed_at", ["tile_maps/nut/test_public.npy", "reuse/tile_maps/nut/test_public"])
def test_a_killed_run_on_new_images_goes_on_and_ends_like_a_full_one(
    copy: Workspace, changed: Workspace, killed_at: str
) -> None:
    """SIGKILL ends the run before the new maps, or what is kept of them, get their names."""
    change_images(copy)
    detector = copy.results / "inp_former"
    copy.kill_at("before", detector / killed_at, "metrics")
    copy.snakemake("all", "metrics")
    assert copy.outputs() == changed.outputs()
    tiles = pd.read_parquet(copy.results / "tiles" / "nut" / f"{SPLIT}.parquet")
    new = tiles["sample_id"].isin(["Unknown/000", "good/001_regular"]).sum()
    log = (detector / "logs" / "infer" / "nut" / f"{SPLIT}.log").read_text()
    assert re.findall(r"(\d+ of \d+) rows are new or changed", log) == [f"{new} of {len(tiles)}"]
    assert not list(copy.results.rglob(".*.partial.*")) + list(copy.results.rglob(".*.replaced.*"))


def test_an_unjudged_image_gets_a_mask_and_does_not_count(changed: Workspace) -> None:
    results = changed.results / "inp_former"
    assert (results / "anomaly_images_thresholded" / "nut" / SPLIT / "Unknown" / "000.png").is_file()
    metrics = pd.read_parquet(results / "metrics" / "nut" / f"{SPLIT}.parquet").iloc[0]
    assert (metrics["images"], metrics["anomalous_images"]) == (5, 2)
    # By hand: pairs of a defective and a normal image in which the defective one scores higher.
    scores = pd.read_parquet(results / "image_scores" / "nut" / f"{SPLIT}.parquet").set_index("sample_id")["rescored"]
    bad, good = (scores[scores.index.str.startswith(kind)] for kind in ("bad", "good"))
    assert (len(bad), len(good), len(scores)) == (2, 2, 5)
    assert metrics["image_auroc"] == np.mean([b > g for b in bad for g in good])
