"""The table of encoders, detectors and data: its cells, its configs, and a run on a tiny data set."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest
import torch

from benchmarks import encoders
from benchmarks.cases.jobs import write_category
from benchmarks.encoders import Cell
from benchmarks.plain.statistics import patch_statistics
from robis.evaluation.metrics import METRICS


@pytest.fixture(scope="module")
def data(tmp_path_factory: pytest.TempPathFactory) -> dict[str, encoders.Config]:
    root = tmp_path_factory.mktemp("data")
    write_category(root / "nut")
    tiny = {
        "dataset": {"layout": "mvtec_ad_2", "root": str(root), "splits": ["test_public"]},
        "tiling": {"window": 48, "edge": "shift"},
        "merge": {"scale": 0.5},
        "superadd": {"bank_size": 50, "rounds": 2},
        "dinomaly": {"steps": 3},
    }
    return {"tiny": tiny}


def test_cells_cross_everything_one_seed_after_the_other() -> None:
    chosen = list(encoders.cells(["a", "b"], ["random", "statistics"], ["musc", "superadd"], 2))
    keys = [cell.key for cell in chosen]
    assert keys[:3] == ["a/random/musc/0", "a/random/superadd/0", "a/statistics/nearest/0"]
    assert len(keys) == len(set(keys)) == 12
    assert [cell.seed for cell in chosen] == [0] * 6 + [1] * 6


@pytest.mark.parametrize("data_name", list(encoders.DATA))
@pytest.mark.parametrize("detector", ["inp_former", "superadd", "musc", "dinomaly"])
def test_configs_are_valid_and_take_seed_and_encoder(data_name: str, detector: str) -> None:
    config = encoders.config_of(Cell(data_name, "efficientnet_lite0", detector, 2), encoders.DATA[data_name])
    assert config[detector]["seed"] == 2
    own = {"input_size": 384} if data_name == "demo" else {}
    assert config["encoder"] == {"name": "efficientnet_lite0"} | own
    # A zero-shot detector has no other images to compare with.
    reference = "split" if detector == "musc" else "validation"
    assert config["merge"]["normalize"] == config["binarize"]["calibrate"] == reference
    other = encoders.config_of(Cell(data_name, "dinov2_reg_vits14", detector, 0), encoders.DATA[data_name], 224)
    assert other["encoder"] == {"name": "dinov2_reg_vits14", "input_size": 224}


def test_only_results_that_depend_on_the_seed_are_measured_again() -> None:
    def random(data: str, encoder: str, detector: str) -> bool:
        cell = Cell(data, encoder, detector, 1)
        return encoders.is_random(cell, encoders.config_of(cell, encoders.DATA[data]))

    assert not random("magnetic_tile_whole", "efficientnet_lite0", "musc")
    assert random("magnetic_tile_tiled", "efficientnet_lite0", "musc"), "subsets are drawn"
    assert random("magnetic_tile_whole", "random", "musc")
    assert random("magnetic_tile_whole", "efficientnet_lite0", "superadd")
    assert random("magnetic_tile_whole", "statistics", "nearest")


def test_a_run_goes_on_where_it_stopped_and_skips_what_cannot_be(
    data: dict[str, encoders.Config], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    results = tmp_path / "results" / "encoders.json"
    given = dict.fromkeys(METRICS, 0.25)
    encoders.add(results, "tiny/random/superadd/0", given)
    arguments = ["--encoders", "random", "statistics", "--detectors", "superadd", "winclip", "--seeds", "1"]
    encoders.main([*arguments, "--input-size", "64", "--threads", "1", "--out", str(results)], data)
    done = json.loads(results.read_text())
    assert list(done) == ["tiny/random/superadd/0", "tiny/statistics/nearest/0"]
    assert done["tiny/random/superadd/0"] == given, "what is done is not run again"
    # White disks on gray noise stand out in any statistics.
    assert done["tiny/statistics/nearest/0"]["pixel_auroc"] > 0.95
    output = capsys.readouterr()
    assert "tiny/random/winclip/0: skipped. encoder.name:" in output.err
    assert [line.split(" | ")[1:4] for line in output.out.splitlines()[2:]] == [
        ["random", "superadd", "1"],
        ["statistics", "nearest", "1"],
    ]


@pytest.mark.parametrize("detector", ["superadd", "subspace", "dinomaly"])
def test_a_cell_runs_the_detector(data: dict[str, encoders.Config], tmp_path: Path, detector: str) -> None:
    cell = Cell("tiny", "random", detector, 0)
    config = encoders.config_of(cell, data["tiny"], 64)
    config["encoder"] |= {"name": "vit_tiny_patch16_224", "blocks": [2, 5]}
    first, again = (encoders.run(cell, config, 1, tmp_path / name) for name in ("first", "again"))
    assert list(first) == list(METRICS) and first == again
    assert 0 <= first["pixel_auroc"] <= 1


def test_the_table_takes_mean_and_spread_over_the_seeds(tmp_path: Path) -> None:
    results = tmp_path / "encoders.json"
    chosen = [Cell("demo", "random", "superadd", seed) for seed in range(3)]
    for cell, value in zip(chosen, (0.25, 0.75), strict=False):
        encoders.add(results, cell.key, dict.fromkeys(METRICS, value))
    lines = encoders.table(encoders.read(results), chosen).splitlines()[2:]
    assert lines == ["| demo | random | superadd | 2 | " + " | ".join(["0.500 ± 0.250"] * len(METRICS)) + " |"]


def test_the_kept_results_are_cells_of_the_table() -> None:
    known = {
        cell.key for cell in encoders.cells(list(encoders.DATA), list(encoders.ENCODERS), list(encoders.DETECTORS), 3)
    }
    done = encoders.read(encoders.RESULTS)
    assert set(done) <= known
    assert all(list(metrics) == list(METRICS) for metrics in done.values())


def test_statistics_of_a_flat_and_of_a_striped_patch() -> None:
    images = np.full((1, 28, 28, 3), 128, np.uint8)
    images[0, 14:, 14:] = np.where(np.arange(14) % 2, 255, 0)[:, None, None].astype(np.uint8)
    statistics = patch_statistics(torch.from_numpy(images))
    assert statistics.shape == (1, 4, 46)
    flat, striped = statistics[0, 0], statistics[0, 3]
    # Mean energy of the vertical gradient at scale 0: log(1e-3) / 2 where nothing changes, much more across stripes.
    assert flat[1].item() == pytest.approx(0.5 * np.log(1e-3), abs=1e-4)
    assert striped[1] - flat[1] > 3
    # Color of gray 128: 128 / 127.5 - 1.
    np.testing.assert_allclose(flat[26:29].numpy(), 128 / 127.5 - 1, atol=1e-6)
