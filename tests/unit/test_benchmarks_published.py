"""The comparison with the published RoBiS code, on stand-ins for it."""

from __future__ import annotations

import argparse
from collections.abc import Callable
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
import torch
from torch import nn

from benchmarks import bench
from benchmarks.harness import DifferentResultsError, Fact, Row
from benchmarks.plain import published as plain

# Stands for the published script of the same name.
BINARIZATION = """
from pathlib import Path
from benchmarks.plain import binarize as plain
mvtec_class_names = ["can", "vial"]

def mvtec_bin(args, test_type):
    for name in mvtec_class_names:
        maps = Path(args.amap_savedir) / "anomaly_images" / name / test_type
        masks = Path(args.bin_savedir) / "anomaly_images_thresholded" / name / test_type
        plain.binarize_split(sorted(maps.glob("*.tiff")), masks)
"""


def measured(*sizes: str) -> list[Row | Fact]:
    """What the benchmark yields at tiny sizes, each side once."""
    options = {"quick": True, "repeats": 1, "threads": 1, "device": "cpu", "set": list(sizes)}
    return list(bench.run("published", argparse.Namespace(**options)))


@pytest.fixture
def stand_in(tmp_path: Path) -> Callable[[str], str]:
    """A folder with empty scripts and this one for binarization."""

    def write(binarization: str) -> str:
        for name in plain.NEEDED:
            (tmp_path / name).touch()
        (tmp_path / "binarization.py").write_text(binarization, encoding="utf-8")
        return f"code={tmp_path}"

    return write


def test_without_the_code_it_says_how_to_name_it() -> None:
    (fact,) = measured()
    assert isinstance(fact, Fact) and "--set code=FOLDER" in str(fact.values["why"]) and not fact.failed


def test_a_folder_without_the_code_is_refused(tmp_path: Path) -> None:
    (tmp_path / "merging.py").touch()
    with pytest.raises(SystemExit, match=r"no swin-cropping.py, INP_.*, SAM-Finer.py; expected a folder with the pub"):
        measured(f"code={tmp_path}")


def test_an_unknown_stage_is_refused(stand_in: Callable[[str], str]) -> None:
    with pytest.raises(SystemExit, match=r"no stage 'crops'. Valid: crop, train, infer, merge, binarize, refine"):
        measured(stand_in(""), "stages=merge+crops")


def test_a_script_runs_on_the_benchmark_s_category(stand_in: Callable[[str], str]) -> None:
    (row,) = measured(stand_in(BINARIZATION), "stages=binarize")
    assert isinstance(row, Row) and row.equal == "masks bit-identical"
    assert row.plain.peak_mb is not None and row.ours.peak_mb is not None


def test_other_masks_are_not_timed(stand_in: Callable[[str], str]) -> None:
    with pytest.raises(DifferentResultsError, match=r"\d+ of \d+ pixels differ"):
        measured(stand_in(f"{BINARIZATION}\nplain.STD_FACTOR = 0.0"), "stages=binarize")


class Script:
    """What `benchmarks.plain.published` sets in the script of training, around a model of one weight."""

    def __init__(self) -> None:
        self.torch, self.augmented, self.rates = torch, None, iter([0.1, 0.2])
        self.INP_Former: Any = lambda: nn.Linear(1, 1, bias=False)
        self.WarmCosineScheduler: Any = lambda: SimpleNamespace(step=lambda: next(self.rates))
        self.get_data_transforms: Any = self._transforms

    def _transforms(self, size: int, crop: int, bright_aug: bool = False) -> None:
        self.augmented = bright_aug


def test_training_starts_from_given_weights_after_its_own_initialization(tmp_path: Path) -> None:
    script: Any = Script()
    torch.save({"weight": torch.tensor([[5.0]])}, tmp_path / "start.pth")
    plain._start_from(script, tmp_path / "start.pth")
    script.get_data_transforms(518, 518, bright_aug=True)
    model = script.INP_Former()
    nn.init.zeros_(model.weight)
    script.WarmCosineScheduler()
    assert model.weight.item() == 5 and script.augmented is False


def test_the_end_of_every_step_is_noted() -> None:
    script: Any = Script()
    ends = plain._ends_of_steps(script)
    scheduler = script.WarmCosineScheduler()
    assert ends == {"seconds": [], "cpu_seconds": []}
    for _ in range(2):
        scheduler.step()
    assert next(script.rates, None) is None
    assert [len(times) for times in ends.values()] == [2, 2] and ends["seconds"] == sorted(ends["seconds"])
