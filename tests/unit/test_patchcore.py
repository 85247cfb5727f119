"""PatchCore: patches, coreset and maps written out plainly, with NumPy, SciPy, scikit-learn and OpenCV."""

from __future__ import annotations

import math
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import pandas as pd
import pytest
import timm
import torch
from safetensors.torch import load_file
from scipy import ndimage
from sklearn.neighbors import NearestNeighbors
from torch import Tensor

from robis.detectors.patchcore.coreset import k_center, projection
from robis.detectors.patchcore.infer import infer_split
from robis.detectors.patchcore.patches import patch_features
from robis.detectors.patchcore.train import train_category
from robis.detectors.settings import load, parse
from robis.detectors.smoothing import gaussian_filter
from robis.encoders.build import build_encoder
from robis.encoders.encoder import Encoder
from robis.encoders.names import default_stages
from robis.errors import DataError
from tests import detector_jobs
from tests.conftest import REPOSITORY

ENCODER: dict[str, Any] = {"name": "resnet18", "weights": "random", "input_size": 48}
train, infer = detector_jobs.training(train_category), detector_jobs.inferring(infer_split)


def averaged_down(values: np.ndarray, count: int) -> np.ndarray:
    """Means of so many ranges of the last axis, as torch documents adaptive pooling."""
    length = values.shape[-1]
    ranges = [(n * length // count, math.ceil((n + 1) * length / count)) for n in range(count)]
    return np.stack([values[..., first:last].mean(-1) for first, last in ranges], -1)


def published_patches(maps: list[np.ndarray]) -> np.ndarray:
    """Patches (h * w, 1024) of one tile in the order of the public code: cut, interpolate, average twice."""
    height, width = maps[0].shape[1:]
    layers = []
    for values in maps:
        padded = np.pad(values, ((0, 0), (1, 1), (1, 1)))
        rows, columns = values.shape[1:]
        shifted = [padded[:, y : y + rows, x : x + columns] for y in range(3) for x in range(3)]
        cut = np.stack(shifted, 1).reshape(-1, rows, columns)
        large = np.stack([cv2.resize(one, (width, height), interpolation=cv2.INTER_LINEAR) for one in cut])
        layers.append(averaged_down(large.reshape(len(cut), -1).T, 1024))
    return averaged_down(np.concatenate(layers, 1), 1024)


def published_maps(encoder: Encoder, tiles: Tensor) -> list[list[np.ndarray]]:
    """Maps of the layers 2 and 3 for each tile, from another model of timm with the same weights."""
    model = timm.create_model("resnet18", features_only=True, out_indices=(2, 3)).eval()
    weights = encoder.cnn.state_dict()
    model.load_state_dict({name: weights[name] for name in model.state_dict()})
    mean, std = (torch.tensor(values) for values in ((0.485, 0.456, 0.406), (0.229, 0.224, 0.225)))
    with torch.no_grad():
        maps = model(((tiles / 255 - mean) / std).permute(0, 3, 1, 2))
    return [[layer[number].numpy() for layer in maps] for number in range(len(tiles))]


# Of 72 pixels the coarse layer has 5 places for 9 of the fine one.
@pytest.mark.parametrize("size", [48, 72])
def test_patches_are_the_published_ones(size: int) -> None:
    encoder = build_encoder(**ENCODER | {"input_size": size})
    tiles = torch.randint(0, 256, (2, size, size, 3), dtype=torch.uint8, generator=torch.Generator().manual_seed(0))
    features = patch_features(encoder)
    (patches,) = features.tokens(tiles)
    assert (features.grid, features.widths) == (size // 8, [1024])
    assert patches.shape == (2, (size // 8) ** 2, 1024)
    for found, maps in zip(patches, published_maps(encoder, tiles), strict=True):
        assert [values.shape[1] for values in maps] == [size // 8, math.ceil(size / 16)]
        np.testing.assert_allclose(found, published_patches(maps), rtol=1e-4, atol=1e-5)


def test_any_encoder_has_patches() -> None:
    encoder = build_encoder("vit_tiny_patch16_224", weights="random", input_size=48, blocks=[1, 3])
    tiles = torch.randint(0, 256, (1, 48, 48, 3), dtype=torch.uint8, generator=torch.Generator().manual_seed(0))
    maps = [tokens[0].T.reshape(192, 3, 3).numpy() for tokens in encoder(tiles)]
    np.testing.assert_allclose(patch_features(encoder).tokens(tiles)[0][0], published_patches(maps), atol=1e-5)


def plain_choice(points: np.ndarray, target: int, starts: list[int]) -> list[int]:
    """The rule in sentences, in float64."""
    nearest = [float(np.mean([np.linalg.norm(point - points[start]) for start in starts])) for point in points]
    chosen: list[int] = []
    while len(chosen) < target:
        left = [number for number in range(len(points)) if number not in chosen]
        farthest = max(left, key=lambda number: (nearest[number], -number))
        chosen.append(farthest)
        nearest = [
            min(before, float(np.linalg.norm(point - points[farthest])))
            for before, point in zip(nearest, points, strict=True)
        ]
    return chosen


def test_a_choice_by_hand() -> None:
    """On a line: 11 is farthest from the start 0; then 2 (2 from the start, not 9); then 1 and 10 are 1 away."""
    points = torch.tensor([[0.0], [1.0], [2.0], [10.0], [11.0]])
    assert k_center(points, 5, np.array([0])).tolist() == [4, 2, 1, 3, 0]
    # The mean distance to 0 and 11 is 5.5 everywhere: the first of equals is 0, and of the rest 10 and 11 stay at 5.5.
    assert k_center(points, 3, np.array([0, 4])).tolist() == [0, 3, 2]


@pytest.mark.parametrize(("count", "target", "starts"), [(150, 40, 10), (60, 60, 1), (3, 1, 3)])
def test_a_coreset_is_chosen_as_written_out(rng: np.random.Generator, count: int, target: int, starts: int) -> None:
    points = rng.standard_normal((count, 5)).astype(np.float32) * rng.uniform(0.1, 3, (count, 1)).astype(np.float32)
    first = rng.choice(count, starts, replace=False)
    expected = plain_choice(points.astype(np.float64), target, first.tolist())
    assert k_center(torch.from_numpy(points), target, first).tolist() == expected


def test_equal_points_are_chosen_once_each_and_last() -> None:
    points = torch.tensor([[5.0], [5.0], [5.0], [9.0]])
    assert k_center(points, 4, np.array([0])).tolist() == [3, 0, 1, 2]


def test_a_projection_is_that_of_a_linear_layer(rng: np.random.Generator) -> None:
    matrix = projection(400, 128, rng)
    layer = torch.nn.Linear(400, 128, bias=False).weight
    assert matrix.shape == layer.T.shape and matrix.dtype == layer.dtype
    assert matrix.abs().max() <= 1 / 20 and layer.abs().max() <= 1 / 20
    torch.testing.assert_close(matrix.std(), layer.std(), rtol=0.02, atol=0)
    assert torch.equal(projection(8, 8, rng), torch.eye(8))


@pytest.mark.parametrize("shape", [(2, 40, 27), (1, 5, 9)])
def test_smoothing_is_scipys(rng: np.random.Generator, shape: tuple[int, ...]) -> None:
    maps = rng.random(shape, dtype=np.float32)
    expected = np.stack([ndimage.gaussian_filter(one, 4.0) for one in maps])
    np.testing.assert_allclose(gaussian_filter(torch.from_numpy(maps), 4.0), expected, atol=1e-6)


@pytest.fixture
def folder(tmp_path: Path, rng: np.random.Generator) -> Path:
    """Six tiles of 36 patches each."""
    np.save(tmp_path / "tiles.npy", rng.integers(0, 256, (6, 48, 48, 3), dtype=np.uint8))
    whole = dict.fromkeys(("row", "col", "x", "y"), 0) | {"width": 48, "height": 48}
    table = pd.DataFrame({"tile": range(6), "sample_id": list("abcdef"), **whole})
    table.to_parquet(tmp_path / "tiles.parquet")
    return tmp_path


def bank_of(folder: Path, **options: Any) -> Tensor:
    defaults = parse({}).patchcore.model_dump(exclude={"smoothing_sigma"})  # type: ignore[attr-defined]
    files = (folder / name for name in ("tiles.npy", "tiles.parquet", "model.safetensors", "history.parquet"))
    train(*files, encoder=ENCODER, **defaults | {"batch_size": 4} | options)
    return load_file(folder / "model.safetensors")["tokens"]


def patches_in(folder: Path) -> np.ndarray:
    """All patches (216, 1024) of the tiles, each tile encoded alone."""
    features = patch_features(build_encoder(**ENCODER))
    tiles = torch.from_numpy(np.load(folder / "tiles.npy"))
    return np.concatenate([features.tokens(tile[None])[0][0] for tile in tiles])


@pytest.mark.parametrize("projected_width", [128, 1024])
def test_the_bank_is_the_coreset_of_all_patches(folder: Path, projected_width: int) -> None:
    bank = bank_of(folder, coreset_fraction=0.15, seed=3, projected_width=projected_width)
    patches, rng = patches_in(folder), np.random.default_rng(3)
    starts = rng.choice(216, 10, replace=False).tolist()
    matrix = rng.uniform(-1 / 32, 1 / 32, (1024, 128)) if projected_width == 128 else np.eye(1024)
    chosen = sorted(plain_choice(patches.astype(np.float64) @ matrix, 32, starts))
    np.testing.assert_allclose(bank, patches[chosen], rtol=1e-4, atol=1e-5)


def test_a_bank_of_all_patches_and_of_one(folder: Path) -> None:
    np.testing.assert_allclose(bank_of(folder, coreset_fraction=1.0), patches_in(folder), rtol=1e-4, atol=1e-5)
    assert bank_of(folder, coreset_fraction=1e-9, start_points=1000).shape == (1, 1024)


def test_maps_are_squared_distances_smoothed_as_published(folder: Path) -> None:
    bank = bank_of(folder)
    assert len(bank) == 21
    patches = patches_in(folder).reshape(6, 36, 1024)
    files = [folder / name for name in ("tiles.npy", "tiles.parquet", "maps.npy", "maps.parquet")]
    sizes = {"window": "image", "scale": 1.0, "smoothing_sigma": 4.0}
    infer(*files, encoder=ENCODER, model=folder / "model.safetensors", **sizes)
    search = NearestNeighbors(n_neighbors=1, metric="euclidean").fit(bank.numpy())
    maps = np.load(files[2])
    assert maps.dtype == np.float32
    for found, tile in zip(maps, patches, strict=True):
        squared = (search.kneighbors(tile)[0] ** 2).reshape(6, 6).astype(np.float32)
        expected = ndimage.gaussian_filter(cv2.resize(squared, (48, 48), interpolation=cv2.INTER_LINEAR), 4)
        np.testing.assert_allclose(found, expected, rtol=1e-3, atol=1e-5 * squared.max())


def test_no_tiles_are_refused(folder: Path) -> None:
    np.save(folder / "tiles.npy", np.zeros((0, 48, 48, 3), np.uint8))
    pd.read_parquet(folder / "tiles.parquet").iloc[:0].to_parquet(folder / "tiles.parquet")
    with pytest.raises(DataError, match=r"tiles\.npy: the tile store is empty"):
        bank_of(folder)


def test_the_preset_has_the_published_constants() -> None:
    settings = load(REPOSITORY / "config" / "mvtec_ad_patchcore.yaml")
    constants = {"coreset_fraction": 0.1, "start_points": 10, "projected_width": 128, "smoothing_sigma": 4.0, "seed": 0}
    assert settings.patchcore.model_dump(exclude={"allow"}) == constants  # type: ignore[attr-defined]
    assert settings.encoder.blocks == [2, 3] == list(default_stages("wide_resnet50_2", 5))
