"""Images of 12 bits in files of 16: every reader scales them by `dataset.bit_depth`, and checks name a value to set."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import cv2
import numpy as np
import pytest
import tifffile

from robis.cli import main
from robis.config.yaml_files import plain, read_config
from robis.datasets.depth import usual_depth
from robis.errors import DataError
from robis.io.images import highest_value, read_image
from robis.packs.pack import load_pack
from robis.report.pictures import draw_image, thumbnail_size
from robis.workflow.survey import shared_depth
from tests.made_results import made_facts, report_files
from tests.script_jobs import ScriptJobs
from tests.unit.test_detector_contract import SPLIT, data, own_process  # noqa: F401
from tests.unit.test_packs import WAYS, compare_with_workflow, pack_config
from tests.unit.test_report import RUNS, build, files_of, results

__all__ = ["results"]

# v * 255 / 4095: 0, 0.06, 0.498, 0.56, 127.53, 255; v / 257: 0, 0, 0.03, 0.04, 7.97, 15.93.
STORED = np.array([[0, 1, 8], [9, 2048, 4095]], np.uint16)
OF_12_BITS = [[0, 0, 0], [1, 128, 255]]
OF_16_BITS = [[0, 0, 0], [0, 8, 16]]


def write_12_bits(image: Path, target: Path) -> None:
    """Save an image of 8 bits with 12: the nearest values, which become the same 8 bits again."""
    values = np.rint(cv2.imread(str(image)).astype(np.float64) * 4095 / 255).astype(np.uint16)
    target.parent.mkdir(parents=True, exist_ok=True)
    cv2.imwrite(str(target), values)


@pytest.mark.parametrize("name", ["gray.png", "gray.tif", "rgb.tif", "white_is_zero.tif"])
def test_values_worked_by_hand(tmp_path: Path, name: str) -> None:
    path = tmp_path / name
    if name == "gray.png":
        cv2.imwrite(str(path), STORED)
    elif name == "rgb.tif":
        tifffile.imwrite(path, np.dstack([STORED] * 3), photometric="rgb")
    elif name == "white_is_zero.tif":
        tifffile.imwrite(path, 4095 - STORED, photometric="miniswhite")
    else:
        tifffile.imwrite(path, STORED)
    assert read_image(path, bit_depth=12).tolist() == np.dstack([OF_12_BITS] * 3).tolist()
    assert highest_value(path) == 4095
    if name != "white_is_zero.tif":
        assert read_image(path).tolist() == np.dstack([OF_16_BITS] * 3).tolist()
        np.testing.assert_array_equal(read_image(path), read_image(path, bit_depth=16))


def test_all_gray_levels_stay(tmp_path: Path) -> None:
    cv2.imwrite(str(tmp_path / "ramp.png"), np.arange(4096, dtype=np.uint16).reshape(64, 64))
    levels = [len(np.unique(read_image(tmp_path / "ramp.png", bit_depth=depth))) for depth in (None, 12)]
    assert levels == [17, 256]


def test_other_files_do_not_depend_on_it(tmp_path: Path) -> None:
    cv2.imwrite(str(tmp_path / "8.png"), np.array([[0, 200]], np.uint8))
    (tmp_path / "12.pgm").write_bytes(b"P5\n2 1\n4095\n" + np.array([0, 4095], ">u2").tobytes())
    for name, white in (("8.png", 200), ("12.pgm", 255)):
        assert read_image(tmp_path / name, bit_depth=10)[0, :, 0].tolist() == [0, white]
        assert highest_value(tmp_path / name) is None


def test_values_above_white_name_the_file_and_the_value(tmp_path: Path) -> None:
    cv2.imwrite(str(tmp_path / "x.png"), np.array([[0, 4096]], np.uint16))
    message = r"x\.png: its highest value is 4096; dataset\.bit_depth: 12 allows values up to 4095\. .*\(13 or more\)"
    with pytest.raises(DataError, match=message):
        read_image(tmp_path / "x.png", bit_depth=12)
    assert read_image(tmp_path / "x.png", bit_depth=13)[0, 1, 0] == 128  # 4096 * 255 / 8191 = 127.5


def test_a_run_and_its_pack_see_12_bits_as_if_there_were_8(
    data: Path,  # noqa: F811
    tmp_path: Path,
) -> None:
    """The tiles are those of the images of 8 bits; GrabCut of the run and of the pack see the same pixels."""
    for image in (data / "images").rglob("*.png"):
        write_12_bits(image, tmp_path / "deep" / image.relative_to(data / "images"))
    changes = WAYS["padded, feathered"][1] | {"subspace": {"shots": 0}}
    plain_jobs, deep_jobs = (
        ScriptJobs(pack_config("subspace", data, **changes, dataset=dataset), tmp_path / name)
        for name, dataset in (("plain", {}), ("made", {"root": str(tmp_path / "deep"), "bit_depth": 12}))
    )
    (run,) = deep_jobs.project.detectors
    assert any(compare_with_workflow(deep_jobs, run, load_pack(deep_jobs.pack(run), device="cpu", threads=1)))
    plain_tiles, deep_tiles = (jobs.tiles(run, SPLIT)["tiles"][0] for jobs in (plain_jobs, deep_jobs))
    assert Path(plain_tiles).read_bytes() == Path(deep_tiles).read_bytes()


def test_the_report_shows_12_bits_in_full(results: Path) -> None:
    root = results.parents[1] / "data"
    images = sorted(root.glob("nut/test/*.png"))
    plain_images = [read_image(image) for image in images]
    for image in images:
        write_12_bits(image, image)
    facts = replace(made_facts(root, "inp_former"), bit_depth=12)
    page = build(results, facts=facts, runs=files_of(results, RUNS[:1]), overlays=True)
    thumbnails = {file.read_bytes() for file in (page.parent / "assets" / "001" / "images").glob("?.jpg")}
    assert thumbnails == {draw_image(image, *thumbnail_size(*image.shape[:2])) for image in plain_images}
    overlays = list(report_files(results / "report").overlays.rglob("*.jpg"))
    assert len(overlays) == len(images) == 4
    assert min(read_image(file).mean() for file in overlays) > 100  # 8 where white is 65535


def test_usual_depths() -> None:
    assert [usual_depth(value) for value in (0, 255, 256, 1023, 4095, 4096, 16383, 16384)] == [
        *(8, 8, 10, 10, 12, 14, 14),
        None,
    ]
    assert shared_depth({"a": 12, "b": None, "c": 10}) == 12
    assert shared_depth({"a": 12, "b": 16}) is None
    assert shared_depth({"a": None}) is None


def test_init_sets_it_and_data_check_names_it(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.chdir(tmp_path)
    rng = np.random.default_rng(0)
    for number in range(14):
        path = Path("parts", "nut", "test" if number < 4 else "train", f"{number}.png")
        path.parent.mkdir(parents=True, exist_ok=True)
        cv2.imwrite(str(path), rng.integers(0, 3000, (64, 64), dtype=np.uint16))
    assert main(["init", "parts", "--cpu"]) == 0
    config = plain(read_config("parts.yaml"))
    assert config["dataset"]["bit_depth"] == 12
    assert "16-bit files hold 12 bits" in Path("parts.yaml").read_text()
    capsys.readouterr()
    assert main(["data", "check", "--configfile", "parts.yaml"]) == 0
    assert "bit_depth" not in capsys.readouterr().out
    assert main(["data", "check", "parts"]) == 0
    printed = capsys.readouterr().out
    assert "2 splits of images use little of their range. They look dark. Set dataset.bit_depth" in printed
    assert "nut/test: the highest value of 4 images is 2999 of 65535; try dataset.bit_depth: 12" in printed
    text = Path("parts.yaml").read_text()
    Path("parts.yaml").write_text(text.replace("bit_depth: 12", "bit_depth: 11"))
    assert main(["data", "check", "--configfile", "parts.yaml"]) == 1
    printed = capsys.readouterr().err
    assert "images have values above white. Set dataset.bit_depth to the number of bits" in printed
    assert "0.png: its highest value is 2999; white is 2047" in printed
