"""Configs of `robis init` run to masks and report, from the folder of images alone."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest

from robis.io.images import read_image, read_mask
from robis.workflow.init import init
from tests.unit.test_init import images_alone, write
from tests.workflow.conftest import Workspace

pytestmark = pytest.mark.workflow


def small_labeled(root: Path) -> None:
    """Twelve good photos and two of each kind to inspect."""
    for n in range(12):
        write(root / "nut" / "train" / f"{n:02}.png", 36, 48)
    for n in range(2):
        write(root / "nut" / "test" / "good" / f"{n}.png", 36, 48)
        write(root / "nut" / "test" / "crack" / f"{n}.png", 36, 48)


def configured(folder: Path, kind: Callable[[Path], None], monkeypatch: pytest.MonkeyPatch) -> Workspace:
    monkeypatch.chdir(folder)
    kind(Path("data", "parts"))
    workspace = Workspace(folder)
    workspace.configfile = init(Path("data", "parts"), Path("config.yaml")).config.absolute()
    workspace.results = folder / "results" / "parts"
    return workspace


@pytest.mark.parametrize(
    ("kind", "detector", "masks"), [(small_labeled, "superadd", 4), (images_alone, "musc", 6)], ids=["labeled", "alone"]
)
def test_the_config_runs(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, kind: Callable[[Path], None], detector: str, masks: int
) -> None:
    workspace = configured(tmp_path, kind, monkeypatch)
    output = workspace.snakemake("all")
    files = sorted((workspace.results / detector / "anomaly_images_thresholded").rglob("*.png"))
    assert len(files) == masks
    image = next((tmp_path / "data").rglob("*.png"))
    assert {read_mask(file).shape for file in files} == {read_image(image).shape[:2]}, "masks have the images' size"
    page = (workspace.results / "report" / "index.html").read_text()
    few = "has few training images"
    assert (few in output) == (few in page) == (detector == "superadd"), "12 images are few; musc needs none"
    if detector == "superadd":
        overlays_concern_the_report_alone(workspace)


def overlays_concern_the_report_alone(workspace: Workspace) -> None:
    folder = workspace.results / "report" / "overlays"
    assert list(folder.rglob("*.jpg")) == []
    workspace.configfile.write_text(workspace.configfile.read_text() + "report: {overlays: true}\n")
    assert workspace.planned("all") == ["report"]
    workspace.snakemake("all")
    names = sorted(str(file.relative_to(folder)) for file in folder.rglob("*.jpg"))
    assert names == [f"superadd/nut/test/{label}/{n}.jpg" for label in ("crack", "good") for n in range(2)]
    assert read_image(folder / names[0]).shape == (36, 48, 3)


def test_the_plan_warns_and_the_window_follows_the_images(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A new image that is smaller changes windows of `auto`; one that is larger changes its own split alone."""
    workspace = configured(tmp_path, small_labeled, monkeypatch)
    text = workspace.configfile.read_text()
    assert "window: auto" in text
    target = "results/parts/tiles/nut/train.npy"
    workspace.snakemake(target)
    assert workspace.planned(target) == []
    write(Path("data/parts/nut/test/good/large.png"), 60, 60)
    assert workspace.planned(target) == []
    write(Path("data/parts/nut/test/good/small.png"), 30, 60)
    assert workspace.planned(target) == ["crop"]
