"""The workflow from images to report: what it writes, what it re-makes, what survives a kill."""

from __future__ import annotations

import shutil
import tarfile
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
import tifffile
from PIL import Image

from robis.evaluation.metrics import METRICS
from robis.io.images import read_mask
from robis.io.tables import write_table
from robis.workflow.provenance import metrics_and_settings
from tests.conftest import REPOSITORY
from tests.workflow.conftest import CONFIG, Workspace, write_tiny_dataset

pytestmark = pytest.mark.workflow


def test_the_linter_has_nothing_to_say_even_without_data(workspace: Workspace) -> None:
    shutil.rmtree(workspace.folder / "data")
    assert "Congratulations" in workspace.snakemake("--lint")


def test_outputs_are_named_and_shaped_as_documented(finished: Workspace) -> None:
    results = finished.results
    samples = pd.read_parquet(results / "samples" / "nut" / "test_public.parquet")
    named = ["sample_id", "split", "image", "label", "defect", "mask", "height", "width", "ignore", "ignored"]
    assert list(samples.columns) == named
    assert samples["sample_id"].tolist() == [
        *("bad/000_regular", "bad/001_regular", "bad/002_regular"),
        *("good/000_regular", "good/001_regular"),
    ]
    tiles = np.load(results / "tiles" / "nut" / "test_public.npy", mmap_mode="r")
    assert tiles.dtype == np.uint8
    assert tiles.shape[1:] == (32, 32, 3)
    maps = np.load(results / "inp_former" / "tile_maps" / "nut" / "test_public.npy", mmap_mode="r")
    assert maps.dtype == np.float16
    assert maps.shape == (len(tiles), 24, 24)
    history = pd.read_parquet(results / "inp_former" / "models" / "nut" / "training.parquet")
    assert {"step", "loss", "lr", "images_per_second"} <= set(history.columns)
    assert list((results / "inp_former" / "models" / "nut" / "tensorboard").iterdir())
    for split in ("test_public", "test_private"):
        for sample in pd.read_parquet(results / "samples" / "nut" / f"{split}.parquet").itertuples():
            size = (round(sample.height / 2), round(sample.width / 2))
            folder = results / "inp_former" / "anomaly_images" / "nut" / split
            anomaly_map = tifffile.imread(folder / f"{sample.sample_id}.tiff")
            assert anomaly_map.dtype == np.float16
            assert anomaly_map.shape == size
            assert 0 <= anomaly_map.min() <= anomaly_map.max() <= 255
            for stage in ("coarse_masks", "anomaly_images_thresholded"):
                with Image.open(results / "inp_former" / stage / "nut" / split / f"{sample.sample_id}.png") as mask:
                    assert mask.mode == "L"
                    assert mask.size == size[::-1]
                    assert set(np.unique(np.asarray(mask))) <= {0, 255}
    thresholds = pd.read_parquet(results / "inp_former" / "thresholds" / "nut" / "test_public.parquet")
    assert {"sample_id", "threshold", "method", "defects"} <= set(thresholds.columns)
    scores = pd.read_parquet(results / "inp_former" / "image_scores" / "nut" / "test_public.parquet")
    assert list(scores.columns) == ["sample_id", "score", "rescored", "is_anomalous"]


def test_metrics_are_one_row_of_every_name_where_there_is_ground_truth(finished: Workspace) -> None:
    metrics = pd.read_parquet(finished.results / "inp_former" / "metrics" / "nut" / "test_public.parquet")
    assert len(metrics) == 1
    assert set(METRICS) <= set(metrics.columns)
    assert metrics[list(METRICS)].notna().all(axis=None)
    assert not (finished.results / "inp_former" / "metrics" / "nut" / "test_private.parquet").exists()


def test_bright_defects_on_noise_are_found(finished: Workspace) -> None:
    """Even a random encoder tells white disks from gray noise; a mirrored or shifted map would not."""
    metrics = pd.read_parquet(finished.results / "inp_former" / "metrics" / "nut" / "test_public.parquet").iloc[0]
    assert metrics["pixel_auroc"] > 0.75
    assert metrics["image_auroc"] > 0.6


def images_on_the_page(workspace: Workspace) -> str:
    return "".join(path.read_text() for path in (workspace.results / "report" / "assets").glob("*/samples.js"))


def test_snakemake_s_own_report_holds_figures_and_metrics(finished: Workspace, tmp_path: Path) -> None:
    finished.snakemake(f"--report={tmp_path / 'report.html'}", "all")
    text = (tmp_path / "report.html").read_text()
    for name in ("inp_former_sizes.svg", "metrics.csv", "metrics.xlsx"):
        assert name in text
    caption = (REPOSITORY / "rules" / "captions" / "metrics.rst").read_text()
    assert caption.partition(":")[0] in text


def test_report_and_submission(finished: Workspace) -> None:
    page = (finished.results / "report" / "index.html").read_text()
    assert "random" in page, "a random encoder must be said"
    assert "bad/002_regular" in images_on_the_page(finished)
    with tarfile.open(finished.results / "inp_former" / "submission.tar.gz") as tar:
        assert tar.getnames() == [
            "anomaly_images/nut/test_private/000_regular.tiff",
            "anomaly_images/nut/test_private/001_regular.tiff",
            "anomaly_images_thresholded/nut/test_private/000_regular.png",
            "anomaly_images_thresholded/nut/test_private/001_regular.png",
        ]


def test_a_second_run_has_nothing_to_do(finished: Workspace) -> None:
    assert "Nothing to be done" in finished.snakemake("all", "metrics", "submission")


def test_a_deleted_mask_folder_is_remade_with_what_follows(copy: Workspace) -> None:
    masks = copy.results / "inp_former" / "anomaly_images_thresholded" / "nut" / "test_public"
    before = copy.outputs()
    shutil.rmtree(masks)
    assert copy.planned("all", "metrics", "submission") == ["evaluate", "refine", "report", "score_images"]
    copy.snakemake("all")
    assert copy.outputs() == before


def test_a_deleted_coarse_mask_folder_is_remade_with_what_follows(copy: Workspace) -> None:
    shutil.rmtree(copy.results / "inp_former" / "coarse_masks" / "nut" / "test_public")
    assert copy.planned("all", "metrics") == ["binarize", "evaluate", "refine", "report", "score_images"]


def test_a_changed_setting_plans_its_stage_and_what_follows(copy: Workspace) -> None:
    copy.write_config({"binarize": {"std_factor": 2.5}})
    assert copy.planned("all") == sorted(["binarize", "refine", "score_images"] * 2 + ["evaluate", "report"])
    copy.write_config({"inp_former": {"checkpoint_every": 3}})
    assert copy.planned("all") == []


def test_masks_of_images_judged_normal_are_emptied_on_request(copy: Workspace) -> None:
    run = copy.results / "inp_former"
    verdicts = pd.read_parquet(run / "verdicts" / "nut" / "test_public.parquet").set_index("sample_id")
    held_out = pd.read_parquet(run / "held_out_scores" / "nut" / "test_public.parquet")
    scores = pd.read_parquet(run / "image_scores" / "nut" / "test_public.parquet").set_index("sample_id")
    assert len(held_out) == 2 and verdicts["limit"].unique() == held_out["score"].max()
    assert verdicts["score"].equals(scores["score"]), "of the same maps, in the same way"
    masks = {name: run / "anomaly_images_thresholded" / "nut" / "test_public" / f"{name}.png" for name in scores.index}
    before = {name: read_mask(path) for name, path in masks.items()}
    copy.write_config({"verdict": {"normal_masks": "empty"}})
    copy.snakemake("masks")
    for name, path in masks.items():
        kept = before[name] & bool(verdicts.loc[name, "is_anomalous"])
        np.testing.assert_array_equal(read_mask(path), kept)
    copy.write_config({"verdict": {"normal_masks": "empty"}, "score_images": {"top_fraction": 0.0}})
    assert copy.planned("masks") == ["judge"] * 2 + ["refine"] * 2, "the masks follow the limit"
    copy.write_config()
    assert copy.planned("masks") == ["refine"] * 2


def test_results_that_a_report_is_compared_with_are_its_inputs(copy: Workspace) -> None:
    """Their scores may be of any kind; when one of their tables changes, only the report is stale."""
    before = copy.results.parent / "before" / "inp_former"
    shutil.copytree(copy.results / "inp_former", before, copy_function=shutil.copy2)
    scores = before / "image_scores" / "nut" / "test_public.parquet"
    write_table(scores, pd.read_parquet(scores).assign(rescored=np.nan))
    copy.write_config({"report": {"compare": ["results/before"]}})
    assert copy.planned("all") == ["report"]
    copy.snakemake("all")
    page = (copy.results / "report" / "index.html").read_text()
    assert "before: inp_former, nut/test_public: 5 images have no finite score or threshold." in page
    assert copy.planned("all") == []
    write_table(scores, pd.read_parquet(scores).assign(rescored=1.0))
    assert copy.planned("all") == ["report"], "by content"
    shutil.rmtree(before / "anomaly_images")
    assert "has no finished results of what is reported here" in copy.snakemake("all", ok=False)


def test_a_changed_test_image_plans_its_split_only(copy: Workspace) -> None:
    image = copy.folder / "data" / "nut" / "test_private" / "000_regular.png"
    Image.fromarray(255 - np.asarray(Image.open(image))).save(image)
    expected = ["binarize", "crop", "index", "infer", "judge", "merge", "refine", "report", "score_images"]
    assert copy.planned("all") == expected


def test_another_seed_gives_other_maps(finished: Workspace, copy: Workspace) -> None:
    copy.write_config({"inp_former": {"seed": 1}})
    copy.snakemake("results/tiny/inp_former/tile_maps/nut/test_public.npy")
    name = "inp_former/tile_maps/nut/test_public.npy"
    assert copy.outputs()[name] != finished.outputs()[name]


# What is written when all is killed, below the detector's folder, and the file that must not look whole then.
KILLS = [
    ("after", "models/nut/state.pt", "models/nut/model.safetensors"),
    ("before", "tile_maps/nut/test_public.npy", "tile_maps/nut/test_public.npy"),
    ("before", "anomaly_images/nut/test_public", "anomaly_images/nut/test_public"),
]


def test_a_run_killed_in_three_stages_leaves_nothing_that_looks_whole_and_ends_like_another(
    finished: Workspace, workspace: Workspace
) -> None:
    """Killed while training, inferring and merging. The same seed gives the same bytes, whatever happened between."""
    detector = workspace.results / "inp_former"
    for moment, path, target in KILLS:
        workspace.kill_at(moment, detector / path, "metrics")
        assert not (detector / target).exists()
        assert moment == "after" or list((detector / target).parent.glob(".*.partial.*"))
    workspace.snakemake("all", "metrics")
    assert "Resuming at step" in (detector / "logs" / "train" / "nut.log").read_text()
    assert not (detector / "models/nut/state.pt").exists()
    again, before = workspace.outputs(), finished.outputs()
    assert again.keys() == before.keys()
    assert [name for name in before if again[name] != before[name]] == []
    assert not list(detector.rglob(".*.partial.*")), "what the killed job left must go"


def test_validation_based_settings_run(workspace: Workspace) -> None:
    """Ranges and thresholds from validation, feathered tiles, padded windows, no refinement."""
    shutil.rmtree(workspace.folder / "data" / "nut" / "validation")
    workspace.write_config(
        {
            "merge": {"normalize": "validation", "blend": "feather"},
            "binarize": {"calibrate": "validation", "method": "percentile"},
            "tiling": {"edge": "pad"},
            "refine": {"method": "none"},
        }
    )
    workspace.snakemake("metrics")
    train = pd.read_parquet(workspace.results / "samples" / "nut" / "train.parquet")
    validation = pd.read_parquet(workspace.results / "samples" / "nut" / "validation.parquet")
    assert (len(train), len(validation)) == (3, 1)
    coarse = workspace.results / "inp_former" / "coarse_masks" / "nut" / "test_public" / "bad" / "002_regular.png"
    final = workspace.results / "inp_former" / "anomaly_images_thresholded" / "nut" / "test_public" / "bad"
    np.testing.assert_array_equal(np.asarray(Image.open(coarse)), np.asarray(Image.open(final / "002_regular.png")))


def test_extreme_sizes_run(workspace: Workspace, rng: np.random.Generator) -> None:
    """A 1 x 1 image and one of 12 x 12 tiles in one category, images as large as the window."""
    folder = workspace.folder / "data" / "nut" / "test_private"
    Image.fromarray(np.full((1, 1, 3), 90, np.uint8)).save(folder / "100_dot.png")
    Image.fromarray(rng.integers(0, 255, (440, 444, 3), dtype=np.uint8)).save(folder / "101_large.png")
    Image.fromarray(rng.integers(0, 255, (48, 48, 3), dtype=np.uint8)).save(folder / "102_window.png")
    workspace.write_config({"dataset": {"splits": ["test_private"]}, "inp_former": {"epochs": 1}})
    workspace.snakemake("masks")
    tiles = pd.read_parquet(workspace.results / "tiles" / "nut" / "test_private.parquet")
    large = tiles[tiles["sample_id"] == "101_large"]
    assert (large["row"].max(), large["col"].max(), len(large)) == (11, 11, 144)
    assert (tiles["sample_id"] == "102_window").sum() == 1
    masks = workspace.results / "inp_former" / "anomaly_images_thresholded" / "nut" / "test_private"
    assert Image.open(masks / "100_dot.png").size == (1, 1)
    assert Image.open(masks / "101_large.png").size == (222, 220)


def test_several_categories_and_overrides(workspace: Workspace) -> None:
    write_tiny_dataset(workspace.folder / "data", ("bolt",), seed=1)
    workspace.write_config(
        {"inp_former": {"epochs": 1}},
        overrides=[{"where": {"category": "bolt"}, "set": {"refine.method": "none", "merge.scale": 1.0}}],
    )
    workspace.snakemake("metrics")
    workspace.snakemake("submission")
    masks = workspace.results / "inp_former" / "anomaly_images_thresholded"
    assert Image.open(masks / "bolt" / "test_public" / "bad" / "000_regular.png").size == (128, 96)
    assert Image.open(masks / "nut" / "test_public" / "bad" / "000_regular.png").size == (64, 48)
    files = sorted(workspace.results.glob("inp_former/metrics/*/*.parquet"))
    assert metrics_and_settings(files)[1] == [], "an override is no other setting"
    workspace.write_config(
        {"inp_former": {"epochs": 1}, "dataset": CONFIG["dataset"] | {"categories": ["bolt"]}},
        overrides=[{"where": {"category": ["bolt", "nut"]}, "set": {"refine.method": "none", "merge.scale": 1.0}}],
    )
    workspace.snakemake("metrics", "--forcerun=evaluate")
    assert metrics_and_settings(files)[1] == [
        "inp_former, nut/test_public: merge.scale was 0.5, now 1.0; refine.method was grabcut, now none; "
        "refine.max_boxes was 3, now not read",
    ]
    workspace.write_config(
        {"inp_former": {"epochs": 1}},
        overrides=[{"where": {"category": "bolt"}, "set": {"refine.method": "grabcut", "merge.scale": 1.0}}],
    )
    assert workspace.planned("metrics") == ["evaluate", "refine", "score_images"]


def test_shards_change_no_bit(finished: Workspace, copy: Workspace) -> None:
    """Four jobs infer five tiles a piece; what they write is what one job writes."""
    shutil.rmtree(copy.results / "inp_former" / "reuse")
    copy.write_config({"infer": {"shards": 4}})
    assert copy.planned("all").count("infer_shard") == 12
    copy.snakemake("results/tiny/inp_former/tile_maps/nut/test_public.npy")
    assert copy.outputs() == finished.outputs()
    assert not list(copy.results.glob("*/tile_map_shards/**/*.npy")), "parts are removed once they are joined"
