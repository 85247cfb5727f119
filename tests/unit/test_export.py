"""`robis export` and `--runtime onnx`: what users see, and every kind of wrong file refused by name."""

from __future__ import annotations

import json
import shutil
import sys
from pathlib import Path

import numpy as np
import onnx
import pytest

import robis
from benchmarks.inspections import LIBRARY, ONNX, inspections
from robis.cli import main
from robis.detectors.scorers import TileScorer
from robis.errors import ConfigError, DataError
from robis.packs import export
from robis.packs.export import export_pack
from robis.packs.exported import EXPORTED, KEY, read_description
from robis.packs.format import read_manifest
from robis.packs.pack import load_pack
from tests.unit.test_detector_contract import SPLIT, data, own_process  # noqa: F401
from tests.unit.test_packs import Packed, edited, packed  # noqa: F401


@pytest.fixture(scope="module")
def source(packed: Packed, tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, list[Path]]:  # noqa: F811
    """A pack with its exported file, and the images of its split."""
    jobs, folders = packed("dinomaly")
    folder = Path(shutil.copytree(folders["dinomaly"], tmp_path_factory.mktemp("exported") / "pack"))
    export_pack(folder, None, [], threads=1)
    return folder, sorted((jobs.project.root / "nut" / SPLIT).rglob("*.png"))


@pytest.fixture
def exported(source: tuple[Path, list[Path]], tmp_path: Path) -> Path:
    """The pack, which the test may damage."""
    return Path(shutil.copytree(source[0], tmp_path / "pack"))


def test_the_command_writes_the_file_and_says_how_it_compares(
    source: tuple[Path, list[Path]], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    folder, images = source
    out = tmp_path / "out.onnx"
    assert main(["export", str(folder), str(images[0].parent), "--out", str(out), "--threads", "1"]) == 0
    said = capsys.readouterr().out
    assert f"Wrote {out}" in said
    assert f"Masks of {len(images)} of {len(images)} images are equal." in said
    check = read_description(out, read_manifest(folder)).check
    assert (check.images, check.equal_masks, check.differing_pixels, check.generated) == (
        len(images),
        len(images),
        0,
        False,
    )
    assert 0 < check.map_difference < 1e-4
    assert main(["inspect", str(folder), "--runtime", "onnx", "--exported", str(out)]) == 0
    assert "Tile maps of ONNX Runtime differ from the library's by at most" in capsys.readouterr().out
    # Nothing of the machine that wrote it.
    assert str(Path(robis.__file__).parent).encode() not in out.read_bytes()


def test_inspect_runs_the_file_of_the_pack_without_the_encoder_of_the_library(
    source: tuple[Path, list[Path]], monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    folder, images = source
    arguments = ["inspect", str(folder), *map(str, images), "--json", "--device", "cpu"]
    assert main(arguments) in (0, 10)
    expected = [json.loads(line) for line in capsys.readouterr().out.splitlines()]
    monkeypatch.setattr(TileScorer, "raw_maps", lambda *args: pytest.fail("the library computed"))
    main([*arguments, "--runtime", "onnx"])
    lines = [json.loads(line) for line in capsys.readouterr().out.splitlines()]
    for line, wanted in zip(lines, expected, strict=True):
        assert line["is_anomalous"] == wanted["is_anomalous"]
        assert [region["box"] for region in line["regions"]] == [region["box"] for region in wanted["regions"]]


@pytest.mark.parametrize("runtime", [LIBRARY, ONNX])
def test_the_benchmark_of_latency_inspects_with_a_runtime(source: tuple[Path, list[Path]], runtime: str) -> None:
    folder, images = source
    figures = inspections(str(folder), str(images[0].parent), runtime, 3, 1)()
    assert figures["score"] == pytest.approx(load_pack(folder, device="cpu").inspect(images[0]).score, rel=2e-3)
    assert figures["first"] > 0 and figures["next"] > 0 and figures["cpu"] > 0


def test_generated_images_are_compared_where_none_are_given(source: tuple[Path, list[Path]]) -> None:
    folder, _ = source
    check = read_description(folder / EXPORTED, read_manifest(folder)).check
    assert (check.images, check.generated, check.equal_masks) == (2, True, 2)


def test_a_file_of_an_older_pack_and_of_another_pack_is_refused(exported: Path) -> None:
    edited(exported, dataset="bolts")
    with pytest.raises(DataError, match=rf"{EXPORTED}: exported from the pack dinomaly of .*/nut with the digest"):
        load_pack(exported, runtime="onnx")


def changed_file(folder: Path, change: str) -> None:
    path = folder / EXPORTED
    model = onnx.load_model(path)
    described = json.loads(model.metadata_props[0].value)
    if change == "weights":
        tensor = max(model.graph.initializer, key=lambda tensor: len(tensor.raw_data))
        tensor.raw_data = tensor.raw_data[:-1] + bytes([tensor.raw_data[-1] ^ 1])
    elif change == "check":
        described["check"]["differing_pixels"] = 1
        model.metadata_props[0].value = json.dumps(described)
    elif change == "no metadata":
        del model.metadata_props[:]
    elif change == "newer":
        model.metadata_props[0].value = json.dumps({"format": 2, "robis": "9.8.7", "future": True})
    elif change == "a missing key":
        model.metadata_props[0].value = json.dumps({k: v for k, v in described.items() if k != "check"})
    path.write_bytes(b"no model" * 9 if change == "no model" else model.SerializeToString())


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ("weights", "its content is not what `robis export` wrote"),
        ("check", "its content is not what `robis export` wrote"),
        ("no metadata", f"not written by `robis export`: its metadata has no entry '{KEY}'"),
        ("newer", "format 2 was written by robis 9.8.7; this robis .* reads formats up to 1"),
        ("a missing key", "its metadata is damaged"),
        ("no model", "not an ONNX file"),
    ],
)
def test_changed_files_are_refused_by_name(exported: Path, change: str, message: str) -> None:
    changed_file(exported, change)
    with pytest.raises(DataError, match=f"{exported / EXPORTED}: {message}"):
        load_pack(exported, runtime="onnx", device="cpu")


def test_a_missing_file_is_named(exported: Path) -> None:
    (exported / EXPORTED).unlink()
    with pytest.raises(DataError, match=f"{EXPORTED}: does not exist. Export dinomaly of nut with `robis export PACK`"):
        load_pack(exported, runtime="onnx")


def test_maps_that_are_not_those_of_the_library_are_not_written(
    exported: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """An exporter that makes a mistake: a layer's weights are others."""
    before = (exported / EXPORTED).read_bytes()
    model = onnx.load_model_from_string(before)
    tensor = next(tensor for tensor in model.graph.initializer if tensor.dims[1:] == [3, 16, 16])
    tensor.raw_data = (1.01 * onnx.numpy_helper.to_array(tensor)).astype(np.float32).tobytes()
    monkeypatch.setattr(export, "_traced", lambda *args: model)
    with pytest.raises(DataError, match=r"differ from the library's by .* of their maximum; expected at most 1e-03"):
        export_pack(exported, None, [], threads=1)
    assert (exported / EXPORTED).read_bytes() == before


def test_masks_that_differ_are_counted(source: tuple[Path, list[Path]]) -> None:
    """Another scorer whose maps are twice as high."""
    folder, images = source
    pack, other = (load_pack(folder, device="cpu", threads=1) for _ in range(2))
    scorer = pack.scorer
    assert isinstance(scorer, TileScorer)
    other.scorer = TileScorer(lambda *args: 2 * scorer.tile_maps(*args), scorer.input_size, None, scorer.dtype)
    check = export.compared(pack, other.scorer, images)
    masks = [(pack.inspect(image).mask, other.inspect(image).mask) for image in images]
    pixels = [int((a != b).sum()) for a, b in masks]
    assert check.map_difference == pytest.approx(1)
    assert (check.differing_pixels, check.equal_masks) == (sum(pixels), pixels.count(0))
    assert sum(pixels) and f"{sum(pixels)} pixels differ" in check.in_words()


def test_models_that_no_file_can_hold_are_refused(exported: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    model = onnx.load_model(exported / EXPORTED)
    monkeypatch.setattr(export, "_traced", lambda *args: model)
    monkeypatch.setattr(export, "LARGEST", 1000)
    with pytest.raises(DataError, match="vit_tiny_patch16_224 and the model are larger than 2 GB"):
        export_pack(exported, None, [], threads=1)


@pytest.mark.parametrize("package", ["onnx", "onnxruntime"])
def test_an_absent_package_is_named_with_what_to_install(
    exported: Path, package: str, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setitem(sys.modules, package, None)
    assert main(["inspect", str(exported), "image.png", "--runtime", "onnx"]) == 1
    assert f"The package {package} is not installed" in (error := capsys.readouterr().err)
    assert "pip install onnx onnxruntime onnxscript" in error


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"runtime": "onyx"}, "runtime: 'onyx' is unknown. Valid: torch, onnx. Did you mean 'onnx'?"),
        ({"exported": "x.onnx"}, "--exported: has no effect without --runtime onnx"),
        ({"runtime": "onnx", "encoder_weights": "x.pth"}, "--encoder-weights: has no effect with --runtime onnx"),
        (
            {"runtime": "onnx", "device": "mps"},
            "--device: found 'mps' with --runtime onnx; expected auto, cpu, or cuda",
        ),
    ],
)
def test_options_that_do_not_fit_are_refused(source: tuple[Path, list[Path]], options: dict, message: str) -> None:
    with pytest.raises(ConfigError, match=message.replace("?", r"\?")):
        load_pack(source[0], **options)
