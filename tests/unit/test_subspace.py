"""SubspaceAD against NumPy, scikit-learn, Pillow and OpenCV."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import cv2
import numpy as np
import pandas as pd
import pytest
import torch
from PIL import Image
from safetensors.torch import load_file
from sklearn.decomposition import PCA

from robis.detectors.rotation import RotatedTiles
from robis.detectors.settings import parse
from robis.detectors.subspace.infer import infer_split, token_maps
from robis.detectors.subspace.pca import TOKENS_AT_ONCE, Moments, Subspace
from robis.detectors.subspace.tokens import joint_tokens, make_encoder, random_rotation, subspace_blocks
from robis.detectors.subspace.train import train_category
from robis.encoders.names import own_input_size
from robis.errors import ConfigError, DataError
from robis.workflow.runs import runs_of
from tests import detector_jobs

ENCODER = {"name": "vit_tiny_patch16_224", "weights": "random", "input_size": 32}
train, infer = detector_jobs.training(train_category), detector_jobs.inferring(infer_split)


def correlated(rng: np.random.Generator, count: int, width: int, offset: float = 0.0) -> np.ndarray:
    """Tokens with variances that fall by a quarter from one direction to the next, far from 0."""
    scales = 0.75 ** np.arange(width)
    turned = np.linalg.qr(rng.standard_normal((width, width)))[0]
    return ((rng.standard_normal((count, width)) * scales) @ turned + offset).astype(np.float32)


@pytest.mark.parametrize("parts", [1, 7])
def test_streamed_moments_are_those_of_all_tokens(rng: np.random.Generator, parts: int) -> None:
    """float32 sums, or sums of squares around 0, would be off by more than the covariance."""
    tokens = correlated(rng, TOKENS_AT_ONCE + 100, 24, offset=3000)
    moments = Moments.of(torch.from_numpy(part) for part in np.array_split(tokens, parts))
    np.testing.assert_allclose(moments.mean, tokens.mean(0, dtype=np.float64), rtol=1e-12)
    expected = np.cov(tokens.astype(np.float64), rowvar=False, bias=True)
    np.testing.assert_allclose(moments.covariance, expected, atol=1e-9)


@pytest.mark.parametrize("share", [0.5, 0.9, 0.99])
def test_distances_are_those_of_scikit_learn_and_of_an_svd(rng: np.random.Generator, share: float) -> None:
    normal, queries = correlated(rng, 500, 24, offset=3), correlated(rng, 60, 24, offset=3.2)
    subspace = Subspace.of(Moments.of([torch.from_numpy(normal)]), share)
    distances = subspace.distances(torch.from_numpy(queries)).numpy()

    pca = PCA(share, svd_solver="full").fit(normal.astype(np.float64))
    assert len(subspace.components) == pca.n_components_
    rebuilt = pca.inverse_transform(pca.transform(queries.astype(np.float64)))
    np.testing.assert_allclose(distances, ((queries - rebuilt) ** 2).sum(1), rtol=1e-5)

    mean = normal.mean(0, dtype=np.float64)
    _, lengths, directions = np.linalg.svd(normal - mean, full_matrices=False)
    held = np.cumsum(lengths**2) / np.sum(lengths**2)
    left = directions[np.argmax(held >= share) + 1 :]
    np.testing.assert_allclose(distances, (((queries - mean) @ left.T) ** 2).sum(1), rtol=1e-5)


def test_fewest_components_by_hand() -> None:
    """Variances 90, 9 and 1 on the axes."""
    axes = np.sqrt(3 * np.diag([90.0, 9.0, 1.0]))
    moments = Moments.of([torch.from_numpy(np.concatenate([axes, -axes]) + 5.0)])
    np.testing.assert_allclose(np.diag(moments.covariance), [90, 9, 1])
    for share, dimensions in ((0.0, 1), (0.89, 1), (0.91, 2), (0.98, 2), (0.995, 3)):
        assert len(Subspace.of(moments, share).components) == dimensions
    subspace = Subspace.of(moments, 0.91)
    np.testing.assert_allclose(subspace.distances(torch.tensor([[1.0, 2.0, 8.0]])), [9.0], rtol=1e-5)


def test_equal_tokens_have_a_subspace() -> None:
    subspace = Subspace.of(Moments.of([torch.ones(10, 4)]), 0.99)
    torch.testing.assert_close(subspace.mean, torch.ones(4))
    assert subspace.distances(torch.ones(1, 4)) == 0


@pytest.mark.parametrize("size", [9, 40])
def test_maps_are_those_of_opencv(rng: np.random.Generator, size: int) -> None:
    distances = rng.random((2, 5, 5), dtype=np.float32)
    maps = token_maps(torch.from_numpy(distances), size).numpy()
    for one, tokens in zip(maps, distances, strict=True):
        large = cv2.resize(tokens, (size, size), interpolation=cv2.INTER_LINEAR)
        np.testing.assert_allclose(one, cv2.GaussianBlur(large, (3, 3), 4.0), atol=1e-6)


def test_blocks_are_the_published_ones_and_exist_in_others() -> None:
    assert subspace_blocks(40) == tuple(40 - place for place in range(18, 11, -1))
    assert own_input_size("dinov2_reg_vitg14") == 672
    for depth in (4, 12, 24, 32):
        blocks = subspace_blocks(depth)
        assert blocks and blocks[0] > 0 and blocks[-1] < depth
    assert make_encoder(ENCODER).blocks == subspace_blocks(12)


def test_tokens_are_averaged_over_blocks_or_joined_where_widths_differ() -> None:
    tiles = torch.randint(0, 256, (2, 32, 32, 3), dtype=torch.uint8)
    vit = make_encoder(ENCODER | {"blocks": [3, 5, 8]})
    torch.testing.assert_close(joint_tokens(vit, tiles), sum(vit(tiles)) / 3)
    cnn = make_encoder(ENCODER | {"name": "efficientnet_lite0"})
    tokens = joint_tokens(cnn, tiles)
    assert tokens.shape == (2, cnn.grid**2, sum(cnn.widths))
    torch.testing.assert_close(tokens[..., : cnn.widths[0]], cnn(tiles)[0])


def test_copies_are_rotated_by_up_to_345_degrees(rng: np.random.Generator) -> None:
    store = rng.integers(1, 256, (3, 16, 16, 3), dtype=np.uint8)
    tiles = RotatedTiles(store, np.array([0, 2]), 4, random_rotation(seed=3))
    assert len(tiles) == 10
    whole = tiles[0:10]
    assert (whole[0] == store[0]).all() and (whole[5] == store[2]).all()
    for first, number in ((0, 0), (5, 2)):
        for copy in range(1, 5):
            angles = np.arange(0, 345, 0.05)
            image = Image.fromarray(store[number])
            matches = [angle for angle in angles if (np.asarray(image.rotate(angle)) == whole[first + copy]).all()]
            assert matches, "no rotation gives this copy"
    assert len({tile.tobytes() for tile in whole}) == 10
    np.testing.assert_array_equal(np.concatenate([tiles[0:3], tiles[3:10]]), whole)
    assert (RotatedTiles(store, np.array([0, 2]), 4, random_rotation(seed=4))[1:2] != whole[1:2]).any()


@pytest.fixture
def folder(tmp_path: Path, rng: np.random.Generator) -> Path:
    """A store of six tiles, two of each image."""
    np.save(tmp_path / "tiles.npy", rng.integers(0, 256, (6, 32, 32, 3), dtype=np.uint8))
    whole = dict.fromkeys(("row", "col", "x", "y"), 0) | {"width": 32, "height": 32}
    table = pd.DataFrame({"tile": range(6), "sample_id": ["a", "a", "b", "b", "c", "c"], **whole})
    table.to_parquet(tmp_path / "tiles.parquet")
    return tmp_path


def model_of(folder: Path, **options: Any) -> dict[str, torch.Tensor]:
    defaults = parse({}).subspace.model_dump(exclude={"shots", "seeds"})  # type: ignore[attr-defined]
    values = defaults | {"shots": 0, "reference_seed": 0, "batch_size": 4} | options
    files = (folder / name for name in ("tiles.npy", "tiles.parquet", "model.safetensors", "history.parquet"))
    train(*files, encoder=ENCODER, **values)
    return load_file(folder / "model.safetensors")


def plain_model(folder: Path, numbers: list[int]) -> tuple[np.ndarray, np.ndarray]:
    """Mean and projection onto the subspace of some tiles' tokens."""
    tiles = torch.from_numpy(np.load(folder / "tiles.npy")[numbers])
    tokens = joint_tokens(make_encoder(ENCODER), tiles).flatten(0, 1).double().numpy()
    pca = PCA(0.99, svd_solver="full").fit(tokens)
    return pca.mean_, pca.components_.T @ pca.components_


def test_a_model_learns_from_all_images_or_from_its_references(folder: Path) -> None:
    for options, numbers in (
        ({}, [0, 1, 2, 3, 4, 5]),
        ({"shots": 2, "references": ["c", "a", "b"], "rotations": 0}, [0, 1, 4, 5]),
    ):
        model, (mean, projection) = model_of(folder, **options), plain_model(folder, numbers)
        np.testing.assert_allclose(model["mean"], mean, atol=1e-5)
        components = model["components"].double()
        np.testing.assert_allclose(components.T @ components, projection, atol=1e-4)
    rotated = model_of(folder, shots=1, references=["b"], rotations=3)
    assert not np.allclose(rotated["mean"], plain_model(folder, [2, 3])[0], atol=1e-3)
    with pytest.raises(ConfigError, match=r"subspace\.references: 'x' is no training image"):
        model_of(folder, shots=1, references=["x"])
    with pytest.raises(DataError, match=r"subspace\.shots: found 4, but .* has 3 training images"):
        model_of(folder, shots=4)


def test_maps_of_a_split_are_the_distances_to_the_model(folder: Path) -> None:
    model = model_of(folder)
    files = (folder / name for name in ("tiles.npy", "tiles.parquet", "maps.npy", "maps.parquet"))
    sizes = {"window": "image", "scale": 1.0}
    infer(*files, encoder=ENCODER, model=folder / "model.safetensors", **sizes)
    tiles = torch.from_numpy(np.load(folder / "tiles.npy"))
    encoder = make_encoder(ENCODER)
    tokens = joint_tokens(encoder, tiles).double() - model["mean"].double()
    components = model["components"].double()
    distances = (tokens**2).sum(-1) - ((tokens @ components.T) ** 2).sum(-1)
    expected = token_maps(distances.view(-1, encoder.grid, encoder.grid), 32)
    maps = np.load(folder / "maps.npy")
    assert maps.dtype == np.float32
    np.testing.assert_allclose(maps, expected, rtol=1e-5, atol=1e-5)


def test_runs_of_shots_and_seeds() -> None:
    one = runs_of(parse({"detectors": ["subspace"]}))
    assert list(one) == ["subspace"]
    several = runs_of(parse({"detectors": ["subspace"], "subspace": {"shots": [0, 1], "seeds": [0, 4]}}))
    assert list(several) == ["subspace_all", "subspace_1shot_seed0", "subspace_1shot_seed4"]
