"""MuSc and WinCLIP through the real workflow, with small models saved to disk and loaded back."""

from __future__ import annotations

import json
import shutil
from pathlib import Path
from typing import Any

import numpy as np
import open_clip
import pandas as pd
import pytest
import timm
import torch
import yaml
from safetensors.torch import save_file

from robis.cli import main
from robis.evaluation.metrics import METRICS
from robis.scoring.rscin import rscin
from robis.workflow.stages import followers, readers
from tests.conftest import REAL_DATA
from tests.workflow.conftest import CONFIG, Workspace, made_once, write_tiny_dataset

pytestmark = pytest.mark.workflow

TINY_CLIP = {
    "embed_dim": 24,
    "vision_cfg": {"image_size": 48, "layers": 3, "width": 32, "head_width": 16, "patch_size": 12},
    "text_cfg": {"context_length": 77, "vocab_size": 49408, "width": 24, "heads": 2, "layers": 1},
}
WINCLIP_RUNS = ("winclip_0shot", "winclip_2shot_seed0", "winclip_2shot_seed1")
RUNS = ("musc", *WINCLIP_RUNS)

# The validation split is inferred too, for the limit of `judge`.
PER_RUN = ("infer", "infer", "merge", "binarize", "judge", "refine", "score_images", "evaluate")
# What a change plans: jobs of MuSc's one run, of the three of WinCLIP, of the two that have references.
OF_MUSC = [*PER_RUN, "report"]
OF_WINCLIP = [*PER_RUN * 3, "report"]
OF_FEW_SHOT = [*("train", *PER_RUN) * 2, "report"]
RESCORED = ["score_images", "evaluate", "report"]
ZERO_SHOT_CHANGES: dict[str, tuple[Any, list[str]]] = {
    "musc.neighborhood_sizes": ([1], OF_MUSC),
    "musc.averaged_fraction": ([0.0, 0.9], OF_MUSC),
    # Its two images are too few for two subsets: there is no limit then.
    "musc.subsets": (2, ["infer", "merge", "binarize", "refine", "score_images", "evaluate", "report"]),
    "musc.seed": (1, OF_MUSC),
    "musc.memory_gb": (1.0, []),
    "winclip.references": (["good/000_regular", "good/001_regular"], OF_FEW_SHOT),
    "winclip.scales": ([2], [*["winclip_embed_tiles"] * 2, *["train"] * 2, *OF_WINCLIP]),
    "winclip.temperature": (0.1, OF_WINCLIP),
    "winclip.class_name": ("hexagonal nut", ["winclip_embed_prompts", *OF_WINCLIP]),
    "winclip.normal_states": (["fine {}"], ["winclip_embed_prompts", *OF_WINCLIP]),
    "winclip.anomalous_states": (["bad {}"], ["winclip_embed_prompts", *OF_WINCLIP]),
    "winclip.templates": (["a photo of {}"], ["winclip_embed_prompts", *OF_WINCLIP]),
    "rescore.method": ("none", RESCORED),
    "rescore.neighborhood_sizes": ([2], RESCORED),
    "rescore.embeddings": ("musc", RESCORED),
}


def save_encoders(folder: Path) -> None:
    """Random weights in the files that users would bring."""
    folder.mkdir(parents=True, exist_ok=True)
    torch.manual_seed(0)
    vit = timm.create_model("vit_tiny_patch16_224", num_classes=0, img_size=48)
    save_file(vit.state_dict(), folder / "vit.safetensors")
    (folder / "clip.json").write_text(json.dumps(TINY_CLIP))
    save_file(open_clip.CLIP(**TINY_CLIP).state_dict(), folder / "clip.safetensors")


def zero_shot_config(**changes: Any) -> dict[str, Any]:
    config = {name: section for name, section in CONFIG.items() if name not in ("encoder", "inp_former", "tiling")}
    config["dataset"] = CONFIG["dataset"] | {"splits": ["test_public"]}
    config |= {
        "detectors": ["musc", "winclip"],
        "winclip": {"shots": [0, 2], "seeds": [0, 1]},
        "overrides": [
            {
                "where": {"detector": "musc"},
                "set": {
                    "encoder.name": "vit_tiny_patch16_224",
                    "encoder.weights": "weights/vit.safetensors",
                    "encoder.input_size": 48,
                },
            },
            {
                "where": {"detector": "winclip"},
                "set": {"encoder.name": "weights/clip.json", "encoder.weights": "weights/clip.safetensors"},
            },
        ],
    }
    return config | changes


@pytest.fixture(scope="module")
def zero_shot(tmp_path_factory: pytest.TempPathFactory) -> Workspace:
    """One complete run that nobody may change."""

    def make(workspace: Workspace) -> None:
        write_tiny_dataset(workspace.folder / "data")
        save_encoders(workspace.folder / "weights")
        workspace.configfile.write_text(yaml.safe_dump(zero_shot_config()))
        workspace.snakemake("all", "metrics")

    return made_once(tmp_path_factory, "zero_shot", make)


def read(workspace: Workspace, run: str, output: str) -> pd.DataFrame:
    return pd.read_parquet(workspace.results / run / output / "nut" / "test_public.parquet")


def test_every_run_ends_in_metrics_and_the_report(zero_shot: Workspace) -> None:
    for run in RUNS:
        assert read(zero_shot, run, "metrics")[list(METRICS)].iloc[0].notna().all()
        scores = read(zero_shot, run, "image_scores")
        own = read(zero_shot, run, "tile_maps").groupby("sample_id")["score"].max()
        np.testing.assert_allclose(scores["score"], own[scores["sample_id"]], rtol=1e-6)
    page = (zero_shot.results / "report" / "index.html").read_text()
    assert all(run in page for run in RUNS)
    models = sorted(path.parent.parent.parent.name for path in zero_shot.results.glob("*/models/nut/*.safetensors"))
    assert models == sorted(WINCLIP_RUNS[1:]), "zero-shot runs train nothing"


def test_runs_of_winclip_share_what_is_expensive(zero_shot: Workspace) -> None:
    files = {path.relative_to(zero_shot.results).as_posix() for path in zero_shot.results.rglob("*") if path.is_file()}
    tiles = {name for name in files if name.endswith(".npy") and "/tiles/" in name and "/reuse/" not in name}
    assert tiles == {
        *("musc/tiles/nut/test_public.npy", "musc/tiles/nut/validation.npy"),
        *("winclip/tiles/nut/test_public.npy", "winclip/tiles/nut/validation.npy", "winclip/tiles/nut/train.npy"),
    }
    assert "winclip/prompt_features/nut.safetensors" in files
    features = {name for name in files if name.startswith("winclip/tile_features/") and name.endswith(".npy")}
    assert features == {f"winclip/tile_features/nut/{split}.npy" for split in ("test_public", "validation")}
    one, other = (np.load(zero_shot.results / run / "tile_maps/nut/test_public.npy") for run in WINCLIP_RUNS[:2])
    assert np.abs(one.astype(float) - other.astype(float)).max() > 1e-3


def test_musc_is_rescored_by_its_own_embeddings(zero_shot: Workspace) -> None:
    scores = read(zero_shot, "musc", "image_scores")
    table = read(zero_shot, "musc", "tile_maps").set_index("sample_id")
    embeddings = np.stack(table.loc[scores["sample_id"], "embedding"])
    expected = rscin(scores["score"].to_numpy(), embeddings, [1, 2, 3])
    np.testing.assert_allclose(scores["rescored"], expected, rtol=1e-6)
    assert (scores["rescored"] - scores["score"]).abs().max() > 1e-4
    plain = read(zero_shot, WINCLIP_RUNS[0], "image_scores")
    assert plain["rescored"].tolist() == plain["score"].tolist()


def test_metrics_give_the_spread_over_seeds(zero_shot: Workspace, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["metrics", str(zero_shot.results)]) == 0
    text = capsys.readouterr().out
    assert "winclip_2shot, test_public, mean ± standard deviation over 2 seeds" in text
    aurocs = [100 * read(zero_shot, f"winclip_2shot_seed{n}", "metrics")["pixel_auroc"].iloc[0] for n in (0, 1)]
    assert f"{np.mean(aurocs):.1f}±{np.std(aurocs, ddof=1):.1f}" in text


def test_another_number_of_shots_makes_its_own_jobs_only(zero_shot: Workspace, tmp_path: Path) -> None:
    changed = Workspace(zero_shot.folder)
    changed.configfile = tmp_path / "config.yaml"
    changed.configfile.write_text(yaml.safe_dump(zero_shot_config(winclip={"shots": [0, 2, 3], "seeds": [0, 1]})))
    assert changed.planned("all", "metrics") == sorted([*("train", *PER_RUN) * 2, "report"])


@pytest.mark.parametrize("key", list(ZERO_SHOT_CHANGES))
def test_a_changed_key_plans_its_own_detector(zero_shot: Workspace, tmp_path: Path, key: str) -> None:
    value, jobs = ZERO_SHOT_CHANGES[key]
    section, _, name = key.partition(".")
    changed = Workspace(zero_shot.folder)
    changed.configfile = tmp_path / "config.yaml"
    config = zero_shot_config()
    changed.configfile.write_text(yaml.safe_dump(config | {section: config.get(section, {}) | {name: value}}))
    assert changed.planned("all", "metrics") == sorted(jobs)
    read = {stage for stage, condition in readers(key).items()}
    assert set(jobs) <= followers(read), "the table says what Snakemake does"


def test_a_model_trained_elsewhere_is_used(zero_shot: Workspace, tmp_path: Path) -> None:
    """A checkpoint in the public key layout, encoder included, as torch saved it."""
    workspace = Workspace(tmp_path)
    write_tiny_dataset(tmp_path / "data")
    workspace.write_config()
    workspace.snakemake("results/tiny/inp_former/tile_maps/nut/test_public.npy")
    expected = (workspace.results / "inp_former/tile_maps/nut/test_public.npy").read_bytes()
    from safetensors.torch import load_file

    from robis.detectors.inp_former.model import InpFormer
    from robis.encoders.build import build_encoder

    trained = load_file(workspace.results / "inp_former/models/nut/model.safetensors")
    network = InpFormer(build_encoder(**CONFIG["encoder"]), CONFIG["inp_former"]["prototypes"])
    encoder = {f"encoder.{name}": value for name, value in network.encoder.vit.state_dict().items()}
    (tmp_path / "models").mkdir()
    torch.save(trained | encoder, tmp_path / "models" / "nut.pth")
    shutil.rmtree(workspace.results / "inp_former")
    workspace.write_config(
        {
            "inp_former": {"weights": "models/{category}.pth"},
            "encoder": {"weights": "auto", "name": "vit_tiny_patch16_224"},
        }
    )
    assert "train" not in workspace.planned("all", "metrics")
    workspace.snakemake("results/tiny/inp_former/tile_maps/nut/test_public.npy")
    assert (workspace.results / "inp_former/tile_maps/nut/test_public.npy").read_bytes() == expected
    assert not (workspace.results / "inp_former/models").exists()


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        (
            {"encoder": {"weights": "nowhere.safetensors"}, "overrides": []},
            r"encoder.weights: nowhere.safetensors does not",
        ),
        ({"winclip": {"shots": 5}}, "winclip.shots: found 5; nut has 4 training images"),
        (
            {"rescore": {"neighborhood_sizes": [9], "method": "rscin"}},
            "rescore.neighborhood_sizes: found [9]; nut/test_public has 5 images",
        ),
        ({"musc": {"subsets": 4}}, "musc.subsets: found 4 for the 5 images of nut/test_public"),
    ],
)
def test_what_cannot_run_is_named(zero_shot: Workspace, tmp_path: Path, changes: dict[str, Any], message: str) -> None:
    shutil.copytree(zero_shot.folder, tmp_path / "copy", symlinks=True)
    workspace = Workspace(tmp_path / "copy")
    workspace.configfile.write_text(yaml.safe_dump(zero_shot_config(**changes)))
    assert message in workspace.snakemake("all", ok=False)


@pytest.mark.skipif(not REAL_DATA.is_dir(), reason="needs the real images")
def test_real_images_of_many_sizes(tmp_path: Path) -> None:
    from tests.workflow.test_real_images import cut_down

    workspace = cut_down("magnetic_tile", tmp_path, keep=2)
    save_encoders(tmp_path / "weights")
    config = yaml.safe_load(workspace.configfile.read_text())
    zero = zero_shot_config(winclip={"shots": [0, 2]})
    # Tiles of 128 pixels for MuSc, whole images for WinCLIP.
    zero["overrides"][0]["set"]["tiling.window"] = 128
    config = {name: config[name] for name in ("dataset", "refine")} | {"merge": {"scale": 1.0}}
    config |= {name: zero[name] for name in ("detectors", "winclip", "overrides")}
    workspace.configfile.write_text(yaml.safe_dump(config))
    workspace.snakemake("all", "metrics")
    for run in ("musc", "winclip_0shot", "winclip_2shot_seed0"):
        row = pd.read_parquet(workspace.results / run / "metrics" / "tile" / "test.parquet").iloc[0]
        assert row[list(METRICS)].between(0, 1).all()
