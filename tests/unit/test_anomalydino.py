"""AnomalyDINO: tokens, rotations and maps against timm, SciPy, scikit-learn and OpenCV."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import cv2
import numpy as np
import pandas as pd
import pytest
import torch
from safetensors.torch import load_file
from scipy import ndimage
from sklearn.neighbors import NearestNeighbors

from robis.detectors.anomalydino.infer import infer_split
from robis.detectors.anomalydino.tokens import make_encoder, rotated, unit_tokens
from robis.detectors.anomalydino.train import train_category
from robis.detectors.settings import load, parse
from robis.errors import ConfigError
from robis.workflow.runs import runs_of
from tests import detector_jobs
from tests.conftest import REPOSITORY

ENCODER: dict[str, Any] = {"name": "vit_tiny_patch16_224", "weights": "random", "input_size": 48}
train, infer = detector_jobs.training(train_category), detector_jobs.inferring(infer_split)


def normed_tokens(tiles: np.ndarray) -> np.ndarray:
    """Tokens (N * 9, 192) after the whole network and its final norm, as timm gives them."""
    encoder = make_encoder(ENCODER)
    images = (torch.from_numpy(tiles).permute(0, 3, 1, 2) / 255 - encoder.mean) / encoder.std
    with torch.no_grad():
        return encoder.vit.forward_features(images)[:, 1:].flatten(0, 1).numpy()


def test_tokens_are_the_last_ones_after_the_norm_with_length_1(rng: np.random.Generator) -> None:
    tiles = rng.integers(0, 256, (2, 48, 48, 3), dtype=np.uint8)
    encoder = make_encoder(ENCODER)
    features = unit_tokens(encoder)
    (tokens,) = features.tokens(torch.from_numpy(tiles))
    expected = normed_tokens(tiles)
    assert encoder.blocks == (11,) and (features.grid, features.widths) == (3, [192])
    np.testing.assert_allclose(
        tokens.flatten(0, 1), expected / np.linalg.norm(expected, axis=1, keepdims=True), atol=1e-5
    )


def test_stages_of_a_cnn_are_joined() -> None:
    encoder = make_encoder({"name": "resnet18", "weights": "random", "input_size": 48})
    features = unit_tokens(encoder)
    (tokens,) = features.tokens(torch.randint(0, 256, (1, 48, 48, 3), dtype=torch.uint8))
    assert tokens.shape == (1, features.grid**2, sum(features.widths)) and features.widths == [128 + 256]
    torch.testing.assert_close(tokens.norm(dim=-1), torch.ones(1, features.grid**2))


@pytest.mark.parametrize("degrees", [45, 90, 180, 300])
def test_a_copy_is_rotated_about_the_middle_and_mirrored_beyond_the_border(
    rng: np.random.Generator, degrees: int
) -> None:
    """To the left, by SciPy; OpenCV rounds places to a 32nd of a pixel."""
    tile = cv2.resize(rng.integers(0, 256, (5, 5, 3), dtype=np.uint8), (24, 24))
    angle, middle = np.deg2rad(degrees), 12
    y, x = np.mgrid[:24, :24] - middle
    places = [np.sin(angle) * x + np.cos(angle) * y + middle, np.cos(angle) * x - np.sin(angle) * y + middle]
    expected = [ndimage.map_coordinates(tile[..., c].astype(float), places, order=1, mode="mirror") for c in range(3)]
    np.testing.assert_allclose(rotated(tile, degrees), np.stack(expected, -1), atol=3)


@pytest.fixture
def folder(tmp_path: Path, rng: np.random.Generator) -> Path:
    """Six tiles of nine tokens, two of each image."""
    np.save(tmp_path / "tiles.npy", rng.integers(0, 256, (6, 48, 48, 3), dtype=np.uint8))
    whole = dict.fromkeys(("row", "col", "x", "y"), 0) | {"width": 48, "height": 48}
    table = pd.DataFrame({"tile": range(6), "sample_id": ["a", "a", "b", "b", "c", "c"], **whole})
    table.to_parquet(tmp_path / "tiles.parquet")
    return tmp_path


def bank_of(folder: Path, **options: Any) -> torch.Tensor:
    defaults = parse({}).anomalydino.model_dump(include={"references", "rotations"})  # type: ignore[attr-defined]
    values = defaults | {"shots": 0, "reference_seed": 0, "batch_size": 4} | options
    files = (folder / name for name in ("tiles.npy", "tiles.parquet", "model.safetensors", "history.parquet"))
    train(*files, encoder=ENCODER, **values)
    return load_file(folder / "model.safetensors")["tokens"]


def test_the_bank_holds_all_tokens_of_all_images_or_of_rotated_references(folder: Path) -> None:
    tiles = np.load(folder / "tiles.npy")
    references = [tile for number in (0, 1, 4, 5) for tile in [rotated(tiles[number], 120 * n) for n in range(3)]]
    for options, expected in (
        ({}, tiles),
        ({"shots": 2, "references": ["c", "a", "b"], "rotations": 0}, tiles[[0, 1, 4, 5]]),
        ({"shots": 2, "references": ["c", "a"], "rotations": 2}, np.stack(references)),
    ):
        tokens = normed_tokens(expected)
        expected_bank = tokens / np.linalg.norm(tokens, axis=1, keepdims=True)
        np.testing.assert_allclose(bank_of(folder, **options), expected_bank, atol=1e-5)
    assert len(bank_of(folder, shots=1)) == 2 * 8 * 9, "the published eight orientations"
    with pytest.raises(ConfigError, match=r"anomalydino\.references: 'x' is no training image"):
        bank_of(folder, shots=1, references=["x"])


@pytest.mark.parametrize("sigma", [4.0, 0.0])
def test_maps_are_cosine_distances_of_scikit_learn_smoothed_as_published(folder: Path, sigma: float) -> None:
    bank = bank_of(folder, shots=1, references=["b"], rotations=1)
    files = [folder / name for name in ("tiles.npy", "tiles.parquet", "maps.npy", "maps.parquet")]
    sizes = {"window": "image", "scale": 1.0, "smoothing_sigma": sigma}
    infer(*files, encoder=ENCODER, model=folder / "model.safetensors", **sizes)
    search = NearestNeighbors(n_neighbors=1, metric="cosine").fit(bank.double().numpy())
    distances = search.kneighbors(normed_tokens(np.load(files[0])).astype(np.float64))[0].reshape(6, 3, 3)
    maps = np.load(files[2])
    assert maps.dtype == np.float16 and distances[[0, 1, 4, 5]].min() > 1e-4
    np.testing.assert_allclose(distances[[2, 3]], 0, atol=1e-6)
    for found, tile in zip(maps, distances, strict=True):
        expected = cv2.resize(tile, (48, 48), interpolation=cv2.INTER_LINEAR)
        expected = ndimage.gaussian_filter(expected, sigma) if sigma else expected
        np.testing.assert_allclose(found, expected, rtol=1e-3, atol=2e-6)


def test_runs_of_shots_and_seeds() -> None:
    several = runs_of(parse({"detectors": ["anomalydino"], "anomalydino": {"shots": [0, 1], "seeds": [0, 4]}}))
    assert list(several) == ["anomalydino_all", "anomalydino_1shot_seed0", "anomalydino_1shot_seed4"]


def test_the_preset_has_the_published_constants() -> None:
    settings = load(REPOSITORY / "config" / "mvtec_ad_anomalydino.yaml")
    assert settings.get("anomalydino.shots") == [1, 2, 4, 8, 16] and settings.get("anomalydino.seeds") == [0, 1, 2]
    assert settings.get("anomalydino.rotations") == 7
    assert (settings.encoder.name, settings.encoder.input_size) == ("dinov2_vits14", 448)
    # 4 pixels of an image of 1024.
    assert settings.get("anomalydino.smoothing_sigma") == 4 * 448 / 1024
