"""Packs: every detector's masks are the workflow's, and every kind of bad pack or image is refused by name."""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import pytest
import torch
import torch.nn.functional as F
from safetensors.torch import load_file, save_file

from robis.binarization.stage import SplitMaps
from robis.detectors.musc import alone
from robis.detectors.musc.alone import ReferenceScorer
from robis.detectors.registry import DETECTORS
from robis.detectors.scorers import ImageTiles
from robis.detectors.settings import parse
from robis.encoders import cnn
from robis.errors import ConfigError, DataError, WeightsError
from robis.io.images import read_image
from robis.io.maps import read_map, read_written_mask
from robis.io.samples import read_samples
from robis.io.tables import read_table
from robis.packs.command import about
from robis.packs.export import export_pack
from robis.packs.exported import EXPORTED, OnnxScorer
from robis.packs.format import MANIFEST, read_manifest, write_manifest
from robis.packs.inspection import regions_of
from robis.packs.pack import Pack, load_pack
from robis.packs.write import RunFiles, compared
from robis.workflow import results
from robis.workflow.packs import check_pack
from robis.workflow.project import Project
from robis.workflow.summary import promises_of
from tests.script_jobs import ScriptJobs
from tests.unit.test_detector_contract import SCALE, SPLIT, TILE, data, make_config, own_process  # noqa: F401
from tests.unit.test_musc import published_scores

# Options with which the images of a split are inspected as in the workflow.
SAME: dict[str, dict[str, Any]] = {"musc": {"subsets": 1, "reference_images": 5}, "rescore": {"method": "none"}}
# What compares images is not a function of a tile.
TILE_BY_TILE = [name for name, detector in DETECTORS.items() if not detector.compares_tiles]
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
    "promised rate": (
        "subspace",
        {"binarize": {"method": "rate", "rate": 0.5, "confidence": 0.5, "calibrate": "auto", "erosion_size": 2}},
    ),
    "CNN": (
        "subspace",
        {"encoder": {"name": "efficientnet_lite0", "blocks": [2, 3]}, "subspace": {"shots": 0}},
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
    frozen = {"merge": {"normalize": "validation"}, "binarize": {"calibrate": "validation"}}
    for section, values in (frozen | SAME).items():
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


@pytest.mark.parametrize("name", DETECTORS)
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


def test_the_memory_for_features_changes_no_byte(packed: Packed, monkeypatch: pytest.MonkeyPatch) -> None:
    """Reference images one at a time instead of all at once."""
    jobs, folders = packed("musc")
    monkeypatch.setattr(alone, "POOLED_AT_ONCE", 1)
    compare_with_workflow(jobs, "musc", load_pack(folders["musc"], device="cpu", threads=2))


def test_images_are_compared_with_references_as_if_they_joined_them(packed: Packed) -> None:
    """The published formulation on the reference images and the new one; the pack says by how much it differs."""
    jobs, folders = packed("musc", musc={"subsets": 1, "reference_images": 3})
    folder = folders["musc"]
    pack = load_pack(folder, device="cpu", threads=2)
    scorer = pack.scorer
    assert isinstance(scorer, ReferenceScorer)
    tiles = np.load(jobs.tiles("musc", SPLIT)["tiles"][0]).reshape(5, 2, TILE, TILE, 3)
    chosen = [number for number, image in enumerate(tiles) if scorer.reference.number_of(image) is not None]
    assert len(chosen) == 3
    settings = pack.manifest.settings.scorer
    for number, image in enumerate(tiles):
        joined = np.concatenate([tiles[chosen], image[None]]) if number not in chosen else tiles[chosen]
        place = len(joined) - 1 if number not in chosen else chosen.index(number)
        with torch.inference_mode():
            layers, _ = scorer.encoder.with_embedding(torch.from_numpy(joined.reshape(-1, TILE, TILE, 3)))
        images = np.repeat(np.arange(len(joined)), 2).tolist()
        scores = published_scores(torch.stack(layers), images, [1, 3, 5])[2 * place : 2 * place + 2]
        maps = F.interpolate(scores.view(2, 1, scorer.grid, -1), size=(TILE, TILE), mode="bilinear", align_corners=True)
        raw = scorer.raw_maps(ImageTiles(image, "x"), pack.compute, settings.size)
        assert raw.scores is not None
        np.testing.assert_allclose(raw.scores, maps.amax((1, 2, 3)), atol=1e-5)
        halved = F.interpolate(maps, scale_factor=SCALE, mode="bilinear")[:, 0]
        np.testing.assert_allclose(raw.maps, halved, rtol=1e-3, atol=1e-5)
    table = read_table(jobs.place(results.IMAGE_SCORES, "musc", SPLIT)).set_index("sample_id")["score"]
    samples = read_samples(jobs.place(results.SAMPLES, split=SPLIT))
    differences = [
        abs(pack.inspect(jobs.project.root / sample.image).score - table[sample.sample_id]) for sample in samples
    ]
    check = pack.manifest.check
    assert check and check.score_difference == max(differences) > 0
    assert check.in_words("test").endswith(f" Scores differ by at most {max(differences):.2g}.")


@pytest.mark.parametrize("case", ["whole images, empty masks", "musc"])
def test_a_pack_ignores_what_the_run_ignores(
    case: str,
    data: Path,  # noqa: F811
    tmp_path: Path,
    packed: Packed,
) -> None:
    """Also where GrabCut could grow into it; the image's content there changes nothing."""
    mask = np.zeros((64, 96), np.uint8)
    mask[:40, 30:60] = 1
    cv2.imwrite(str(tmp_path / "nut.png"), mask)
    name, changes = WAYS.get(case, (case, {}))
    options = {"dataset": {"ignore": str(tmp_path / "{category}.png")}}
    if name == "subspace":
        options[name] = {"shots": 0}
    jobs, folders = packed(name, **changes, **options)
    for run, folder in folders.items():
        pack = load_pack(folder, device="cpu", threads=2)
        compare_with_workflow(jobs, run, pack)
        assert (cv2.imread(str(folder / "ignore.png"), cv2.IMREAD_GRAYSCALE) > 0).tolist() == (mask > 0).tolist()
    images = [jobs.project.root / sample.image for sample in read_samples(jobs.place(results.SAMPLES, split=SPLIT))]
    if name in TILE_BY_TILE:
        _, check = export_pack(folder, tmp_path / "pack.onnx", images, threads=1)
        assert (check.images, check.equal_masks) == (5, 5)
    image = read_image(images[0])
    first = pack.inspect(image)
    image[mask > 0] = np.random.default_rng(0).integers(0, 256, (1200, 3))
    second = pack.inspect(image)
    assert (first.score, first.map.tobytes(), first.mask.tobytes()) == (
        second.score,
        second.map.tobytes(),
        second.mask.tobytes(),
    )
    assert not second.map[:20, 15:30].any() and second.map.any()
    with pytest.raises(
        DataError, match="image: 96 x 60 pixels; expected 96 x 64, the size of the pack's mask of ignored"
    ):
        pack.inspect(image[:60])
    (folder / "ignore.png").write_bytes(b"other")
    with pytest.raises(DataError, match=r"ignore.png: its content is not what the pack was written with"):
        load_pack(folder, device="cpu")


# Dinomaly: test_export. The case CNN is of SubspaceAD.
@pytest.mark.parametrize("case", [*(name for name in TILE_BY_TILE if name not in ("dinomaly", "subspace")), "CNN"])
def test_every_detector_has_its_maps_and_masks_in_onnx_runtime(case: str, packed: Packed, tmp_path: Path) -> None:
    name, changes = WAYS.get(case, (case, {}))
    jobs, folders = packed(name, **changes)
    # Of few-shot runs the one with references.
    folder = list(folders.values())[-1]
    images = sorted((jobs.project.root / "nut" / SPLIT).rglob("*.png"))
    file, check = export_pack(folder, tmp_path / "x.onnx", images[:2], threads=1)
    assert (check.images, check.equal_masks, check.differing_pixels, check.generated) == (2, 2, 0, False)
    assert 0 <= check.map_difference < 1e-4
    library = load_pack(folder, device="cpu", threads=1)
    pack = load_pack(folder, device="cpu", threads=2, runtime="onnx", exported=file)
    for image in images:
        expected, result = library.inspect(image), pack.inspect(image)
        np.testing.assert_array_equal(result.mask, expected.mask)
        # Rounding to float16 enlarges a difference to 1 / 1024.
        assert result.score == pytest.approx(expected.score, rel=2e-3)
        assert_the_same_in_onnx(library, pack, read_image(image))


@pytest.mark.parametrize(
    ("case", "reason"),
    [
        ("joined", "superadd cannot be exported. tiling.window: found 'joined'"),
        ("musc", "musc cannot be exported. A pack of this detector compares an image with reference images"),
    ],
)
def test_what_is_no_function_of_a_tile_is_not_exported(case: str, reason: str, packed: Packed) -> None:
    name, changes = WAYS.get(case, (case, {}))
    (folder,) = packed(name, **changes)[1].values()
    with pytest.raises(DataError, match=reason):
        export_pack(folder, None, [])
    assert not (folder / EXPORTED).exists()


def assert_the_same_in_onnx(library: Pack, pack: Pack, image: np.ndarray) -> None:
    """The maps of the last tile, before they are rounded, and its score differ by at most 1e-4 of their maximum."""
    settings = library.manifest.settings
    tile = settings.crop.tile(image, settings.crop.windows(*image.shape[:2])[-1])[None].copy()
    with torch.inference_mode():
        outputs = library.scorer.tile_function(settings.scorer.size)(torch.from_numpy(tile))
    assert isinstance(pack.scorer, OnnxScorer)
    for values, expected in zip(pack.scorer.session.run(None, {"tile": tile}), outputs, strict=True):
        np.testing.assert_allclose(values, expected.numpy(), rtol=0, atol=1e-4 * float(expected.abs().max()))


def test_packs_and_metrics_name_the_promise(packed: Packed) -> None:
    name, changes = WAYS["promised rate"]
    jobs, folders = packed(name, **changes)
    folder = next(iter(folders.values()))
    # P(Bin(3, 1/2) <= 1) = 1/2: the second of three.
    words = (
        "at most 50 % of good images get a mask, with 50 % confidence (3 held-out good images, 1 of them with a mask)"
    )
    assert f"promise: {words}" in about(read_manifest(folder)).splitlines()
    runs = ", ".join(f"{run} nut/{SPLIT}" for run in sorted(folders))
    assert promises_of(jobs.project.results) == [f"Promise for {runs}: {words}."]


def test_the_places_of_a_cnns_stages_are_not_measured_again(packed: Packed, monkeypatch: pytest.MonkeyPatch) -> None:
    name, changes = WAYS["CNN"]
    (folder,) = packed(name, **changes)[1].values()
    monkeypatch.setattr(cnn, "measure_stages", lambda *args: pytest.fail("measured again"))
    assert load_pack(folder, device="cpu").manifest.settings.scorer.encoder["geometry"]


def test_a_model_that_the_config_gives_is_packed_as_safetensors(
    packed: Packed,
    data: Path,  # noqa: F811
    tmp_path: Path,
) -> None:
    trained = load_file(packed("inp_former")[1]["inp_former"] / "model.safetensors")
    torch.save({"state_dict": trained}, tmp_path / "given.pth")
    config = pack_config("inp_former", data, inp_former={"weights": str(tmp_path / "given.pth")})
    jobs = ScriptJobs(config, tmp_path / "results")
    folder = jobs.pack("inp_former")
    compare_with_workflow(jobs, "inp_former", load_pack(folder, device="cpu", threads=2))
    assert sorted(file.name for file in folder.iterdir()) == ["model.safetensors", MANIFEST]


@pytest.fixture
def folder(packed: Packed, tmp_path: Path, request: pytest.FixtureRequest) -> Path:
    """A pack that the test may damage: links would damage the run's model too."""
    (source,) = packed(getattr(request, "param", "dinomaly"))[1].values()
    return Path(shutil.copytree(source, tmp_path / "pack"))


def edited(folder: Path, **changes: Any) -> Path:
    """The pack with other values of its manifest, and the digest that fits them."""
    write_manifest(folder, read_manifest(folder).model_copy(update=changes))
    return folder


def test_arrays_and_files_give_the_same_result(packed: Packed) -> None:
    jobs, folders = packed("dinomaly")
    pack = load_pack(*folders.values(), device="cpu")
    for file in sorted((jobs.project.root / "nut" / SPLIT).rglob("*.png"))[:2]:
        expected, result = pack.inspect(file), pack.inspect(read_image(file))
        assert result.map.tobytes() == expected.map.tobytes()
        assert result.regions == expected.regions
        assert {"read", "cut", "infer", "merge", "score", "mask"} == set(result.milliseconds)
    gray = np.full((64, 96), 90, np.uint8)
    assert pack.inspect(gray).map.tobytes() == pack.inspect(np.dstack([gray] * 3)).map.tobytes()


@pytest.mark.parametrize("name", ["winclip", "musc"])
def test_threads_that_inspect_at_the_same_time_get_the_same_maps(name: str, packed: Packed) -> None:
    jobs, folders = packed(name)
    pack = load_pack(list(folders.values())[-1], device="cpu", threads=2)
    files = sorted((jobs.project.root / "nut" / SPLIT).rglob("*.png"))
    expected = [pack.inspect(file).map.tobytes() for file in files]
    with ThreadPoolExecutor(4) as pool:
        results_of_pool = list(pool.map(pack.inspect, files * 3))
    assert [result.map.tobytes() for result in results_of_pool] == expected * 3


@pytest.mark.parametrize(
    ("array", "found"),
    [
        (np.zeros((64, 96, 3), np.float32), "float32 and shape (64, 96, 3)"),
        (np.zeros((64, 96, 4), np.uint8), "uint8 and shape (64, 96, 4)"),
        (np.zeros((64, 96), np.uint16), "uint16 and shape (64, 96)"),
        (np.zeros((0, 96), np.uint8), "uint8 and shape (0, 96)"),
    ],
)
def test_arrays_of_another_kind_are_refused(packed: Packed, array: np.ndarray, found: str) -> None:
    pack = load_pack(*packed("dinomaly")[1].values(), device="cpu")
    with pytest.raises(DataError, match="expected uint8") as refused:
        pack.inspect(array)
    assert found in str(refused.value)


def test_images_of_a_very_different_size_are_refused_unless_allowed(packed: Packed) -> None:
    pack = load_pack(*packed("dinomaly")[1].values(), device="cpu")
    large = np.full((64, 200, 3), 90, np.uint8)
    with pytest.raises(DataError, match="200 x 64 pixels; the width is far from the 96 to 96 pixels"):
        pack.inspect(large)
    assert pack.inspect(large, any_size=True).mask.shape == (32, 100)


def test_regions_are_in_pixels_of_the_image() -> None:
    mask = np.zeros((10, 20), bool)
    mask[2:4, 5:9] = True
    mask[4, 9] = True  # touches the corner
    mask[8, 0] = True
    anomaly_map = np.zeros((10, 20), np.float16)
    anomaly_map[3, 6], anomaly_map[8, 0], anomaly_map[0, 0] = 7, 3, 99
    large, small = regions_of(mask, anomaly_map, (40, 40))
    assert (large.box, large.area, large.peak) == ((10, 8, 10, 12), 9 * 4 * 2, 7.0)
    # Pixel centers: x of 4 columns twice and of one pixel, y of 2 rows and of one pixel.
    x, y = (2 * (5.5 + 6.5 + 7.5 + 8.5) + 9.5) / 9, (4 * 2.5 + 4 * 3.5 + 4.5) / 9
    assert large.centroid == pytest.approx((2 * x, 4 * y))
    assert (small.box, small.area, small.peak) == ((0, 32, 2, 4), 8, 3.0)


with_a_model_or_images = pytest.mark.parametrize("folder", ["dinomaly", "musc"], indirect=True)


@with_a_model_or_images
def test_a_tampered_model_is_refused(folder: Path) -> None:
    (model,) = folder.glob("*.safetensors")
    state = load_file(model)
    name, values = next(iter(state.items()))
    save_file(state | {name: values + 1}, model)
    with pytest.raises(DataError, match=f"{model}: its content is not what the pack was written with"):
        load_pack(folder)


def test_a_tampered_manifest_is_refused(folder: Path) -> None:
    path = folder / MANIFEST
    values = json.loads(path.read_text())
    values["limit"]["value"] += 1
    path.write_text(json.dumps(values))
    with pytest.raises(DataError, match=f"{path}: its content is not what the pack was written with"):
        load_pack(folder)


@pytest.mark.parametrize("key", ["settings.binarize", "settings.crop.window", "scaling.factor", "inputs", "robis"])
def test_a_missing_key_is_named(folder: Path, key: str) -> None:
    path = folder / MANIFEST
    values = json.loads(path.read_text())
    *parents, name = key.split(".")
    part = values
    for parent in parents:
        part = part[parent]
    del part[name]
    path.write_text(json.dumps(values))
    with pytest.raises(DataError) as refused:
        load_pack(folder)
    assert str(path) in str(refused.value) and f"{key}: the key is missing" in str(refused.value)


@with_a_model_or_images
def test_a_missing_file_and_no_pack_are_named(folder: Path, tmp_path: Path) -> None:
    (model,) = folder.glob("*.safetensors")
    model.unlink()
    with pytest.raises(DataError, match=f"{model.name}: does not exist, though"):
        load_pack(folder)
    with pytest.raises(DataError, match=r"nothing/pack.json: does not exist. Expected the folder of a pack"):
        load_pack(tmp_path / "nothing")


def test_a_newer_format_is_refused_whatever_else_it_says(folder: Path) -> None:
    path = folder / MANIFEST
    path.write_text(json.dumps({"format": 2, "robis": "9.8.7", "future": True}))
    with pytest.raises(DataError, match=r"format 2 was written by robis 9.8.7; this robis .* reads formats up to 1"):
        load_pack(folder)


@with_a_model_or_images
def test_other_weights_of_the_encoder_are_refused(folder: Path, tmp_path: Path) -> None:
    scorer = read_manifest(folder).settings.scorer
    other = scorer.model_copy(update={"options": scorer.options | {"seed": 1}})
    settings = read_manifest(folder).settings.model_copy(update={"scorer": other})
    with pytest.raises(WeightsError, match="the encoder vit_tiny_patch16_224 has other weights here"):
        load_pack(edited(folder, settings=settings))


def test_weights_of_the_encoder_that_lie_elsewhere_are_asked_for(folder: Path, tmp_path: Path) -> None:
    manifest = read_manifest(folder)
    encoder = manifest.settings.scorer.encoder
    built = load_pack(folder, device="cpu").scorer.encoder
    assert built is not None
    weights = tmp_path / "vit.safetensors"
    save_file({name.removeprefix("vit."): values for name, values in built.state_dict().items()}, weights)
    scorer = manifest.settings.scorer.model_copy(update={"encoder": encoder | {"weights": "gone/vit.safetensors"}})
    edited(folder, settings=manifest.settings.model_copy(update={"scorer": scorer}))
    with pytest.raises(WeightsError, match=r"are not at gone/vit.safetensors. Give their file with --encoder-weights"):
        load_pack(folder, device="cpu")
    assert load_pack(folder, device="cpu", encoder_weights=weights).manifest.detector == "dinomaly"


def test_an_unknown_detector_is_refused(folder: Path) -> None:
    with pytest.raises(DataError, match=r"'dynomaly' is unknown. .* Did you mean 'dinomaly'?"):
        load_pack(edited(folder, detector="dynomaly"))


@pytest.mark.parametrize(
    ("changes", "keys"),
    [
        ({"merge": {"normalize": "split"}}, None),
        ({"binarize": {"calibrate": "split"}}, "binarize.calibrate"),
        ({"merge": {"normalize": "none"}, "binarize": {"calibrate": "split"}}, "binarize.calibrate"),
        (
            {"merge": {"normalize": "split"}, "binarize": {"calibrate": "split"}},
            "merge.normalize and binarize.calibrate",
        ),
    ],
)
def test_keys_that_need_a_split_are_named(data: Path, changes: dict, keys: str | None) -> None:  # noqa: F811
    project = Project(parse(pack_config("inp_former", data, **changes)), data)
    if keys is None:
        # Thresholds of validation maps bring the maps to their scale.
        check_pack(project, "inp_former", "nut")
        return
    with pytest.raises(ConfigError, match=f"^{keys}: found 'split' .* Set {keys} to validation"):
        check_pack(project, "inp_former", "nut")


def test_rescored_runs_are_refused(data: Path) -> None:  # noqa: F811
    rescored = pack_config("winclip", data, rescore={"method": "rscin"})
    with pytest.raises(ConfigError, match=r"^rescore.method: found 'rscin' for winclip_0shot/nut"):
        check_pack(Project(parse(rescored), data), "winclip_0shot", "nut")


def test_a_check_that_fails_says_by_how_much(packed: Packed, tmp_path: Path) -> None:
    """A pack compared with masks of other settings."""
    jobs, folders = packed("dinomaly")
    ((run, folder),) = folders.items()
    manifest = read_manifest(folder)
    masks, maps, scores = (
        jobs.place(of, run, SPLIT) for of in (results.MASKS, results.ANOMALY_MAPS, results.IMAGE_SCORES)
    )
    changed = Path(shutil.copytree(masks, tmp_path / "masks"))
    samples = read_samples(jobs.place(results.SAMPLES, split=SPLIT))
    path = changed / f"{samples[0].sample_id}.png"
    mask = cv2.imread(str(path), cv2.IMREAD_UNCHANGED)
    mask[:1, :7] = 255 - mask[:1, :7]
    cv2.imwrite(str(path), mask)
    split = SplitMaps(jobs.place(results.SAMPLES, split=SPLIT), maps)
    files = RunFiles({}, None, split, split, changed, scores, None, None)
    check = compared(load_pack(folder, device="cpu"), files, jobs.project.root, samples)
    assert (check.equal_masks, check.differing_pixels, check.equal_maps) == (4, 7, 5)
    assert check.in_words("test") == "Masks of 4 of 5 images of test equal the workflow's, 7 pixels differ."
    assert manifest.check and manifest.check.in_words("test") == "Masks of 5 of 5 images of test equal the workflow's."
