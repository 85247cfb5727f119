"""SuperADD through the real workflow, on a small DINOv3 saved to disk and loaded back."""

from __future__ import annotations

import contextlib
import shutil
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import pandas as pd
import pytest
import tifffile
import timm
import torch
import yaml
from safetensors.torch import load_file, save_file
from scipy.ndimage import binary_closing, binary_fill_holes

from robis.cli import main
from robis.config.yaml_files import plain, read_config
from robis.detectors.superadd.blocks import superadd_blocks
from robis.encoders.build import build_encoder
from robis.evaluation.metrics import METRICS
from robis.io.maps import read_map
from robis.workflow.stages import followers, readers
from robis.workflow.verdict_files import COLUMNS
from tests import published_superadd
from tests.conftest import REPOSITORY
from tests.workflow.conftest import CONFIG, OTHER_TARGETS, Workspace, changed_stages, made_once, write_tiny_dataset

pytestmark = pytest.mark.workflow

TINY = "vit_tiny_patch16_dinov3_qkvb"
SUPERADD: dict[str, Any] = {
    **{name: CONFIG[name] for name in ("tiling", "report")},
    "dataset": CONFIG["dataset"] | {"splits": ["test_public"]},
    "detectors": ["superadd"],
    "encoder": {"name": TINY, "weights": "weights/vit.safetensors", "input_size": 48},
    "superadd": {"bank_size": 60, "rounds": 4, "neighbors": 5},
    "infer": {"shards": 2, "batch_size": 4},
    "merge": {"scale": 0.5, "blend": "central"},
    "binarize": {"method": "percentile", "calibrate": "validation", "closing_sizes": [3, 5]},
    "refine": {"method": "none"},
}
MASKS = ["binarize", "refine", "score_images", "evaluate", "report"]
# Maps of the split and of the validation split, each inferred in two shards.
MAPS = [*["infer_shard"] * 4, *["infer", "merge"] * 2, "judge", *MASKS]
SUPERADD_CHANGES: dict[str, tuple[Any, list[str]]] = {
    "superadd.bank_size": (50, ["train", *MAPS]),
    "superadd.rounds": (5, ["train", *MAPS]),
    "superadd.neighbors": (6, ["train", *MAPS]),
    "superadd.radius_growth": (1.2, ["train", *MAPS]),
    "superadd.brightness_jitter": (0.0, ["train", *MAPS]),
    "superadd.seed": (1, ["train", *MAPS]),
    "superadd.redraw_subsets": (True, ["train", *MAPS]),
    "superadd.smoothing_sigma": (0.0, MAPS),
    "superadd.memory_gb": (1.0, []),
    "binarize.closing_sizes": ([3], MASKS),
    "binarize.closing_threshold_factor": (1.5, MASKS),
}


def save_encoder(folder: Path) -> None:
    """Random weights in a file that users would bring."""
    folder.mkdir(parents=True, exist_ok=True)
    torch.manual_seed(0)
    save_file(timm.create_model(TINY, num_classes=0).state_dict(), folder / "vit.safetensors")


@pytest.fixture(scope="module")
def superadd(tmp_path_factory: pytest.TempPathFactory) -> Workspace:
    """One complete run that nobody may change."""

    def make(workspace: Workspace) -> None:
        write_tiny_dataset(workspace.folder / "data")
        save_encoder(workspace.folder / "weights")
        workspace.configfile.write_text(yaml.safe_dump(SUPERADD))
        workspace.snakemake("all", "metrics")

    return made_once(tmp_path_factory, "superadd", make)


def test_a_run_from_normal_images_to_metrics_and_the_report(superadd: Workspace) -> None:
    run = superadd.results / "superadd"
    assert pd.read_parquet(run / "metrics" / "nut" / "test_public.parquet")[list(METRICS)].iloc[0].notna().all()
    bank = load_file(run / "models" / "nut" / "model.safetensors")
    blocks = (3, 5, 8, 10)
    shapes = {f"block_{block}": (60, 192) for block in blocks} | {f"origins_{block}": (60, 3) for block in blocks}
    assert {name: tuple(tokens.shape) for name, tokens in bank.items()} == shapes
    assert pd.read_parquet(run / "models" / "nut" / "training.parquet").empty
    for number in range(3):
        found = tifffile.imread(run / "anomaly_images/nut/test_public/bad" / f"{number:03}_regular.tiff").astype(float)
        truth = cv2.imread(str(superadd.folder / f"data/nut/test_public/ground_truth/bad/{number:03}_regular_mask.png"))
        defect = cv2.resize(truth[..., 0], found.shape[::-1], interpolation=cv2.INTER_NEAREST) > 0
        assert found[defect].mean() > found[~defect].mean(), "a bright spot is no normal token"
    assert "superadd" in (superadd.results / "report" / "index.html").read_text()
    assert not (superadd.results / "superadd" / "tile_map_shards").exists() or not list(
        (superadd.results / "superadd" / "tile_map_shards").rglob("*.npy")
    )


def test_masks_are_those_of_the_validation_split_closed_and_filled(superadd: Workspace) -> None:
    run = superadd.results / "superadd"
    normal = [tifffile.imread(path).ravel() for path in (run / "anomaly_images/nut/validation").rglob("*.tiff")]
    threshold = 1.421 * np.percentile(np.concatenate(normal).astype(np.float64), 95)
    table = pd.read_parquet(run / "thresholds" / "nut" / "test_public.parquet")
    np.testing.assert_allclose(table["threshold"], threshold, rtol=1e-6)
    seen = 0
    for sample_id in table["sample_id"]:
        values = tifffile.imread(run / "anomaly_images/nut/test_public" / f"{sample_id}.tiff").astype(np.float32)
        levels = [np.pad(values > np.float32(level), 5) for level in (threshold, 1.25 * threshold)]
        closed = [binary_closing(one, np.ones((side, side))) for one, side in zip(levels, (3, 5), strict=True)]
        expected = binary_fill_holes(levels[0] | closed[0] | closed[1])[5:-5, 5:-5]
        for folder in ("coarse_masks", "anomaly_images_thresholded"):
            mask = cv2.imread(str(run / folder / "nut/test_public" / f"{sample_id}.png"), cv2.IMREAD_UNCHANGED)
            np.testing.assert_array_equal(mask, np.where(expected, 255, 0))
        seen += int(expected.sum())
    assert seen > 0


def change(folder: Path, key: str) -> Path:
    """A config that differs from the finished run's in one option."""
    section, _, name = key.partition(".")
    options = SUPERADD[section] | {name: SUPERADD_CHANGES[key][0]}
    (folder / "config.yaml").write_text(yaml.safe_dump(SUPERADD | {section: options}))
    return folder / "config.yaml"


@pytest.mark.parametrize("key", ["superadd.rounds", "superadd.smoothing_sigma", "superadd.memory_gb"])
def test_a_changed_key_plans_what_the_table_says(superadd: Workspace, tmp_path: Path, key: str) -> None:
    changed = Workspace(superadd.folder)
    changed.configfile = change(tmp_path, key)
    assert changed.planned("all", "metrics") == sorted(SUPERADD_CHANGES[key][1])


@pytest.mark.parametrize("key", list(SUPERADD_CHANGES))
def test_a_changed_key_changes_the_parameters_of_the_stages_that_read_it(
    superadd: Workspace, tmp_path: Path, key: str
) -> None:
    expected = set(SUPERADD_CHANGES[key][1])
    changed = changed_stages(superadd, change(tmp_path, key), "superadd")
    for stages in (changed, set(readers(key, ["superadd"]))):
        assert followers(stages, ["superadd"]) - OTHER_TARGETS == expected - {"infer_shard"}


def test_evidence_is_added_to_a_finished_run(superadd: Workspace, tmp_path: Path) -> None:
    """Only regions are described; the nearest patch is in the training images, as far as the map says at the token."""
    copy = Workspace(shutil.copytree(superadd.folder, tmp_path / "run", copy_function=shutil.copy2))
    copy.configfile.write_text(yaml.safe_dump(SUPERADD | {"report": SUPERADD["report"] | {"evidence": True}}))
    assert copy.planned("all", "metrics") == ["describe_regions", "report"]
    copy.snakemake("all")
    run = copy.results / "superadd"
    regions = pd.read_parquet(run / "regions/nut/test_public.parquet")
    evidence = pd.read_parquet(run / "evidence/nut/test_public.parquet")
    assert len(regions) and np.load(run / "regions/nut/test_public.npy").shape == (len(regions), 4 * 192)
    samples = pd.read_parquet(copy.results / "samples/nut/train.parquet").set_index("sample_id")
    nearest = evidence[evidence["rank"] == 1]
    assert len(nearest) == 4 * len(regions), "one for each block"
    assert (samples.loc[nearest["normal_id"], "image"].tolist()) == nearest["normal_image"].tolist()
    shown = list((copy.results / "report/assets").rglob("run1-evidence-*.jpg"))
    assert len(shown) > len(regions)


def test_a_confirmed_false_alarm_is_gone_in_the_next_run(superadd: Workspace, tmp_path: Path) -> None:
    """Say that the spot of one image is harmless: the training and what follows it run again, and nothing else."""
    copy = Workspace(shutil.copytree(superadd.folder, tmp_path / "run", copy_function=shutil.copy2))
    run, name = copy.results / "superadd", "test_public/bad/000_regular"
    mask, anomaly_map = run / f"anomaly_images_thresholded/nut/{name}.png", run / f"anomaly_images/nut/{name}.tiff"
    marked, before = cv2.imread(str(mask), 0) > 0, read_map(anomaly_map).astype(np.float32)
    assert marked.any()
    judged = f"nut,test_public,{name.partition('/')[2]},,,,,,false alarm,,"
    (copy.folder / "verdicts.csv").write_text("\n".join([",".join(COLUMNS), judged, ""]))
    with contextlib.chdir(copy.folder):
        arguments = ["verdicts.csv", "--configfile", "config.yaml", "--out", "next", "--allow", "superadd"]
        assert main(["review", "apply", *arguments]) == 0
    allow = {"allow": "next/allowed.csv"}
    copy.configfile.write_text(yaml.safe_dump(SUPERADD | {"superadd": SUPERADD["superadd"] | allow}))
    assert copy.planned("all", "metrics") == sorted(["train", *MAPS])
    copy.snakemake("masks")
    assert not cv2.imread(str(mask)).any()
    assert read_map(anomaly_map)[marked].max() < before[marked].min()
    assert len(load_file(run / "models/nut/model.safetensors")["block_3"]) > 60, "they join those that were chosen"


def published(folder: Path) -> dict[str, Any]:
    """The published setting on tiny images, with a small encoder and a small bank."""
    config: dict[str, Any] = plain(read_config(REPOSITORY / "config" / "mvtec_ad_2_superadd.yaml"))
    small = {
        "dataset": {"name": "tiny", "root": "data", "splits": ["test_public"]},
        "encoder": {"name": TINY, "weights": str(folder / "weights" / "vit.safetensors"), "input_size": 64},
        "superadd": {"bank_size": 24, "rounds": 2, "neighbors": 12},
        "binarize": {"line_reach": 5, "line_angles": 4},
    }
    return config | {section: config[section] | values for section, values in small.items()}


@torch.inference_mode()
def test_the_published_setting_from_images_to_masks(tmp_path: Path) -> None:
    """Images of 96 x 128 and 72 x 104 pixels: 3 x 5 and 2 x 4 tokens, of tiles of 4 x 4."""
    write_tiny_dataset(tmp_path / "data")
    save_encoder(tmp_path / "weights")
    config, workspace = published(tmp_path), Workspace(tmp_path)
    workspace.configfile.write_text(yaml.safe_dump(config))
    workspace.snakemake("masks")
    run, network = workspace.results / "superadd", build_encoder(**config["encoder"], by_depth=superadd_blocks)
    model = load_file(run / "models/nut/model.safetensors")
    banks = [tokens.numpy() for name, tokens in model.items() if name.startswith("block_")]
    assert [len(bank) for bank in banks] == [24] * 4

    def anomaly_map(file: Path) -> np.ndarray:
        image = cv2.cvtColor(cv2.imread(str(file)), cv2.COLOR_BGR2RGB)
        tokens = published_superadd.image_tokens(network, image, 0.625, 1)
        return published_superadd.image_map(tokens, banks, (image.shape[0] // 4, image.shape[1] // 4))

    # Four training images, of which the first is held out.
    normal = read_map(run / "anomaly_images/nut/validation/good/000_regular.tiff")
    expected = anomaly_map(tmp_path / "data/nut/train/good/000_regular.png")
    np.testing.assert_allclose(normal, expected, rtol=1e-3)
    threshold = 1.421 * np.percentile(normal.astype(np.float64), 95)
    table = pd.read_parquet(run / "thresholds/nut/test_public.parquet")
    np.testing.assert_allclose(table["threshold"], threshold, rtol=1e-6)
    for sample_id in table["sample_id"]:
        values = read_map(run / "anomaly_images/nut/test_public" / f"{sample_id}.tiff")
        expected = anomaly_map(tmp_path / f"data/nut/test_public/{sample_id}.png")
        np.testing.assert_allclose(values, expected, rtol=1e-3)
        mask = cv2.imread(str(run / "anomaly_images_thresholded/nut/test_public" / f"{sample_id}.png"), 0) > 0
        expected_mask = published_superadd.mask_of(values.astype(np.float32), threshold, 5, 4, 0.8, 3)
        np.testing.assert_array_equal(mask, expected_mask)
