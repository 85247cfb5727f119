"""What `import robis` offers to programs: every name, and the whole way from tiles to metrics on arrays."""

from __future__ import annotations

import ast
import inspect
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import cv2
import numpy as np
import pytest
from sklearn.metrics import average_precision_score, f1_score, roc_auc_score

import robis
from robis.binarization.stage import SplitMaps, binarize_split
from robis.errors import ConfigError, DataError
from robis.io.maps import read_written_mask
from robis.io.samples import IndexedSample, write_samples
from tests.conftest import REPOSITORY


def test_every_public_name_is_there_and_documented() -> None:
    tree = ast.parse(Path(robis.__file__).read_text())
    typed = {name.name for node in ast.walk(tree) if isinstance(node, ast.ImportFrom) and node.col_offset == 4
             for name in node.names}  # fmt: skip
    assert typed == {*robis.__all__} - {"__version__"}, "what type checkers see is what there is"
    page = (REPOSITORY / "docs" / "api.md").read_text()
    for name in robis.__all__:
        assert name == "__version__" or f"`{name}`" in page
        value = getattr(robis, name)
        assert name == "__version__" or (inspect.getdoc(value) and value.__name__ == name)
    with pytest.raises(AttributeError, match="no attribute 'read_imgae'"):
        robis.read_imgae  # noqa: B018


def test_images_and_masks_need_no_torch() -> None:
    code = "import robis, sys; robis.read_image; robis.Cutting; robis.binarize; robis.pixel_metrics; robis.merge_tiles"
    code += "; print(sorted({'torch', 'timm', 'snakemake'} & set(sys.modules)))"
    assert subprocess.run([sys.executable, "-c", code], capture_output=True, text=True).stdout == "[]\n"


def test_tiles_that_are_cut_and_merged_are_the_image(rng: np.random.Generator) -> None:
    image = cv2.GaussianBlur(rng.integers(0, 255, (70, 100, 3), dtype=np.uint8), (0, 0), 3)
    cutting = robis.Cutting(window=40, overlap=0.25, edge="shift", size=40)
    windows = cutting.windows(70, 100)
    tiles = [cutting.tile(image, window)[..., 1].astype(np.float32) for window in windows]
    places = [(window.x, window.y, window.width, window.height) for window in windows]
    merged = robis.merge_tiles(tiles, places, 70, 100, scale=1.0, blend="feather")
    np.testing.assert_allclose(merged, image[..., 1], atol=1e-4)


def some_maps(rng: np.random.Generator, count: int = 4) -> tuple[list[np.ndarray], list[np.ndarray]]:
    maps, truths = [], []
    for number in range(count):
        values = cv2.GaussianBlur(rng.random((60, 80)).astype(np.float32), (0, 0), 4) * 60
        truth = np.zeros((60, 80), bool)
        if number % 2:
            truth[20:34, 10 * number : 10 * number + 16] = True
            values[truth] += 90
        maps.append(values)
        truths.append(truth)
    return maps, truths


@pytest.mark.parametrize("method", ["robis", "mebin", "mean_std", "percentile", "lines"])
def test_arrays_are_binarized_as_the_stage_does_it(tmp_path: Path, rng: np.random.Generator, method: str) -> None:
    maps, _ = some_maps(rng)
    samples = [IndexedSample(str(n), "test", "", None, None, None, 60, 80) for n in range(len(maps))]
    write_samples(tmp_path / "samples.parquet", samples)
    for number, values in enumerate(maps):
        robis.write_map(tmp_path / "maps" / f"{number}.tiff", values)
    split = SplitMaps(tmp_path / "samples.parquet", tmp_path / "maps")
    options = robis.Thresholding(method)
    binarize_split(split, split, tmp_path / "masks", tmp_path / "thresholds.parquet", options)
    for number, coarse in enumerate(robis.binarize(maps, options)):
        mask = read_written_mask(tmp_path / "masks" / f"{number}.png", stage="binarize")
        np.testing.assert_array_equal(coarse.mask > 0, mask)
        assert mask.any() == bool(number % 2)


def test_thresholds_come_from_reference_maps(rng: np.random.Generator) -> None:
    maps, _ = some_maps(rng)
    options = robis.Thresholding("mean_std", erosion_size=1)
    normal = np.float16(np.stack(maps[::2])).astype(np.float64)
    (coarse,) = robis.binarize(maps[1:2], options, reference=maps[::2])
    assert coarse.threshold == pytest.approx(normal.mean() + 3 * normal.std(), rel=1e-5)
    np.testing.assert_array_equal(coarse.mask > 0, np.float16(maps[1]) > coarse.threshold)


def test_metrics_of_arrays_are_those_of_scikit_learn(rng: np.random.Generator) -> None:
    maps, truths = some_maps(rng)
    masks = [values > 80 for values in maps]
    measured = robis.pixel_metrics(maps, truths, masks)
    scores, labels = np.float16(np.stack(maps)).ravel(), np.stack(truths).ravel()
    assert measured["pixel_auroc"] == pytest.approx(roc_auc_score(labels, scores), abs=1e-12)
    assert measured["pixel_ap"] == pytest.approx(average_precision_score(labels, scores), abs=1e-12)
    assert measured["seg_f1"] == pytest.approx(f1_score(labels, np.stack(masks).ravel()), abs=1e-12)
    assert "seg_f1" not in robis.pixel_metrics(maps, truths)
    assert robis.pixel_metrics(maps[::2], truths[::2])["pixel_auroc"] is None, "no defects"


def test_arrays_that_cannot_be_used_are_named(rng: np.random.Generator) -> None:
    maps, truths = some_maps(rng)
    with pytest.raises(DataError, match="found 4 maps, 3 truths and 4 masks"):
        robis.pixel_metrics(maps, truths[1:])
    for wrong in (np.full((60, 80), np.nan), maps[1] - 100, np.zeros((2, 60, 80))):
        with pytest.raises(DataError, match=r"maps\[1\]: found shape"):
            robis.pixel_metrics([maps[0], wrong], truths[:2])
    with pytest.raises(DataError, match=r"maps\[1\]"):
        robis.binarize([maps[0], maps[1] - 100], robis.Thresholding("mebin"))
    with pytest.raises(DataError, match=r"maps\[0\]: found shape \(4, 60, 80\); expected a map"):
        robis.binarize([np.stack(maps)], robis.Thresholding("mebin"))
    with pytest.raises(DataError, match="No anomaly maps"):
        robis.binarize([], robis.Thresholding("mebin"))


ONE = ([np.ones((4, 4))], [(0, 0, 8, 8)])
TILES = {"edge": "pad", "window": 10, "overlap": 0.1, "size": 8}
UNUSABLE: dict[str, tuple[Callable[[Path], object], str]] = {
    "blend": (
        lambda _: robis.merge_tiles(*ONE, 8, 8, scale=0.5, blend="feathr"),
        "merge.blend: 'feathr' is unknown. Valid: mean, feather, central. Did you mean 'feather'?",
    ),
    "edge": (lambda _: robis.Cutting(**TILES | {"edge": "pda"}), "tiling.edge: 'pda' is unknown. Valid: pad, shift."),
    "resample": (lambda _: robis.Cutting(**TILES, resample="cubic"), "tiling.resample: 'cubic' is unknown. Valid: bi"),
    "window": (lambda _: robis.Cutting(**TILES | {"window": 0}), "tiling.window: found 0; expected pixels, at least 1"),
    "whole": (lambda _: robis.Cutting(**TILES | {"window": "imge"}), "tiling.window: found 'imge'; expected pixels"),
    "overlap": (lambda _: robis.Cutting(**TILES | {"overlap": 1.0}), "tiling.overlap: found 1.0; expected a fraction"),
    "no_tiles": (lambda _: robis.merge_tiles([], [], 8, 8, scale=0.5), "windows: none of them lies in the image"),
    "outside": (lambda _: robis.merge_tiles(ONE[0], [(20, 0, 8, 8)], 8, 8, scale=0.5), "windows: none of them lies"),
    "too_few": (lambda _: robis.merge_tiles([], ONE[1], 8, 8, scale=0.5), "0 maps of 1 windows; expected one each"),
    "colors": (
        lambda _: robis.merge_tiles([np.ones((4, 4, 3))], ONE[1], 8, 8, scale=0.5),
        "maps[0]: found shape (4, 4, 3); expected a map (m, m)",
    ),
    "map": (lambda file: robis.write_map(file, np.ones((4, 5, 1))), "found shape (4, 5, 1); expected a map (H, W)"),
    "list": (lambda file: robis.write_map(file, [[0, np.nan]]), "nan at row 0, column 1; expected finite numbers"),
    "mask": (lambda file: robis.write_mask(file, np.ones((4, 5, 3), bool)), "found shape (4, 5, 3); expected a mask"),
    "no_mask": (lambda file: robis.write_mask(file, np.ones((0, 5), bool)), "found shape (0, 5); expected a mask"),
    "truth": (
        lambda _: robis.pixel_metrics([np.ones((4, 5))], [np.ones((4, 5, 3), bool)]),
        "truths[0]: found shape (4, 5, 3); expected a mask (h, w)",
    ),
    "final": (
        lambda _: robis.pixel_metrics([np.ones((4, 5))], [np.ones((4, 5), bool)], [np.ones((0, 0), bool)]),
        "masks[0]: found shape (0, 0); expected a mask (h, w)",
    ),
    "gray": (
        lambda _: robis.Refining("grabcut").build()(np.zeros((5, 5), np.uint8), np.ones((5, 5), bool)),
        "image: found shape (5, 5); expected (5, 5, 3)",
    ),
}


@pytest.mark.parametrize("name", list(UNUSABLE))
def test_what_cannot_be_used_is_named_and_nothing_is_written(tmp_path: Path, name: str) -> None:
    call, message = UNUSABLE[name]
    with pytest.raises((ConfigError, DataError)) as caught:
        call(tmp_path / "file")
    assert message in str(caught.value)
    assert not (tmp_path / "file").exists()
