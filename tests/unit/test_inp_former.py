"""INP-Former against the spec written out plainly in float64, from weights in the published key layout."""

from __future__ import annotations

import math

import pytest
import torch
from safetensors.torch import save_file
from torch import Tensor, nn

from robis.detectors.inp_former.model import InpFormer, initialize, load_checkpoint, soft_mining_loss
from robis.detectors.reconstruction.maps import anomaly_maps, tile_maps
from robis.detectors.registry import DETECTORS
from robis.detectors.settings import parse
from robis.encoders.build import build_encoder
from robis.encoders.encoder import Encoder
from robis.encoders.weights import read_state
from robis.errors import ConfigError, WeightsError

NAME, SIZE, GRID, WIDTH, HEADS, REGISTERS = "dinov2_reg_vits14", 56, 4, 384, 6, 4
MEAN, STD = (0.485, 0.456, 0.406), (0.229, 0.224, 0.225)


def published_checkpoint(seed: int = 0, *, scale: float = 0.05) -> dict[str, Tensor]:
    """Random weights under the names and shapes of the public code (DINOv2 names below `encoder.`)."""
    generator = torch.Generator().manual_seed(seed)

    def normal(*shape: int) -> Tensor:
        return torch.randn(*shape, generator=generator) * scale

    def linear(state: dict[str, Tensor], name: str, out: int, into: int) -> None:
        state[f"{name}.weight"], state[f"{name}.bias"] = normal(out, into), normal(out)

    def norm(state: dict[str, Tensor], name: str) -> None:
        state[f"{name}.weight"], state[f"{name}.bias"] = 1 + normal(WIDTH), normal(WIDTH)

    def mlp(state: dict[str, Tensor], name: str) -> None:
        linear(state, f"{name}.fc1", 4 * WIDTH, WIDTH)
        linear(state, f"{name}.fc2", WIDTH, 4 * WIDTH)

    state: dict[str, Tensor] = {"prototype_token": torch.randn(6, WIDTH, generator=generator)}
    state["encoder.cls_token"] = normal(1, 1, WIDTH)
    state["encoder.pos_embed"] = normal(1, 1 + GRID * GRID, WIDTH)
    state["encoder.register_tokens"] = normal(1, REGISTERS, WIDTH)
    state["encoder.mask_token"] = normal(1, WIDTH)
    state["encoder.patch_embed.proj.weight"] = normal(WIDTH, 3, 14, 14)
    state["encoder.patch_embed.proj.bias"] = normal(WIDTH)
    for block in range(12):
        name = f"encoder.blocks.{block}"
        norm(state, f"{name}.norm1")
        linear(state, f"{name}.attn.qkv", 3 * WIDTH, WIDTH)
        linear(state, f"{name}.attn.proj", WIDTH, WIDTH)
        state[f"{name}.ls1.gamma"] = 1 + normal(WIDTH)
        norm(state, f"{name}.norm2")
        mlp(state, f"{name}.mlp")
        state[f"{name}.ls2.gamma"] = 1 + normal(WIDTH)
    norm(state, "encoder.norm")
    mlp(state, "bottleneck.0")
    for name in ("aggregation.0", *(f"decoder.{n}" for n in range(8))):
        norm(state, f"{name}.norm1")
        norm(state, f"{name}.norm2")
        linear(state, f"{name}.attn.q", WIDTH, WIDTH)
        linear(state, f"{name}.attn.kv", 2 * WIDTH, WIDTH)
        linear(state, f"{name}.attn.proj", WIDTH, WIDTH)
        mlp(state, f"{name}.mlp")
        if name.startswith("decoder"):
            state[f"{name}.attn.learn_scale"] = 1 + normal(HEADS, 1, 1)
    return state


class Plain:
    """Spec sections 2 and 3, one sentence a line, for one tile at a time, in float64."""

    def __init__(self, state: dict[str, Tensor]) -> None:
        self.w = {name: value.double() for name, value in state.items()}

    def linear(self, x: Tensor, name: str) -> Tensor:
        return x @ self.w[f"{name}.weight"].T + self.w[f"{name}.bias"]

    def norm(self, x: Tensor, name: str, eps: float) -> Tensor:
        centered = x - x.mean(-1, keepdim=True)
        scaled = centered / torch.sqrt((centered**2).mean(-1, keepdim=True) + eps)
        return scaled * self.w[f"{name}.weight"] + self.w[f"{name}.bias"]

    def mlp(self, x: Tensor, name: str) -> Tensor:
        h = self.linear(x, f"{name}.fc1")
        h = h * 0.5 * (1 + torch.erf(h / math.sqrt(2)))
        return self.linear(h, f"{name}.fc2")

    def tokens(self, tile: Tensor) -> list[Tensor]:
        image = (tile.double() / 255 - torch.tensor(MEAN).double()) / torch.tensor(STD).double()
        kernel = self.w["encoder.patch_embed.proj.weight"]
        patches = []
        for row in range(GRID):
            for col in range(GRID):
                patch = image[row * 14 : row * 14 + 14, col * 14 : col * 14 + 14]
                patches.append(torch.einsum("yxc,ocyx->o", patch, kernel) + self.w["encoder.patch_embed.proj.bias"])
        x = torch.cat([self.w["encoder.cls_token"][0], torch.stack(patches)]) + self.w["encoder.pos_embed"][0]
        x = torch.cat([x[:1], self.w["encoder.register_tokens"][0], x[1:]])
        found = []
        for block in range(10):
            name = f"encoder.blocks.{block}"
            h = self.norm(x, f"{name}.norm1", 1e-6)
            q, k, v = self.linear(h, f"{name}.attn.qkv").split(WIDTH, dim=1)
            mixed = []
            for head in range(HEADS):
                part = slice(head * 64, head * 64 + 64)
                weights = torch.softmax(q[:, part] @ k[:, part].T / math.sqrt(64), dim=1)
                mixed.append(weights @ v[:, part])
            x = x + self.linear(torch.cat(mixed, 1), f"{name}.attn.proj") * self.w[f"{name}.ls1.gamma"]
            h = self.mlp(self.norm(x, f"{name}.norm2", 1e-6), f"{name}.mlp")
            x = x + h * self.w[f"{name}.ls2.gamma"]
            if block >= 2:
                found.append(x[1 + REGISTERS :])
        return found

    def cross_attention(self, x: Tensor, y: Tensor, name: str, *, relu: bool) -> Tensor:
        q = self.linear(x, f"{name}.q")
        k, v = self.linear(y, f"{name}.kv").split(WIDTH, dim=1)
        mixed = []
        for head in range(HEADS):
            part = slice(head * 64, head * 64 + 64)
            qh, kh = q[:, part], k[:, part]
            if relu:
                qh = qh / qh.norm(dim=1, keepdim=True)
                kh = kh / kh.norm(dim=1, keepdim=True)
                weights = torch.relu(qh @ kh.T * self.w[f"{name}.learn_scale"][head])
            else:
                weights = torch.softmax(qh @ kh.T / math.sqrt(64), dim=1)
            mixed.append(weights @ v[:, part])
        return self.linear(torch.cat(mixed, 1), f"{name}.proj")

    def groups(self, tile: Tensor) -> tuple[list[Tensor], list[Tensor], Tensor]:
        encoded = self.tokens(tile)
        x = sum(encoded) / 8
        p = self.w["prototype_token"]
        a = "aggregation.0"
        p = p + self.cross_attention(
            self.norm(p, f"{a}.norm1", 1e-8), self.norm(x, f"{a}.norm1", 1e-8), f"{a}.attn", relu=False
        )
        p = p + self.mlp(self.norm(p, f"{a}.norm2", 1e-8), f"{a}.mlp")
        similarity = (x / x.norm(dim=1, keepdim=True)) @ (p / p.norm(dim=1, keepdim=True)).T
        coherence = (1 - similarity).min(dim=1).values.mean()
        x = self.mlp(x, "bottleneck.0")
        decoded = []
        for n in range(8):
            d = f"decoder.{n}"
            x = self.cross_attention(
                self.norm(x, f"{d}.norm1", 1e-8), self.norm(p, f"{d}.norm1", 1e-8), f"{d}.attn", relu=True
            )
            x = x + self.mlp(self.norm(x, f"{d}.norm2", 1e-8), f"{d}.mlp")
            decoded.insert(0, x)
        return (
            [sum(encoded[:4]) / 4, sum(encoded[4:]) / 4],
            [sum(decoded[:4]) / 4, sum(decoded[4:]) / 4],
            coherence,
        )

    def tile_map(self, tile: Tensor, size: int) -> Tensor:
        encoded, decoded, _ = self.groups(tile)
        maps = []
        for e, d in zip(encoded, decoded, strict=True):
            cosine = (e * d).sum(1) / (e.norm(dim=1) * d.norm(dim=1))
            maps.append(bilinear((1 - cosine).reshape(GRID, GRID), SIZE, corners=True))
        return blur(bilinear(sum(maps) / 2, size, corners=False))


def bilinear(image: Tensor, size: int, *, corners: bool) -> Tensor:
    """Bilinear interpolation written out as a matrix per axis."""
    n = image.shape[0]
    weights = torch.zeros(size, n, dtype=torch.float64)
    for i in range(size):
        at = i * (n - 1) / (size - 1) if corners else min(max((i + 0.5) * n / size - 0.5, 0), n - 1)
        low = min(int(at), n - 1)
        high = min(low + 1, n - 1)
        weights[i, low] += 1 - (at - low)
        weights[i, high] += at - low
    return weights @ image @ weights.T


def blur(image: Tensor) -> Tensor:
    padded = nn.functional.pad(image, (2, 2, 2, 2))
    total = torch.zeros_like(image)
    norm = 0.0
    for dy in range(-2, 3):
        for dx in range(-2, 3):
            weight = math.exp(-(dx * dx + dy * dy) / (2 * 4.0**2))
            norm += weight
            total += weight * padded[2 + dy : 2 + dy + image.shape[0], 2 + dx : 2 + dx + image.shape[1]]
    return total / norm


@pytest.fixture(scope="module")
def encoder() -> Encoder:
    return build_encoder(NAME, weights="random", input_size=SIZE)


@pytest.fixture(scope="module")
def tiles() -> Tensor:
    return torch.randint(0, 256, (3, SIZE, SIZE, 3), dtype=torch.uint8, generator=torch.Generator().manual_seed(5))


def test_tile_maps_from_a_published_checkpoint(encoder: Encoder, tiles: Tensor, tmp_path) -> None:
    state = published_checkpoint()
    torch.save(state, tmp_path / "model.pth")
    model = InpFormer(encoder)
    load_checkpoint(model, read_state(tmp_path / "model.pth", sha256=None, key="model"), source="x", encoder=NAME)
    plain = Plain(state)
    with torch.inference_mode():
        found = tile_maps(model.eval(), tiles, 20)
        _, _, coherence = model(tiles)
    expected = torch.stack([plain.tile_map(tile, 20) for tile in tiles])
    assert expected.std() > 1e-3, "maps that are flat would agree with anything"
    torch.testing.assert_close(found.double(), expected, rtol=0, atol=1e-5)
    expected_coherence = torch.stack([plain.groups(tile)[2] for tile in tiles]).mean()
    assert coherence.item() == pytest.approx(expected_coherence.item(), abs=1e-5)


@pytest.mark.parametrize("variant", ["list", "both", "parallel", "head", "safetensors", "wrapped"])
def test_variants_of_published_files_load(encoder: Encoder, tmp_path, variant: str) -> None:
    state = published_checkpoint()
    expected = state["prototype_token"].clone()
    file = tmp_path / "model.pth"
    if variant in ("list", "both"):
        state["prototype_token.0"] = state["prototype_token"]
    if variant == "list":
        del state["prototype_token"]
    if variant == "head":
        state["encoder.head.weight"] = torch.zeros(10, WIDTH)
    if variant == "parallel":
        state = {f"module.{name}": value for name, value in state.items()}
    if variant == "safetensors":
        file = tmp_path / "model.safetensors"
        save_file({name: value.clone() for name, value in state.items()}, file)
    else:
        torch.save({"model": state} if variant == "wrapped" else state, file)
    model = InpFormer(encoder)
    load_checkpoint(model, read_state(file, sha256=None, key="model"), source="x", encoder=NAME)
    torch.testing.assert_close(model.prototype_token.detach(), expected)


def test_checkpoints_that_do_not_fit_name_the_first_key(encoder: Encoder) -> None:
    model = InpFormer(encoder)
    missing = published_checkpoint()
    del missing["decoder.3.attn.q.weight"]
    with pytest.raises(WeightsError, match=r"model\.pth: has no 'decoder\.3\.attn\.q\.weight'.*dinov2_reg_vits14"):
        load_checkpoint(model, missing, source="model.pth", encoder=NAME)
    wide = published_checkpoint() | {"bottleneck.0.fc1.weight": torch.zeros(3072, 768)}
    with pytest.raises(WeightsError, match=r"'bottleneck\.0\.fc1\.weight' is \(3072, 768\); expected \(1536, 384\)"):
        load_checkpoint(model, wide, source="model.pth", encoder=NAME)
    more = published_checkpoint() | {"decoder.8.attn.q.weight": torch.zeros(384, 384)}
    with pytest.raises(WeightsError, match=r"decoder\.8\.attn\.q\.weight.*does not"):
        load_checkpoint(model, more, source="model.pth", encoder=NAME)


def test_a_single_block_is_refused_when_planning() -> None:
    settings = parse({"detectors": ["inp_former"], "encoder": {"name": "efficientnet_lite0", "blocks": [3]}})
    with pytest.raises(ConfigError, match=r"encoder\.blocks: found \[3\]; inp_former needs at least 2 blocks\."):
        DETECTORS["inp_former"].check_options(settings)


def test_a_single_block_is_refused() -> None:
    with pytest.raises(ConfigError, match=r"encoder\.blocks: found 1 block; INP-Former needs at least 2"):
        InpFormer(build_encoder("vit_tiny_patch16_224", weights="random", input_size=32, blocks=[1]))


def test_start_weights_follow_the_seed(encoder: Encoder) -> None:
    model = InpFormer(encoder, prototypes=200)
    initialize(model, seed=3)
    first = {name: value.clone() for name, value in model.trainable().items()}
    assert first["prototype_token"].std().item() == pytest.approx(1, abs=0.02)
    weight = first["decoder.7.mlp.fc1.weight"]
    assert weight.abs().max() <= 0.03
    assert weight.std().item() == pytest.approx(0.00986, abs=2e-4), "std of a normal(0, 0.01) cut at three sigma"
    assert not first["bottleneck.0.fc2.bias"].any()
    initialize(model, seed=3)
    assert all(torch.equal(value, first[name]) for name, value in model.trainable().items())
    initialize(model, seed=4)
    assert not torch.equal(model.prototype_token, first["prototype_token"])


def test_soft_mining_scales_the_gradient_location_by_location() -> None:
    generator = torch.Generator().manual_seed(1)
    encoded = [torch.randn(2, 5, 4, generator=generator, dtype=torch.float64) for _ in range(2)]
    values = [torch.randn(2, 5, 4, generator=generator, dtype=torch.float64) for _ in range(2)]
    decoded = [value.clone().requires_grad_() for value in values]
    loss = soft_mining_loss(encoded, [value * 1 for value in decoded], power=3.0)
    loss.backward()

    # By hand: L = mean over groups, then images, of 1 - cos; dcos/db = a/(|a||b|) - cos b/|b|^2.
    total = 0.0
    for a, b, leaf in zip(encoded, values, decoded, strict=True):
        distance = 1 - (a * b).sum(-1) / (a.norm(dim=-1) * b.norm(dim=-1))
        factor = (distance / distance.mean()) ** 3
        for image in range(2):
            x, y = a[image].flatten(), b[image].flatten()
            cos = x @ y / (x.norm() * y.norm())
            total += (1 - cos).item() / 4
            gradient = -(x / (x.norm() * y.norm()) - cos * y / y.norm() ** 2) / 4
            torch.testing.assert_close(leaf.grad[image], gradient.reshape(5, 4) * factor[image][:, None])
    assert loss.item() == pytest.approx(total, abs=1e-12)


def test_anomaly_map_of_one_bad_token_is_where_the_token_is() -> None:
    encoded = torch.ones(1, 16, 8)
    decoded = torch.ones(1, 16, 8)
    decoded[0, 6] = -1
    found = anomaly_maps([encoded] * 2, [decoded] * 2, grid=4, input_size=56, size=28)[0]
    row, col = divmod(int(found.argmax()), 28)
    assert (row * 4 // 28, col * 4 // 28) == (1, 2)
    assert found.min() > -1e-6
    assert found.max() < 2
