"""A new detector is one folder and one registry entry: a toy is added to a copy of the code, as CONTRIBUTING says."""

from __future__ import annotations

import re
import shutil
import subprocess
import sys
from pathlib import Path

import cv2
import numpy as np
import pandas as pd
import pytest
import tifffile
import yaml
from PIL import Image

from tests.conftest import REPOSITORY
from tests.workflow.conftest import Workspace, copy_code

pytestmark = pytest.mark.workflow

TOY = Path(__file__).parent / "toy"
REGISTRY = "src/robis/detectors/registry.py"
IMPORT = "from robis.detectors.toy.detector import ToyDetector\n"
ENTRY = "    toy=ToyDetector(),\n"
# Gray of the normal images, of a defective one and of its defect, a square of 8 x 8 pixels.
NORMAL, BACKGROUND, DEFECT = (100, 120), 90, 200
SQUARE = (slice(20, 28), slice(40, 48))
CONFIG = {
    "dataset": {"name": "tiny", "root": "data", "splits": ["test_public"]},
    "detectors": ["toy"],
    "toy": {"gain": 2.0},
    "tiling": {"window": 32, "overlap": 0, "edge": "shift"},
    "encoder": {"input_size": 32},
    "infer": {"batch_size": 3},
    "merge": {"scale": 0.5},
    "binarize": {"method": "mean_std", "erosion_size": 1},
    "refine": {"method": "none"},
}


def write_images(root: Path) -> None:
    """Images of 64 x 64 pixels in the layout mvtec_ad_2."""
    for number, gray in enumerate(NORMAL):
        write(root / "nut" / "train" / "good" / f"{number}.png", np.full((64, 64), gray, np.uint8))
    image = np.full((64, 64), BACKGROUND, np.uint8)
    write(root / "nut" / "test_public" / "good" / "0.png", image)
    mask = np.zeros((64, 64), np.uint8)
    image[SQUARE], mask[SQUARE] = DEFECT, 255
    write(root / "nut" / "test_public" / "bad" / "0.png", image)
    write(root / "nut" / "test_public" / "ground_truth" / "bad" / "0_mask.png", mask)


def write(path: Path, image: np.ndarray) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    cv2.imwrite(str(path), image)


def add_toy(code: Path) -> None:
    """What CONTRIBUTING asks for."""
    shutil.copytree(TOY, code / "src" / "robis" / "detectors" / "toy", ignore=shutil.ignore_patterns("__pycache__"))
    registry = code / REGISTRY
    text = registry.read_text().replace("\n\nDETECTORS", f"\n{IMPORT}\nDETECTORS", 1)
    registry.write_text(text.replace("\n)\n", f"\n{ENTRY})\n", 1))


@pytest.fixture(scope="module")
def toy(tmp_path_factory: pytest.TempPathFactory) -> Workspace:
    """A complete run of the toy detector by the copied code."""
    folder = tmp_path_factory.mktemp("new_detector")
    workspace = Workspace(folder / "run")
    workspace.code = copy_code(folder / "code")
    add_toy(workspace.code)
    write_images(workspace.folder / "data")
    workspace.configfile.write_text(yaml.safe_dump(CONFIG))
    workspace.snakemake("all", "metrics")
    return workspace


def changed_files(code: Path) -> set[str]:
    """Files of a copy of the code that are new or differ from the repository's."""
    files = [file for file in code.rglob("*") if file.is_file() and "__pycache__" not in file.parts]
    names = {file.relative_to(code).as_posix() for file in files}
    return {name for name in names if _content(REPOSITORY / name) != _content(code / name)}


def _content(file: Path) -> bytes | None:
    return file.read_bytes() if file.is_file() else None


def robis(workspace: Workspace, *arguments: str) -> str:
    """Run the command of the copied code."""
    main = "import sys; from robis.cli import main; sys.exit(main(sys.argv[1:]))"
    return python(workspace, "-c", main, *arguments)


def python(workspace: Workspace, *arguments: str) -> str:
    command = [sys.executable, *arguments]
    done = subprocess.run(
        command, capture_output=True, text=True, check=True, cwd=workspace.folder, env=workspace.environment
    )
    return done.stdout


def steps(section: str) -> str:
    """The text of a section of CONTRIBUTING."""
    text = (REPOSITORY / "CONTRIBUTING.md").read_text()
    return text.partition(f"## {section}\n")[2].partition("\n## ")[0]


def test_only_the_folder_and_the_registry_change(toy: Workspace) -> None:
    added = {f"src/robis/detectors/toy/{file.name}" for file in TOY.glob("*.py")}
    assert changed_files(toy.code) == {REGISTRY, *added}
    before, after = ((folder / REGISTRY).read_text().splitlines(True) for folder in (REPOSITORY, toy.code))
    assert sorted(set(after) - set(before)) == sorted([IMPORT, ENTRY])
    assert [line for line in after if line not in (IMPORT, ENTRY)] == before


def test_maps_masks_and_metrics_are_those_worked_out_by_hand(toy: Workspace) -> None:
    """The mean gray is 110: pixels are 20 from it, those of the defect 90, each times the gain."""
    run = toy.results / "toy"
    maps = np.load(run / "tile_maps" / "nut" / "test_public.npy")
    assert maps.dtype == np.float16 and maps.shape == (8, 16, 16)
    # Map pixels are 2 x 2 pixels; the square lies in the second tile of the defective image, which is the first.
    expected = np.full((8, 16, 16), 40.0)
    expected[1, 10:14, 4:8] = 180.0
    np.testing.assert_array_equal(maps, expected)
    anomaly = tifffile.imread(run / "anomaly_images" / "nut" / "test_public" / "bad" / "0.tiff")
    mask = np.zeros((32, 32), bool)
    mask[10:14, 20:24] = True
    np.testing.assert_array_equal(anomaly, np.where(mask, 255, 0))
    masks = run / "anomaly_images_thresholded" / "nut" / "test_public"
    np.testing.assert_array_equal(np.asarray(Image.open(masks / "bad" / "0.png")), np.where(mask, 255, 0))
    assert not np.asarray(Image.open(masks / "good" / "0.png")).any()
    metrics = pd.read_parquet(run / "metrics" / "nut" / "test_public.parquet").iloc[0]
    assert metrics["seg_f1"] == metrics["pixel_auroc"] == metrics["image_auroc"] == 1.0


def test_the_report_shows_it(toy: Workspace) -> None:
    page = (toy.results / "report" / "index.html").read_text()
    assert "toy" in page
    assert (toy.results / "report" / "figures" / "nut" / "test_public").is_dir()


def test_its_options_are_planned_explained_and_documented(toy: Workspace) -> None:
    explained = robis(toy, "explain", "toy.gain", "--configfile", str(toy.configfile))
    assert "Factor of the distances." in explained and "infer" in explained
    changed = Workspace(toy.folder)
    changed.code, changed.configfile = toy.code, toy.folder / "changed.yaml"
    changed.configfile.write_text(yaml.safe_dump(CONFIG | {"toy": {"gain": 1.0}}))
    assert changed.planned("all", "metrics") == sorted(
        ["infer", "merge", "binarize", "refine", "score_images", "evaluate", "report"]
    )


def test_make_config_documents_it(toy: Workspace, tmp_path: Path) -> None:
    copy = Workspace(tmp_path)
    copy.code = tmp_path / "code"
    shutil.copytree(toy.code, copy.code)
    before = changed_files(copy.code)
    python(copy, "-m", "robis.workflow.reference")
    generated = changed_files(copy.code) - before
    assert {"config/schema.json", "config/config.yaml", "docs/config.md"} <= generated
    assert all("toy" in (copy.code / name).read_text() for name in generated)


def test_it_keeps_the_contract_of_all_detectors(toy: Workspace, tmp_path: Path) -> None:
    code = tmp_path / "code"
    shutil.copytree(toy.code, code)
    shutil.copytree(REPOSITORY / "tests", code / "tests", ignore=shutil.ignore_patterns("__pycache__"))
    contract = "tests/unit/test_detector_contract.py"
    options = ["-q", "-p", "no:cacheprovider", "-k", "toy", contract]
    command = [sys.executable, "-m", "pytest", *options]
    environment = toy.environment | {"PYTHONPATH": str(code / "src")}
    done = subprocess.run(command, capture_output=True, text=True, check=False, cwd=code, env=environment)
    assert done.returncode == 0, done.stdout
    assert re.search(r"\b\d+ passed", done.stdout) and "skipped" not in done.stdout


def test_contributing_names_these_steps(toy: Workspace) -> None:
    text = steps("A new detector")
    assert {"options.py", "detector.py", "train.py", "infer.py"} <= set(re.findall(r"`(\w+\.py)`", text))
    for part in ("src/robis/detectors/NAME/", REGISTRY, "make config", "tests/workflow/toy/"):
        assert f"`{part}`" in text
