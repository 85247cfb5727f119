"""Dinomaly through the real workflow: one model for two categories."""

from __future__ import annotations

import shutil
from collections import Counter
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest
import yaml
from PIL import Image

from robis.evaluation.metrics import METRICS
from robis.workflow.stages import followers, readers
from tests.workflow.conftest import CONFIG, OTHER_TARGETS, Workspace, changed_stages, made_once, write_tiny_dataset

pytestmark = pytest.mark.workflow

OPTIONS: dict[str, Any] = {"scope": "all", "steps": 6, "batch_size": 4, "warmup_steps": 2, "checkpoint_every": 2}
DINOMALY: dict[str, Any] = {
    **{name: CONFIG[name] for name in ("tiling", "encoder", "merge", "binarize", "report")},
    "dataset": CONFIG["dataset"] | {"splits": ["test_public"]},
    "detectors": ["dinomaly"],
    "dinomaly": OPTIONS,
    "refine": {"method": "none"},
}
# The validation split is inferred too, for the limit of `judge`.
PER_CATEGORY = ("infer", "infer", "merge", "binarize", "judge", "refine", "score_images", "evaluate")
# One model, two categories.
RETRAINED = ["train", *PER_CATEGORY * 2, "report"]
DINOMALY_CHANGES: dict[str, tuple[Any, list[str]]] = {
    "dinomaly.scope": ("category", ["train", *RETRAINED]),
    "dinomaly.steps": (7, RETRAINED),
    "dinomaly.batch_size": (3, RETRAINED),
    "dinomaly.learning_rate": (1e-3, RETRAINED),
    "dinomaly.final_learning_rate": (1e-4, RETRAINED),
    "dinomaly.warmup_steps": (3, RETRAINED),
    "dinomaly.weight_decay": (0.0, RETRAINED),
    "dinomaly.gradient_clip": (0.2, RETRAINED),
    "dinomaly.dropout": (0.1, RETRAINED),
    "dinomaly.easy_fraction": (0.5, RETRAINED),
    "dinomaly.easy_weight": (0.2, RETRAINED),
    "dinomaly.easy_steps": (10, RETRAINED),
    "dinomaly.augment": (True, RETRAINED),
    "dinomaly.seed": (1, RETRAINED),
    "dinomaly.precision": ("bf16", RETRAINED),
    "dinomaly.compile": (True, RETRAINED),
    "dinomaly.checkpoint_every": (3, []),
}
TARGETS = ("all", "metrics")
MODEL = "results/tiny/dinomaly/models/all/model.safetensors"


def write_options(workspace: Workspace, to: Path | None = None, **changes: Any) -> None:
    (to or workspace.configfile).write_text(yaml.safe_dump(DINOMALY | changes))


@pytest.fixture(scope="module")
def dinomaly(tmp_path_factory: pytest.TempPathFactory) -> Workspace:
    """One complete run that nobody may change."""

    def make(workspace: Workspace) -> None:
        write_tiny_dataset(workspace.folder / "data", ("nut", "bolt"))
        write_options(workspace)
        workspace.snakemake(*TARGETS)

    return made_once(tmp_path_factory, "dinomaly", make)


@pytest.fixture
def changed(dinomaly: Workspace, tmp_path: Path) -> Workspace:
    """The complete run in a folder of one's own, time stamps kept."""
    shutil.copytree(dinomaly.folder, tmp_path / "changed", symlinks=True)
    return Workspace(tmp_path / "changed")


def test_one_model_serves_both_categories_to_the_report(dinomaly: Workspace) -> None:
    run = dinomaly.results / "dinomaly"
    assert [path.name for path in (run / "models").iterdir()] == ["all"]
    history = pd.read_parquet(run / "models" / "all" / "training.parquet")
    assert history["step"].tolist() == [0, 1, 2, 3, 4, 5]
    tiles = sum(len(pd.read_parquet(path)) for path in (dinomaly.results / "tiles").glob("*/train.parquet"))
    steps_per_epoch = tiles // 4
    assert history["epoch"].tolist() == [step // steps_per_epoch for step in range(6)], "an epoch is of both"
    assert not (run / "models" / "all" / "state.pt").exists()
    for category in ("nut", "bolt"):
        assert pd.read_parquet(run / "metrics" / category / "test_public.parquet")[list(METRICS)].notna().all(axis=None)
        assert (dinomaly.results / "report/figures" / category / "test_public/dinomaly_training.svg").exists()


def test_nothing_is_done_twice(dinomaly: Workspace) -> None:
    assert dinomaly.planned(*TARGETS) == []


def test_a_new_category_trains_the_model_again_and_infers_all(changed: Workspace) -> None:
    model = changed.folder / MODEL
    before = model.read_bytes()
    write_tiny_dataset(changed.folder / "data", ("pin",), seed=3)
    expected = Counter({"index": 3, "crop": 3, "train": 1, "report": 1}) + Counter(PER_CATEGORY * 3)
    assert Counter(changed.planned(*TARGETS)) == expected
    changed.snakemake(MODEL)
    assert model.read_bytes() != before
    assert changed.planned(MODEL) == []
    expected -= Counter(["index", "crop", "train"])
    assert Counter(changed.planned(*TARGETS)) == expected, "the new category's other splits, and maps, are left"


def test_a_training_image_of_one_category_concerns_both(changed: Workspace) -> None:
    image = changed.folder / "data" / "bolt" / "train" / "good" / "000_regular.png"
    Image.fromarray(255 - np.asarray(Image.open(image))).save(image)
    assert changed.planned(*TARGETS) == sorted(["index", "crop", *RETRAINED])


def test_a_killed_training_goes_on(changed: Workspace, dinomaly: Workspace) -> None:
    folder = (changed.folder / MODEL).parent
    shutil.rmtree(folder)
    changed.kill_at("after", folder / "state.pt", MODEL)
    assert (folder / "state.pt").exists() and not (changed.folder / MODEL).exists()
    output = changed.snakemake(MODEL)
    assert "Resuming at step 2" in output
    assert (changed.folder / MODEL).read_bytes() == (dinomaly.folder / MODEL).read_bytes()


def test_a_state_of_fewer_categories_is_not_resumed(changed: Workspace) -> None:
    folder = (changed.folder / MODEL).parent
    shutil.rmtree(folder)
    changed.kill_at("after", folder / "state.pt", MODEL)
    write_tiny_dataset(changed.folder / "data", ("pin",), seed=3)
    assert "Resuming" not in changed.snakemake(MODEL)


@pytest.mark.parametrize(
    ("override", "message"),
    [
        ({"dinomaly.learning_rate": 1e-3}, "dinomaly.learning_rate is read by train, and one model of dinomaly covers"),
        ({"encoder.blocks": [3, 5]}, "encoder.blocks is read by train, and one model of dinomaly covers"),
        ({"merge.blend": "feather"}, None),
        ({"dinomaly.scope": "category"}, None),
    ],
)
def test_an_override_of_one_category_must_not_change_a_shared_model(
    dinomaly: Workspace, tmp_path: Path, override: dict[str, Any], message: str | None
) -> None:
    other = Workspace(dinomaly.folder)
    other.configfile = tmp_path / "config.yaml"
    write_options(other, overrides=[{"where": {"category": "bolt"}, "set": override}])
    output = other.snakemake("--dry-run", *TARGETS, ok=message is None)
    assert message is None or message in output


def test_a_category_may_have_a_model_of_its_own(changed: Workspace) -> None:
    write_options(changed, overrides=[{"where": {"category": "bolt"}, "set": {"dinomaly.scope": "category"}}])
    # The other one is the only one left that shares a model.
    assert changed.planned(*TARGETS) == sorted(["train", *RETRAINED])
    assert changed.planned(MODEL.replace("models/all", "models/bolt")) == ["train"]


def test_a_category_named_as_the_shared_model_is_refused(tmp_path: Path) -> None:
    workspace = Workspace(tmp_path)
    write_tiny_dataset(tmp_path / "data", ("all", "nut"))
    write_options(workspace)
    message = "found a category named 'all', but the model of dinomaly that covers all categories lies in models/all"
    assert message in workspace.snakemake("--dry-run", ok=False)
    write_options(workspace, dinomaly=OPTIONS | {"scope": "category"})
    assert workspace.planned("results/tiny/dinomaly/models/all/model.safetensors") == ["crop", "index", "train"]


def change(folder: Path, key: str) -> Path:
    """A config that differs from the finished run's in one option."""
    options = OPTIONS | {key.partition(".")[2]: DINOMALY_CHANGES[key][0]}
    (folder / "config.yaml").write_text(yaml.safe_dump(DINOMALY | {"dinomaly": options}))
    return folder / "config.yaml"


@pytest.mark.parametrize("key", ["dinomaly.scope", "dinomaly.steps", "dinomaly.checkpoint_every"])
def test_a_changed_key_plans_what_the_table_says(dinomaly: Workspace, tmp_path: Path, key: str) -> None:
    other = Workspace(dinomaly.folder)
    other.configfile = change(tmp_path, key)
    assert other.planned(*TARGETS) == sorted(DINOMALY_CHANGES[key][1])


@pytest.mark.parametrize("key", list(DINOMALY_CHANGES))
def test_a_changed_key_changes_the_parameters_of_the_stages_that_read_it(
    dinomaly: Workspace, tmp_path: Path, key: str
) -> None:
    expected = set(DINOMALY_CHANGES[key][1])
    changed = changed_stages(dinomaly, change(tmp_path, key), "dinomaly")
    assert followers(changed, ["dinomaly"]) - OTHER_TARGETS == expected
    assert followers(set(readers(key, ["dinomaly"])), ["dinomaly"]) - OTHER_TARGETS == expected
