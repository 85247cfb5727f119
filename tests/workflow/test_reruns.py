"""Exactly what is stale: every key, every kind of change of code and images, against the documented table."""

from __future__ import annotations

import os
import re
import shutil
from collections import Counter
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import pytest
import yaml
from PIL import Image

from robis.config.settings import every_key
from robis.detectors.settings import Settings
from robis.io.copies import write_archive
from robis.workflow.stages import followers, readers, stages
from tests.unit.test_stages import ANOMALYDINO_CHANGES, PATCHCORE_CHANGES
from tests.workflow.conftest import CONFIG, OTHER_TARGETS, Workspace, changed_stages, copy_code, write_tiny_dataset
from tests.workflow.test_dinomaly import DINOMALY_CHANGES
from tests.workflow.test_subspace import SUBSPACE_CHANGES
from tests.workflow.test_superadd import SUPERADD_CHANGES
from tests.workflow.test_zero_shot import ZERO_SHOT_CHANGES

pytestmark = pytest.mark.workflow

TARGETS = ("all", "metrics", "submission")
DETECTOR = ("inp_former",)

# key -> another value, and the stages that have to run first. Conditions of the table (robis explain) decide
# where this config (boxes from GrabCut, robis binarization, a given input size) does not read a key.
CHANGES: dict[str, tuple[Any, set[str]]] = {
    "tiling.window": (40, {"crop", "infer"}),
    "tiling.image_scale": (0.5, set()),
    "tiling.overlap": (0.3, {"crop"}),
    "tiling.edge": ("pad", {"crop"}),
    "tiling.resample": ("bicubic", {"crop"}),
    "encoder.name": ("vit_small_patch16_224", {"audit_images", "train", "infer", "report"}),
    "encoder.weights": ("auto", {"audit_images", "train", "infer", "report"}),
    "encoder.sha256": ("0" * 64, set()),
    "encoder.input_size": (48, {"audit_images", "crop", "train", "infer"}),
    "encoder.blocks": ([2, 6], {"audit_images", "train", "infer"}),
    "inp_former.prototypes": (4, {"train", "infer"}),
    "inp_former.epochs": (5, {"train"}),
    "inp_former.batch_size": (3, {"train"}),
    "inp_former.learning_rate": (2e-3, {"train"}),
    "inp_former.final_learning_rate": (1e-5, {"train"}),
    "inp_former.warmup_steps": (3, {"train"}),
    "inp_former.weight_decay": (0.0, {"train"}),
    "inp_former.gradient_clip": (0.2, {"train"}),
    "inp_former.coherence_weight": (0.1, {"train"}),
    "inp_former.mining_power": (2.0, {"train"}),
    "inp_former.augment": (False, {"train"}),
    "inp_former.seed": (1, {"train", "infer"}),
    "inp_former.precision": ("bf16", {"train"}),
    "inp_former.compile": (True, {"train"}),
    "inp_former.checkpoint_every": (2, set()),
    "infer.batch_size": (2, {"audit_images", "infer"}),
    "infer.precision": ("fp16", {"audit_images", "infer"}),
    "infer.shards": (2, {"infer"}),
    "merge.scale": (0.25, {"infer", "merge", "judge", "submit"}),
    "merge.blend": ("feather", {"merge", "judge"}),
    "merge.normalize": ("validation", {"merge", "judge"}),
    "binarize.method": ("mebin", {"binarize"}),
    "binarize.calibrate": ("validation", {"merge", "binarize", "judge"}),
    "binarize.std_factor": (2.0, {"binarize"}),
    "binarize.threshold_step": (8, {"binarize"}),
    "binarize.min_interval": (3, {"binarize"}),
    "binarize.erosion_size": (3, {"binarize"}),
    "binarize.rate": (0.5, set()),
    "binarize.confidence": (0.5, set()),
    "binarize.percentile": (90.0, set()),
    "binarize.percentile_factor": (1.0, set()),
    "binarize.closing_sizes": ([3], set()),
    "binarize.closing_threshold_factor": (1.5, set()),
    "binarize.line_reach": (5, set()),
    "binarize.line_angles": (4, set()),
    "binarize.line_threshold_factor": (0.9, set()),
    "refine.method": ("none", {"refine"}),
    "refine.max_boxes": (2, {"refine"}),
    "refine.multimask": (True, set()),
    "refine.model": ("vit_b", set()),
    "refine.checkpoint": ("weights/other.pth", set()),
    "refine.sha256": ("0" * 64, set()),
    "refine.precision": ("fp16", set()),
    "score_images.top_fraction": (0.0, {"judge", "score_images"}),
    "verdict.limit": ("none", {"report"}),
    "verdict.allowed_false_alarms": (0.5, {"judge"}),
    "verdict.normal_masks": ("empty", {"refine"}),
    "evaluate.resolution": (64, {"evaluate"}),
    "packs.checked_images": (0, {"pack"}),
    "detectability.kinds": (["pit"], {"measure_detectability"}),
    "detectability.sizes": ([3.0, 9.0], {"measure_detectability"}),
    "detectability.contrasts": ([20], {"measure_detectability"}),
    "detectability.defects_per_size": (1, {"measure_detectability"}),
    "detectability.pixel_size": (0.1, {"measure_detectability"}),
    "detectability.crops": ("crops", {"measure_detectability"}),  # a folder with a defect
    "detectability.seed": (1, {"measure_detectability"}),
    "report.max_images": (4, {"report"}),
    "report.heatmap_range": ("single", {"report"}),
    "report.cluster_count": (3, set()),
    "report.overlays": (True, {"report"}),
    "report.compare": ([], {"report"}),  # a finished run beside it
    "dataset.splits": (["test_private", "test_public"], {"audit_images", "report"}),
    "dataset.categories": (["nut"], set()),
    "dataset.hold_out_every": (2, {"index"}),
    "dataset.exclude": ("exclude.csv", {"index"}),  # an image of train
    "dataset.bit_depth": (12, {"audit_images", "crop", "refine", "report"}),
    "dataset.layout": ("mvtec_ad_2", set()),
    "dataset.root": ("./data/../data", set()),
    "dataset.table": ("other.csv", set()),
    "dataset.allow_outside_root": (True, set()),
    "dataset.archive": (True, {"crop", "evaluate", "refine", "report"}),
}
# Other names of results and other detectors are other runs, not changes of this one.
OTHER_RUNS = {"dataset.name", "detectors", "winclip.shots", "winclip.seeds", "subspace.shots", "subspace.seeds"}
# A model trained elsewhere takes the place of jobs: test_zero_shot.
REPLACES_JOBS = {"inp_former.weights"}
# Count by the masks that they lead to: test_a_mask_of_ignored_pixels_concerns_its_own_split, test_superadd.
BY_MASKS = {"dataset.ignore", "superadd.allow", "patchcore.allow", "anomalydino.allow"}
# Needs a run that can be packed: test_packs.
PACKS = {"report.packs", "report.detectability", "musc.reference_images"}
# Makes the audits; test_audit.
AUDITS = {"report.audit"}
# Describe regions; test_superadd and test_clusters.
REGIONS = {"report.evidence", "report.clusters"}
# Thresholds from the validation split need that split's merged maps, which this run did not make.
# An archive of the images of each split, and of the masks of the one that has some.
NEW_JOBS = {
    "binarize.calibrate": ["merge"],
    "infer.shards": ["infer_shard"] * 6,
    "dataset.archive": ["archive"] * 5,
}
# Held-out training images leave what is inspected as it is, two splits of the four.
KEPT_JOBS = {
    "dataset.hold_out_every": ["index", "index", "crop", "crop"],
    "dataset.exclude": ["index", "index", "index", "crop", "crop", "crop"],
}
# One category, trained on one split and inferred on three, of which one sets the limit and one has ground truth;
# nothing on request.
# Of these keys some change which files a stage reads, and no parameter of it.
BY_INPUTS = {*NEW_JOBS, "merge.normalize", "verdict.normal_masks"}
JOBS_OF_ONE_RUN = {
    **{"index": 4, "crop": 4, "train": 1, "infer": 3, "evaluate": 1, "report": 1, "submit": 1},
    **dict.fromkeys(OTHER_TARGETS - {"submit"}, 0),
}


def jobs(stages: set[str]) -> list[str]:
    """Every job of the stages, by name: none may be missing, none may come twice."""
    return sorted(name for name in stages for _ in range(JOBS_OF_ONE_RUN.get(name, 2)))


def planned_after(finished: Workspace, config: Path) -> list[str]:
    changed = Workspace(finished.folder)
    changed.configfile = config
    return changed.planned(*TARGETS)


def test_every_key_is_tried() -> None:
    tables = (CHANGES, ZERO_SHOT_CHANGES, SUPERADD_CHANGES, SUBSPACE_CHANGES, DINOMALY_CHANGES)
    tried = set().union(*tables, PATCHCORE_CHANGES, ANOMALYDINO_CHANGES)
    assert tried | OTHER_RUNS | REPLACES_JOBS | BY_MASKS | PACKS | AUDITS | REGIONS == set(every_key(Settings))


def test_the_table_follows_the_workflow(finished: Workspace) -> None:
    """`after` in STAGES is what Snakemake's own rule graph says."""
    output = finished.snakemake("--rulegraph", "--forceall", *TARGETS)
    names = dict(re.findall(r'(\d+)\[label = "(\w+)"', output))
    edges = {(names[a], names[b]) for a, b in re.findall(r"(\d+) -> (\d+)", output)}
    for name, stage in stages("inp_former").items():
        # Not among the targets: their own tests.
        if name in OTHER_TARGETS - {"submit"}:
            continue
        assert {before for before, after in edges if after == name} == set(stage.after), name


def write_change(finished: Workspace, folder: Path, key: str) -> Path:
    """A config that differs from the finished run's in one key."""
    value: Any = CHANGES[key][0]
    if key == "report.compare":
        shutil.copytree(finished.results / "inp_former", folder / "before" / "inp_former")
        value = [str(folder / "before")]
    if key == "detectability.crops":
        value = str(folder / value)
        Path(value).mkdir()
        cv2.imwrite(f"{value}/pit.png", np.full((4, 4, 4), 200, np.uint8))
    if key == "dataset.exclude":
        value = str(folder / value)
        Path(value).write_text("image\nnut/train/good/003_regular.png\n")
    section, _, name = key.partition(".")
    finished.write_config({section: {name: value}}, to=folder / "config.yaml")
    return folder / "config.yaml"


def representatives() -> list[str]:
    """One key for every set of stages that run first, and every key that changes what is read."""
    first_of = {frozenset(first): key for key, (_, first) in reversed(CHANGES.items())}
    of_files = (key for key in CHANGES if key.startswith("dataset."))
    return sorted({*first_of.values(), *BY_INPUTS, *of_files})


@pytest.mark.parametrize("key", representatives())
def test_a_changed_key_plans_what_the_table_says(finished: Workspace, tmp_path: Path, key: str) -> None:
    config = write_change(finished, tmp_path, key)
    expected = Counter([*jobs(followers(CHANGES[key][1], DETECTOR)), *NEW_JOBS.get(key, [])])
    expected.subtract(KEPT_JOBS.get(key, []))
    assert planned_after(finished, config) == sorted(expected.elements())


@pytest.mark.parametrize("key", [key for key in CHANGES if key not in BY_INPUTS])
def test_a_changed_key_changes_the_parameters_of_the_stages_that_read_it(
    finished: Workspace, tmp_path: Path, key: str
) -> None:
    value, first = CHANGES[key]
    changed = changed_stages(finished, write_change(finished, tmp_path, key), "inp_former")
    assert followers(changed, DETECTOR) == followers(first, DETECTOR)
    table = readers(key, DETECTOR)
    assert first <= set(table)
    if value not in (["nut"], "mvtec_ad_2"):  # written another way, the same in effect
        assert {stage for stage, condition in table.items() if condition is None} <= first | {"submit"}


def test_order_comments_and_explicit_defaults_are_no_change(finished: Workspace, tmp_path: Path) -> None:
    reordered = {
        name: dict(reversed(list(CONFIG[name].items()))) if isinstance(CONFIG[name], dict) else CONFIG[name]
        for name in reversed(list(CONFIG))
    }
    reordered["binarize"] = {"std_factor": 3.0, "method": "robis", **reordered["binarize"]}
    reordered["infer"] = {"batch_size": 16}
    text = "# a comment\n" + yaml.safe_dump(reordered, sort_keys=False)
    (tmp_path / "config.yaml").write_text(text)
    assert planned_after(finished, tmp_path / "config.yaml") == []


def test_two_swapped_values_are_a_change(finished: Workspace, tmp_path: Path) -> None:
    """Snakemake compares unnamed values as a set: swapped numbers of two keys would be the same set."""
    finished.write_config({"inp_former": {"batch_size": 2, "warmup_steps": 4}}, to=tmp_path / "config.yaml")
    assert planned_after(finished, tmp_path / "config.yaml") == jobs(followers({"train"}, DETECTOR))


def test_touching_copying_and_moving_plan_nothing(copy: Workspace, tmp_path: Path) -> None:
    for image in (copy.folder / "data").rglob("*.png"):
        os.utime(image)
    assert copy.planned(*TARGETS) == []
    shutil.copytree(copy.folder, tmp_path / "other disk")
    assert Workspace(tmp_path / "other disk").planned(*TARGETS) == []
    (copy.folder / "data").rename(copy.folder / "moved")
    copy.write_config({"dataset": {"root": "moved"}})
    assert copy.planned(*TARGETS) == []


@pytest.mark.parametrize("kind", ["replaced", "added", "removed"])
def test_a_test_image_concerns_its_own_split(copy: Workspace, kind: str) -> None:
    folder = copy.folder / "data" / "nut" / "test_private"
    if kind == "replaced":
        Image.fromarray(255 - np.asarray(Image.open(folder / "000_regular.png"))).save(folder / "000_regular.png")
    elif kind == "added":
        shutil.copy(folder / "000_regular.png", folder / "007_regular.png")
    else:
        (folder / "001_regular.png").unlink()
    expected = ["binarize", "crop", "index", "infer", "judge", "merge", "refine", "report", "score_images", "submit"]
    assert copy.planned(*TARGETS) == expected


def test_a_test_image_in_an_archive_concerns_its_own_split(copy: Workspace) -> None:
    """The same jobs as without archives, and that of the archive."""
    copy.write_config({"dataset": {"archive": True}})
    copy.snakemake("results/tiny/inputs/images/nut/test_private.tar")
    for name in ("images/nut/train", "images/nut/validation", "images/nut/test_public", "masks/nut/test_public"):
        write_archive(copy.results / "inputs" / f"{name}.tar", copy.folder / "data", [])
    # All files are up to date then.
    copy.snakemake("--touch", *TARGETS)
    image = copy.folder / "data" / "nut" / "test_private" / "000_regular.png"
    Image.fromarray(255 - np.asarray(Image.open(image))).save(image)
    expected = ["binarize", "crop", "index", "infer", "judge", "merge", "refine", "report", "score_images", "submit"]
    assert copy.planned(*TARGETS) == ["archive", *expected]


def test_a_mask_of_ignored_pixels_concerns_its_own_split(copy: Workspace) -> None:
    """That of an inspected image its split; that of a training image all that comes from the model as well."""
    copy.write_config({"dataset": {"ignore": "ignore/{split}/{name}.png"}})
    write_ignored(copy.folder / "data" / "ignore" / "test_public" / "bad" / "000_regular.png")
    of_a_split = [
        "binarize",
        "crop",
        "evaluate",
        "index",
        "infer",
        "judge",
        "merge",
        "refine",
        "report",
        "score_images",
    ]
    assert copy.planned(*TARGETS) == of_a_split

    shutil.rmtree(copy.folder / "data" / "ignore")
    write_ignored(copy.folder / "data" / "ignore" / "train" / "good" / "000_regular.png")
    expected = Counter(jobs(followers({"train"}, DETECTOR)))
    expected.update(["index", "crop"])
    assert copy.planned(*TARGETS) == sorted(expected.elements())


def write_ignored(path: Path) -> None:
    mask = np.zeros((96, 128), np.uint8)
    mask[:9] = 255
    path.parent.mkdir(parents=True)
    Image.fromarray(mask).save(path)


def test_an_interrupted_rerun_after_a_changed_image_goes_on(copy: Workspace) -> None:
    """The sample table of a changed image of the same size is the same file: that must not stop the rest."""
    image = copy.folder / "data" / "nut" / "test_private" / "000_regular.png"
    Image.fromarray(255 - np.asarray(Image.open(image))).save(image)
    copy.snakemake("results/tiny/samples/nut/test_private.parquet")
    assert "crop" in copy.planned(*TARGETS)


def test_an_override_of_one_category_plans_its_jobs_only(workspace: Workspace) -> None:
    write_tiny_dataset(workspace.folder / "data", ("bolt",), seed=1)
    changes = {"inp_former": {"epochs": 1}, "dataset": {"splits": ["test_public"]}}
    workspace.write_config(changes)
    workspace.snakemake("metrics")
    workspace.write_config(changes, overrides=[{"where": {"category": "bolt"}, "set": {"binarize.std_factor": 2.0}}])
    assert workspace.planned("metrics") == ["binarize", "evaluate", "refine", "score_images"]
    assert categories_of(workspace.snakemake("--dry-run", "metrics")) == {"bolt"}
    workspace.write_config(changes)
    assert workspace.planned("metrics") == []
    image = workspace.folder / "data" / "nut" / "test_public" / "good" / "000_regular.png"
    Image.fromarray(255 - np.asarray(Image.open(image))).save(image)
    assert "train" not in workspace.planned("metrics")
    assert categories_of(workspace.snakemake("--dry-run", "metrics")) == {"nut"}


def categories_of(plan: str) -> set[str]:
    """The categories that the jobs' messages name."""
    return set(re.findall(r"Job \d+: .*?\b(nut|bolt)\b", plan))


@pytest.fixture
def own_code(tmp_path: Path) -> Workspace:
    """A complete run by a copy of the workflow and library that a test may edit."""
    code = copy_code(tmp_path / "code")
    write_tiny_dataset(tmp_path / "run" / "data")
    workspace = Workspace(tmp_path / "run")
    workspace.code = code
    workspace.write_config({"inp_former": {"epochs": 1}, "dataset": {"splits": ["test_public"]}})
    workspace.snakemake("all", "metrics")
    return workspace


def test_code_counts_by_what_it_does(own_code: Workspace) -> None:
    library = own_code.code / "src" / "robis"
    for module in library.rglob("*.py"):
        text = module.read_text()
        assert text.startswith('"""'), module
        text = '"""Another docstring. ' + text[3:]
        text = text.replace("; expected ", "; we expected ").replace("logger.info(", "logger.warning(")
        text = text.replace("Add images of good parts", "Add good images").replace(
            "are random: masks", "are random. Masks"
        )
        module.write_text(text.replace("\n\n\ndef ", "\n\n\n# A comment that was not there.\ndef ", 1))
    for script in (own_code.code / "workflow_scripts").glob("*.py"):
        script.write_text("# A comment.\n" + script.read_text())
    names = library / "encoders" / "names.py"
    entry = '        "clip_new": Architecture("clip", "ViT-H-14", 224, tag="laion2b_s32b_b79k"),\n'
    names.write_text(names.read_text().replace('        "clip_vitb32": ', entry + '        "clip_vitb32": '))
    assert "clip_new" in names.read_text()
    assert own_code.planned("all", "metrics") == []

    mebin = library / "binarization" / "mebin.py"
    text = mebin.read_text()
    edited = text.replace("if count > 0 and", "if count > 1 and")
    assert edited != text
    mebin.write_text(edited)
    assert own_code.planned("all", "metrics") == ["binarize", "evaluate", "refine", "report", "score_images"]

    mebin.write_text(text)
    assert own_code.planned("all", "metrics") == []
    inference = library / "detectors" / "inference.py"
    text = inference.read_text()
    edited = text.replace("steps = -(-items // step)", "steps = -(-items // step) + 0")
    assert edited != text
    inference.write_text(edited)
    assert "infer" in own_code.planned("all", "metrics")
    assert "train" not in own_code.planned("all", "metrics")
    inference.write_text(text)
    script = own_code.code / "workflow_scripts" / "evaluate.py"
    script.write_text(script.read_text() + "\nEDITED = 1\n")
    assert own_code.planned("all", "metrics") == ["evaluate", "report"]
