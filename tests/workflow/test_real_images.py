"""Cut-down runs on real images of many sizes; skipped where the images are not beside the checkout."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import pandas as pd
import pytest
import yaml

from robis.evaluation.metrics import METRICS
from tests.conftest import REAL_DATA, REPOSITORY
from tests.workflow.conftest import Workspace

pytestmark = [
    pytest.mark.workflow,
    pytest.mark.skipif(not REAL_DATA.is_dir(), reason=f"needs the real images, which are not in {REAL_DATA.name}/"),
]


def cut_down(name: str, folder: Path, keep: int, detectors: Sequence[str] = ("inp_former", "superadd")) -> Workspace:
    """Link the first images of every folder, and use the preset's first split, one epoch and a small bank."""
    source = REAL_DATA / name
    for path in sorted(source.rglob("*")):
        if not path.is_file() or path.name.startswith("."):
            continue
        number = int(path.name[:3]) if path.name[:3].isdigit() else 0
        if number < keep:
            target = folder / "data" / path.relative_to(source)
            target.parent.mkdir(parents=True, exist_ok=True)
            target.symlink_to(path)
    config = yaml.safe_load((REPOSITORY / "config" / f"{name}.yaml").read_text())
    config["dataset"] |= {"root": "data", "splits": config["dataset"]["splits"][:1]}
    config["detectors"] = list(detectors)
    config["inp_former"] = config["inp_former"] | {"epochs": 1}
    config["superadd"] = {"bank_size": 500, "rounds": 50}
    (folder / "config.yaml").write_text(yaml.safe_dump(config))
    workspace = Workspace(folder)
    workspace.results = folder / "results" / name
    return workspace


@pytest.mark.parametrize(
    ("name", "category", "split", "keep", "detectors"),
    [
        ("magnetic_tile", "tile", "test", 2, ("inp_former", "superadd")),
        ("pcb_panel", "board", "test_public", 1, ("superadd",)),
    ],
)
def test_real_images_run_to_the_report(
    tmp_path: Path, name: str, category: str, split: str, keep: int, detectors: tuple[str, ...]
) -> None:
    workspace = cut_down(name, tmp_path, keep, detectors)
    workspace.snakemake("all", "metrics")
    for detector in detectors:
        metrics = pd.read_parquet(workspace.results / detector / "metrics" / category / f"{split}.parquet").iloc[0]
        assert metrics[list(METRICS)].between(0, 1).all()
    samples = pd.read_parquet(workspace.results / "samples" / category / f"{split}.parquet")
    if name == "magnetic_tile":
        assert samples[["height", "width"]].drop_duplicates().shape[0] > 3
    shown = "".join(path.read_text() for path in (workspace.results / "report" / "assets").glob("*/samples.js"))
    assert all(sample_id in shown for sample_id in samples["sample_id"])
