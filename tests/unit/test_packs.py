"""Packs: every detector's masks are the workflow's, and every kind of bad pack or image is refused by name."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from robis.detectors.registry import DETECTORS
from robis.io.maps import read_map, read_written_mask
from robis.io.samples import read_samples
from robis.io.tables import read_table
from robis.packs.format import read_manifest
from robis.packs.pack import Pack, load_pack
from robis.workflow import results
from tests.script_jobs import ScriptJobs
from tests.unit.test_detector_contract import SPLIT, data, make_config, own_process  # noqa: F401

ALONE = [name for name, detector in DETECTORS.items() if not detector.compares_tiles]
# More ways through the stages, one detector each.
WAYS: dict[str, tuple[str, dict[str, Any]]] = {
    "joined": (
        "superadd",
        {
            "tiling": {"window": "joined", "overlap": 0.25, "image_scale": 0.9},
            "merge": {"scale": 0.25, "normalize": "none"},
            "binarize": {"method": "lines", "percentile": 80.0, "percentile_factor": 1.0, "erosion_size": 3},
        },
    ),
    "whole images, empty masks": (
        "subspace",
        {
            "tiling": {"window": "image", "resample": "bicubic"},
            "merge": {"scale": 0.5},
            "binarize": {"method": "percentile", "percentile_factor": 1.01, "closing_sizes": [3]},
            "refine": {"method": "grabcut"},
            "verdict": {"normal_masks": "empty"},
        },
    ),
    "padded, feathered": (
        "inp_former",
        {
            "tiling": {"window": 50, "overlap": 0.3, "edge": "pad"},
            "merge": {"scale": 0.37, "blend": "feather"},
            "binarize": {"method": "mean_std", "std_factor": 1.0, "erosion_size": 2},
            "refine": {"method": "grabcut"},
        },
    ),
}


def pack_config(name: str, data: Path, **changes: dict[str, Any]) -> dict[str, Any]:  # noqa: F811
    config = make_config(name, data)
    config["dataset"] |= {"splits": [SPLIT], "hold_out_every": 2}
    for section, values in {"merge": {"normalize": "validation"}, "binarize": {"calibrate": "validation"}}.items():
        config[section] = config.get(section, {}) | values
    for section, values in changes.items():
        config[section] = config.get(section, {}) | values
    return config


Packed = Callable[..., tuple[ScriptJobs, dict[str, Path]]]


@pytest.fixture(scope="module")
def packed(data: Path, tmp_path_factory: pytest.TempPathFactory) -> Packed:  # noqa: F811
    """Packs all runs of a detector, once for all tests that ask for the same."""
    done: dict[str, tuple[ScriptJobs, dict[str, Path]]] = {}

    def of(name: str, **changes: dict[str, Any]) -> tuple[ScriptJobs, dict[str, Path]]:
        key = repr((name, changes))
        if key not in done:
            jobs = ScriptJobs(pack_config(name, data, **changes), tmp_path_factory.mktemp(name))
            done[key] = jobs, {run: jobs.pack(run) for run in jobs.project.detectors}
        return done[key]

    return of


def compare_with_workflow(jobs: ScriptJobs, run: str, pack: Pack) -> list[bool]:
    """Every image's map, mask, score and verdict are the workflow's; returns which masks have a pixel."""
    maps, masks = (jobs.place(pattern, run, SPLIT) for pattern in (results.ANOMALY_MAPS, results.MASKS))
    scores = read_table(jobs.place(results.IMAGE_SCORES, run, SPLIT)).set_index("sample_id")
    verdicts = read_table(jobs.place(results.VERDICTS, run, SPLIT)).set_index("sample_id")
    marked = []
    for sample in read_samples(jobs.place(results.SAMPLES, split=SPLIT)):
        name = sample.sample_id
        result = pack.inspect(jobs.project.root / sample.image)
        assert result.map.tobytes() == read_map(maps / f"{name}.tiff").tobytes()
        np.testing.assert_array_equal(result.mask, read_written_mask(masks / f"{name}.png", stage="refine"))
        assert result.score == scores.loc[name, "score"] == verdicts.loc[name, "score"]
        assert (result.limit, result.is_anomalous) == (verdicts.loc[name, "limit"], verdicts.loc[name, "is_anomalous"])
        marked.append(bool(result.mask.any()))
    return marked


@pytest.mark.parametrize("name", ALONE)
def test_every_detector_inspects_as_the_workflow_does(name: str, packed: Packed) -> None:
    jobs, folders = packed(name)
    for run, folder in folders.items():
        # Threads, and the other tiles of a batch, change nothing.
        marked = compare_with_workflow(jobs, run, load_pack(folder, device="cpu", threads=3))
        assert len(marked) == 5
        check = read_manifest(folder).check
        assert check and (check.images, check.equal_masks, check.equal_maps, check.equal_scores) == (5, 5, 5, 5)
        assert {file.suffix for file in folder.iterdir()} == {".json", ".safetensors"}


@pytest.mark.parametrize("way", WAYS)
def test_every_way_through_the_stages_gives_the_masks_of_the_workflow(way: str, packed: Packed) -> None:
    name, changes = WAYS[way]
    jobs, folders = packed(name, **changes)
    marked = [
        compare_with_workflow(jobs, run, load_pack(folder, device="cpu", threads=2)) for run, folder in folders.items()
    ]
    assert any(map(any, marked)), "no mask has a pixel"
