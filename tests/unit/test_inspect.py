"""`robis inspect` and `robis.load_pack`: what users see."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
from pathlib import Path

import cv2
import numpy as np
import pytest

import robis
from robis.cli import main
from robis.io.maps import read_map
from tests.conftest import REPOSITORY
from tests.unit.test_detector_contract import SPLIT, data, own_process  # noqa: F401
from tests.unit.test_packs import Packed, packed  # noqa: F401


@pytest.fixture
def pack(packed: Packed) -> tuple[Path, list[Path]]:  # noqa: F811
    """A pack, and the images of its split."""
    jobs, folders = packed("dinomaly")
    return next(iter(folders.values())), sorted((jobs.project.root / "nut" / SPLIT).rglob("*.png"))


def test_json_lines_maps_and_masks_are_those_of_the_library(
    pack: tuple[Path, list[Path]], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    folder, images = pack
    status = main(["inspect", str(folder), str(images[0].parent), "--out", str(tmp_path), "--json", "--device", "cpu"])
    lines = [json.loads(line) for line in capsys.readouterr().out.splitlines()]
    loaded = robis.load_pack(folder, device="cpu")
    expected = [loaded.inspect(image) for image in images]
    assert [line["image"] for line in lines] == [str(image) for image in images]
    for line, result in zip(lines, expected, strict=True):
        assert {key: line[key] for key in ("score", "is_anomalous", "limit", "regions")} == {
            key: value
            for key, value in json.loads(json.dumps(result.as_json())).items()
            if key in ("score", "is_anomalous", "limit", "regions")
        }
        assert read_map(tmp_path / line["map"]).tobytes() == result.map.tobytes()
        mask = cv2.imread(str(tmp_path / line["mask"]), cv2.IMREAD_UNCHANGED)
        np.testing.assert_array_equal(mask, result.mask * np.uint8(255))
    assert status == (10 if any(result.is_anomalous for result in expected) else 0)
    written = [json.loads(line) for line in (tmp_path / "results.jsonl").read_text().splitlines()]
    assert written == lines


def test_the_exit_status_tells_normal_anomalous_and_failed_apart(
    pack: tuple[Path, list[Path]], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    folder, images = pack
    loaded = robis.load_pack(folder, device="cpu")
    by_verdict = {loaded.inspect(image).is_anomalous: image for image in images}
    for verdict, status, word in ((False, 0, "normal"), (True, 10, "anomalous")):
        assert main(["inspect", str(folder), str(by_verdict[verdict])]) == status
        assert f"{by_verdict[verdict]}: {word}, score" in capsys.readouterr().out
    broken = tmp_path / "broken.png"
    broken.write_bytes(images[0].read_bytes()[:200])
    assert main(["inspect", str(folder), str(broken), str(by_verdict[True])]) == 1
    output = capsys.readouterr().out
    assert f"{broken}: not inspected: {broken}: not a readable image" in output
    assert f"{by_verdict[True]}: anomalous" in output, "the others follow"
    assert main(["inspect", str(folder), str(tmp_path / "no.png")]) == 1
    assert "no such file or folder" in capsys.readouterr().err


def test_images_of_the_same_name_keep_their_own_masks(pack: tuple[Path, list[Path]], tmp_path: Path) -> None:
    folder, images = pack
    for number, image in enumerate(images[:2]):
        (tmp_path / str(number)).mkdir()
        shutil.copy(image, tmp_path / str(number) / "x.png")
    files = [str(tmp_path / str(number) / "x.png") for number in (0, 1)]
    main(["inspect", str(folder), *files, "--out", str(tmp_path / "out")])
    lines = [json.loads(line) for line in (tmp_path / "out" / "results.jsonl").read_text().splitlines()]
    loaded = robis.load_pack(folder, device="cpu")
    assert lines[0]["map"] == "maps/x.tiff" != lines[1]["map"]
    for line, image in zip(lines, images, strict=False):
        assert read_map(tmp_path / "out" / line["map"]).tobytes() == loaded.inspect(image).map.tobytes()


def test_without_images_the_pack_says_what_it_is(
    pack: tuple[Path, list[Path]], capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(["inspect", str(pack[0])]) == 0
    output = capsys.readouterr().out
    assert output.startswith("dinomaly of tiny/nut, packed by robis")
    assert f"Masks of 5 of 5 images of {SPLIT} equal the workflow's." in output


# What takes long to import, or belongs to the workflow, and no tiny image needs.
LEFT_OUT = (
    *("snakemake", "robis.workflow", "pandas", "pyarrow", "open_clip", "numba", "scipy", "statsmodels", "matplotlib"),
    *("torch._dynamo", "torch._inductor", "sympy", "onnx", "onnxruntime"),
)


@pytest.mark.parametrize("name", ["dinomaly", "musc"])
def test_inspecting_imports_little(name: str, packed: Packed) -> None:  # noqa: F811
    jobs, folders = packed(name)
    image = str(min((jobs.project.root / "nut" / SPLIT).rglob("*.png")))
    code = f"""
import sys, robis
result = robis.load_pack({str(folders[name])!r}, device="cpu").inspect({image!r})
print([name for name in {LEFT_OUT} if name in sys.modules], result.score)
"""
    environment = os.environ | {"PYTHONPATH": str(REPOSITORY / "src")}
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True, env=environment)
    assert done.stdout.split() == ["[]", str(robis.load_pack(folders[name], device="cpu").inspect(image).score)]
