"""Dinomaly against the spec written out plainly in float64: maps, loss, ten steps of training."""

from __future__ import annotations

import math
from pathlib import Path

import numpy as np
import pytest
import torch
from torch import Tensor

from robis.detectors.dinomaly.model import Bottleneck, Dinomaly, DinomalyLoss, initialize
from robis.detectors.dinomaly.train import training_recipe
from robis.detectors.jobs import Compute, TrainJob
from robis.detectors.reconstruction.loop import TrainingState, train
from robis.detectors.reconstruction.maps import tile_maps
from robis.detectors.reconstruction.network import two_groups
from robis.detectors.reconstruction.step import Recipe
from robis.detectors.registry import DETECTORS
from robis.detectors.settings import parse
from robis.encoders.build import build_encoder
from robis.encoders.encoder import Encoder
from robis.errors import ConfigError
from robis.tiles.files import TileStore
from tests.unit.test_inp_former import bilinear, blur

NAME, SIZE, GRID, PREFIX, WIDTH, HEADS, BLOCKS = "dinov2_reg_vits14", 56, 4, 5, 384, 6, 4
RISE = 4


@pytest.fixture(scope="module")
def encoder() -> Encoder:
    return build_encoder(NAME, weights="random", input_size=SIZE, blocks=[2, 4, 5, 7])


@pytest.fixture(scope="module")
def tiles() -> Tensor:
    return torch.randint(0, 256, (3, SIZE, SIZE, 3), dtype=torch.uint8, generator=torch.Generator().manual_seed(5))


def make_model(encoder: Encoder, dropout: float = 0.0, *, noisy: bool = True) -> Dinomaly:
    """A model with start weights, made noisy so that biases and norms count."""
    model = Dinomaly(encoder, dropout)
    initialize(model, 1)
    generator = torch.Generator().manual_seed(2)
    for value in model.trainable().values() if noisy else ():
        value += 0.05 * torch.randn(value.shape, generator=generator)
    return model


class Plain:
    """Spec section 14, one sentence a line, in float64, from weights by their public names."""

    def __init__(self, weights: dict[str, Tensor]) -> None:
        self.w = {name: value.double().clone().requires_grad_() for name, value in weights.items()}

    def linear(self, x: Tensor, name: str) -> Tensor:
        return x @ self.w[f"{name}.weight"].T + self.w[f"{name}.bias"]

    def norm(self, x: Tensor, name: str) -> Tensor:
        centered = x - x.mean(-1, keepdim=True)
        scaled = centered / torch.sqrt((centered**2).mean(-1, keepdim=True) + 1e-8)
        return scaled * self.w[f"{name}.weight"] + self.w[f"{name}.bias"]

    def mlp(self, x: Tensor, name: str) -> Tensor:
        h = self.linear(x, f"{name}.fc1")
        return self.linear(h * 0.5 * (1 + torch.erf(h / math.sqrt(2))), f"{name}.fc2")

    def attention(self, x: Tensor, name: str) -> Tensor:
        """For one tile (T, C), head by head, by the full matrix of weights."""
        q, k, v = self.linear(x, f"{name}.qkv").split(WIDTH, dim=1)
        mixed = []
        for head in range(HEADS):
            part = slice(head * 64, head * 64 + 64)
            qh, kh = (torch.where(y > 0, y + 1, torch.exp(y)) for y in (q[:, part], k[:, part]))
            weights = qh @ kh.T
            mixed.append(weights / weights.sum(1, keepdim=True) @ v[:, part])
        return self.linear(torch.cat(mixed, 1), f"{name}.proj")

    def groups(self, tokens: list[Tensor]) -> tuple[list[Tensor], list[Tensor]]:
        """Both encoder and both decoder maps of one tile from its tokens of each block, (T, C)."""
        x = self.mlp(sum(tokens) / BLOCKS, "bottleneck.0")
        decoded: list[Tensor] = []
        for block in range(BLOCKS):
            name = f"decoder.{block}"
            x = x + self.attention(self.norm(x, f"{name}.norm1"), f"{name}.attn")
            x = x + self.mlp(self.norm(x, f"{name}.norm2"), f"{name}.mlp")
            decoded.insert(0, x)
        halves = [[sum(half) / 2 for half in (all_[:2], all_[2:])] for all_ in (tokens, decoded)]
        return halves[0], halves[1]

    def all_groups(self, tokens: list[Tensor]) -> tuple[list[Tensor], list[Tensor]]:
        """The same for several tiles, tokens (B, T, C), without class and register tokens: (B, N, C)."""
        each = [self.groups([block[n] for block in tokens]) for n in range(len(tokens[0]))]
        stacked = [[torch.stack([pair[side][n] for pair in each])[:, PREFIX:] for n in (0, 1)] for side in (0, 1)]
        return stacked[0], stacked[1]

    def tile_map(self, tokens: list[Tensor], size: int) -> Tensor:
        encoded, decoded = self.groups(tokens)
        maps = []
        for e, d in zip(encoded, decoded, strict=True):
            cosine = (e * d).sum(1) / (e.norm(dim=1) * d.norm(dim=1))
            maps.append(bilinear((1 - cosine)[PREFIX:].reshape(GRID, GRID), SIZE, corners=True))
        return blur(bilinear(sum(maps) / 2, size, corners=False))

    def step(self, tokens: list[Tensor], share: float) -> float:
        """The loss, and gradients in `w`, smaller at this share of best rebuilt locations."""
        encoded, decoded = self.all_groups(tokens)
        total = 0.0
        for e, d in zip(encoded, decoded, strict=True):
            flat_e, flat_d = e.flatten(1), d.flatten(1)
            cosine = (flat_e * flat_d).sum(1) / (flat_e.norm(dim=1) * flat_d.norm(dim=1))
            loss = (1 - cosine).mean() / 2
            (gradient,) = torch.autograd.grad(loss, d, retain_graph=True)
            distance = 1 - (e * d).sum(2) / (e.norm(dim=2) * d.norm(dim=2))
            worst = distance.detach().flatten().argsort(descending=True)[: int(distance.numel() * (1 - share))]
            factor = torch.full((distance.numel(),), 0.1, dtype=torch.float64)
            factor[worst] = 1.0
            d.backward(gradient * factor.view(*distance.shape, 1), retain_graph=True)
            total += loss.item()
        return total


class PlainOptimizer:
    """StableAdamW with amsgrad, tensor by tensor."""

    def __init__(self, weights: dict[str, Tensor], eps: float) -> None:
        self.weights, self.eps, self.steps = weights, eps, 0
        self.moments = {name: [torch.zeros_like(w) for _ in range(3)] for name, w in weights.items()}

    @torch.no_grad()
    def step(self, lr: float) -> None:
        self.steps += 1
        norm = math.sqrt(sum(float((w.grad**2).sum()) for w in self.weights.values()))
        for name, w in self.weights.items():
            g = w.grad * min(1.0, 0.1 / (norm + 1e-6))
            mean, square, largest = self.moments[name]
            mean.copy_(0.9 * mean + 0.1 * g)
            square.copy_(0.999 * square + 0.001 * g * g)
            largest.copy_(torch.maximum(largest, square))
            denominator = largest.sqrt() / math.sqrt(1 - 0.999**self.steps) + self.eps
            size = max(1.0, float(((g / denominator) ** 2).mean().sqrt()))
            w *= 1 - lr * 1e-4
            w -= lr / (1 - 0.9**self.steps) / size * mean / denominator
            w.grad = None


def recipe(steps: int, batch_size: int, **values: object) -> Recipe:
    known = {
        **{"section": "dinomaly", "steps": steps, "batch_size": batch_size, "learning_rate": 2e-3},
        **{"final_learning_rate": 2e-4, "warmup_steps": 3, "weight_decay": 1e-4, "eps": 1e-8, "gradient_clip": 0.1},
        **{"augment": False, "precision": "float32", "compile": False, "checkpoint_every": 2, "seed": 7},
    }
    return Recipe(**(known | values))  # type: ignore[arg-type]


def test_maps_are_those_of_the_plain_formulation(encoder: Encoder, tiles: Tensor) -> None:
    model = make_model(encoder).eval()
    plain = Plain(model.trainable())
    with torch.inference_mode():
        maps = tile_maps(model, tiles, 20)
    with torch.no_grad():
        tokens = [block.double() for block in encoder.with_prefix(tiles)]
        expected = torch.stack([plain.tile_map([block[n] for block in tokens], 20) for n in range(3)])
    assert expected.std() > 1e-3, "maps that are flat would agree with anything"
    torch.testing.assert_close(maps.double(), expected, rtol=0, atol=1e-5)


def test_ten_steps_are_those_of_the_plain_formulation(tmp_path: Path, tiles: Tensor) -> None:
    """All tiles are one batch, so that their order has no effect; the share of easy locations rises on the way."""
    encoder = build_encoder(NAME, weights="random", input_size=SIZE, blocks=[2, 4, 5, 7]).double()
    model = make_model(encoder).double()
    start = {name: value.clone() for name, value in model.trainable().items()}
    plain = Plain(start)
    optimizer = PlainOptimizer(plain.w, eps=1e-8)
    tokens = encoder.with_prefix(tiles)
    state = TrainingState(tmp_path / "state.pt", tmp_path / "events", "x")
    rows = train(model, DinomalyLoss(0.9, 0.1, RISE), tiles.numpy(), recipe(10, 3), state)
    expected = []
    for step in range(10):
        expected.append(plain.step(tokens, min(0.9, 0.9 * step / RISE)))
        cosine = 2e-4 + 0.5 * (2e-3 - 2e-4) * (1 + math.cos(math.pi * (step - 3) / 7))
        optimizer.step(2e-3 * step / 2 if step < 3 else cosine)
    np.testing.assert_allclose(rows["loss"], expected, rtol=1e-4)
    assert rows["loss"].iloc[-1] < 0.9 * rows["loss"].iloc[0]
    assert rows["coherence"].isna().all()
    for name, value in model.trainable().items():
        moved = (plain.w[name] - start[name]).norm()
        assert (value - plain.w[name]).norm() < 1e-4 * moved, name


def test_easy_locations_by_hand() -> None:
    """Of ten distances the four lowest are easy with a share of 0.4, and none with 0."""
    distance = torch.tensor([[0.5, 0.1, 0.9, 0.3, 0.8], [0.2, 0.7, 0.4, 0.6, 1.0]])
    loss = DinomalyLoss(weight=0.1)
    expected = torch.tensor([[1, 0.1, 1, 0.1, 1], [0.1, 1, 0.1, 1, 1]])
    torch.testing.assert_close(loss.factors(distance, 0.4), expected)
    assert (loss.factors(distance, 0.0) == 1).all()
    assert (loss.factors(distance, 0.999) == 1).sum() == 1, "the worst location always counts"


def test_class_and_register_tokens_reach_the_decoder_but_not_the_maps(encoder: Encoder, tiles: Tensor) -> None:
    model = make_model(encoder).eval()
    tokens = encoder.with_prefix(tiles)
    x = sum(tokens) / BLOCKS
    with torch.no_grad():
        encoded, decoded = model.compare(tiles)
        alone = model.rebuild(x[:, PREFIX:])
    assert encoder.prefix == PREFIX and tokens[0].shape == (3, PREFIX + GRID**2, WIDTH)
    assert encoded[0].shape == decoded[0].shape == (3, GRID**2, WIDTH)
    for block, whole in zip(encoder(tiles), tokens, strict=True):
        torch.testing.assert_close(whole[:, PREFIX:], block, rtol=0, atol=0)
    assert (alone[0] - decoded[0]).abs().max() > 1e-3


def test_prefix_tokens_are_those_of_the_blocks(encoder: Encoder, tiles: Tensor) -> None:
    vit = encoder.vit
    with torch.no_grad():
        x = vit.norm_pre(vit._pos_embed(vit.patch_embed(encoder._normalized(tiles))))
        outputs = []
        for block in vit.blocks[:8]:
            x = block(x)
            outputs.append(x)
    for tokens, number in zip(encoder.with_prefix(tiles), (2, 4, 5, 7), strict=True):
        torch.testing.assert_close(tokens, outputs[number])


def test_a_cnn_has_no_prefix(tiles: Tensor) -> None:
    encoder = build_encoder("efficientnet_lite0", weights="random", input_size=64, equal_widths=True)
    images = torch.zeros(1, 64, 64, 3, dtype=torch.uint8)
    assert encoder.prefix == 0
    assert all(torch.equal(a, b) for a, b in zip(encoder(images), encoder.with_prefix(images), strict=True))
    assert Dinomaly(encoder).eval().compare(images)[1][0].shape == (1, encoder.grid**2, encoder.width)


def test_dropout_is_at_three_places_and_only_in_training() -> None:
    torch.manual_seed(0)
    layer = Bottleneck(64, 0.2)
    x = torch.rand(1000, 64) + 1
    out = layer(x)
    assert (out == 0).float().mean() == pytest.approx(0.2, abs=0.01)
    seen: list[Tensor] = []
    for linear in (layer.fc1, layer.fc2):
        linear.register_forward_pre_hook(lambda module, inputs: seen.append(inputs[0]))
    layer(x)
    assert [(values == 0).float().mean().item() for values in seen] == pytest.approx([0.2, 0.2], abs=0.01)
    torch.testing.assert_close(seen[0][seen[0] > 0], (x / 0.8)[seen[0] > 0])
    layer.eval()
    assert torch.equal(layer(x), layer.fc2(torch.nn.functional.gelu(layer.fc1(x))))


def test_dropout_of_a_step_depends_on_seed_and_step_alone(tmp_path: Path, encoder: Encoder, tiles: Tensor) -> None:
    def losses(folder: str, seed: int, noise: int) -> list[float]:
        state = TrainingState(tmp_path / folder / "state.pt", tmp_path / folder / "events", "x")
        state.file.parent.mkdir()
        model = make_model(encoder, 0.2)
        torch.manual_seed(noise)
        before = torch.get_rng_state()
        rows = train(model, DinomalyLoss(), tiles.numpy(), recipe(3, 3, seed=seed), state)
        assert torch.equal(torch.get_rng_state(), before)
        return rows["loss"].tolist()

    assert losses("a", 7, 1) == losses("b", 7, 2)
    assert losses("c", 8, 1) != losses("d", 7, 1)


@pytest.mark.parametrize(("scope", "steps", "eps"), [("category", 5000, 1e-8), ("all", 10_000, 1e-10)])
def test_published_recipe(scope: str, steps: int, eps: float) -> None:
    options = parse({"dinomaly": {"scope": scope}}).dinomaly.model_dump()  # type: ignore[attr-defined]
    store = TileStore(Path("tiles.npy"), Path("tiles.parquet"))
    job = TrainJob((store,), Path("m"), Path("h"), {}, options, Compute(options["batch_size"], options["precision"]))
    found = training_recipe(job)
    assert (found.steps, found.eps, found.batch_size, found.warmup_steps) == (steps, eps, 16, 100)
    assert (found.learning_rate, found.final_learning_rate, found.weight_decay) == (2e-3, 2e-4, 1e-4)
    assert (found.gradient_clip, found.augment) == (0.1, False)
    assert DinomalyLoss() == DinomalyLoss(options["easy_fraction"], options["easy_weight"], options["easy_steps"])
    assert options["dropout"] == 0.2


def test_start_weights(encoder: Encoder) -> None:
    for name, value in make_model(encoder, noisy=False).trainable().items():
        if "norm" not in name and name.endswith("weight"):
            assert value.std().item() == pytest.approx(0.01, rel=0.05) and value.abs().max() <= 0.03
        else:
            assert (value == (1 if name.endswith("weight") else 0)).all(), name


def test_a_single_block_is_refused_when_planning() -> None:
    settings = parse({"detectors": ["dinomaly"], "encoder": {"name": "efficientnet_lite0", "blocks": [3]}})
    with pytest.raises(ConfigError, match=r"encoder\.blocks: found \[3\]; dinomaly needs at least 2 blocks\."):
        DETECTORS["dinomaly"].check_options(settings)


def test_a_single_block_is_refused() -> None:
    with pytest.raises(ConfigError, match=r"encoder\.blocks: found 1 block; Dinomaly needs at least 2\."):
        Dinomaly(build_encoder("vit_tiny_patch16_224", weights="random", input_size=32, blocks=[1]))


@pytest.mark.parametrize(("values", "means"), [([1, 2], [1, 2]), ([1, 2, 6], [1, 4]), ([1, 2, 6, 9, 3], [1.5, 6])])
def test_blocks_are_averaged_in_two_groups(values: list[float], means: list[float]) -> None:
    groups = two_groups([torch.full((1, 4, 2), value) for value in values])
    assert [group.unique().tolist() for group in groups] == [[mean] for mean in means]
