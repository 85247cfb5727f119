"""CLIP encoders against open_clip itself: tokens, embeddings, weight files of every kind, activations, and messages."""

from __future__ import annotations

import json
import re
import subprocess
import sys
from pathlib import Path
from types import SimpleNamespace

import open_clip
import pytest
import timm
import torch
import torch.nn.functional as F
from open_clip.factory import load_checkpoint
from open_clip.transformer import QuickGELU
from safetensors.torch import save_file

from robis.encoders import clip
from robis.encoders.build import build_encoder
from robis.encoders.clip import ClipEncoder, build_clip, build_clip_encoder, embed_sentences
from robis.encoders.names import (
    CLIP_ARCHITECTURES,
    clip_config,
    is_clip,
    is_pretrained_tag,
    own_input_size,
    quarter_blocks,
)
from robis.errors import ConfigError, WeightsError
from tests.tiny_clip import CONFIG, EMBEDDING, GRID, SIZE, WIDTH, numpy_state, random_tiles, write_config

IMAGENET = (0.485, 0.456, 0.406)


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("clip")


@pytest.fixture(scope="module")
def config(folder: Path) -> str:
    return str(write_config(folder))


@pytest.fixture(scope="module")
def reference() -> open_clip.CLIP:
    model = open_clip.CLIP(**CONFIG)
    model.load_state_dict(numpy_state(model))
    return model.eval()


@pytest.fixture(scope="module")
def saved(folder: Path, reference: open_clip.CLIP) -> Path:
    save_file(reference.state_dict(), folder / "tiny.safetensors")
    return folder / "tiny.safetensors"


@pytest.fixture(scope="module")
def tiles() -> torch.Tensor:
    return torch.from_numpy(random_tiles(3))


@pytest.fixture(scope="module")
def images(tiles: torch.Tensor) -> torch.Tensor:
    mean, std = torch.tensor(open_clip.OPENAI_DATASET_MEAN), torch.tensor(open_clip.OPENAI_DATASET_STD)
    return ((tiles / 255 - mean) / std).permute(0, 3, 1, 2)


@pytest.fixture
def tiny_instead(monkeypatch: pytest.MonkeyPatch) -> None:
    """Every name has the tiny architecture, so that published names can be built without their size."""

    def read(name: str) -> tuple[dict, dict]:
        quick_gelu, preprocessing = clip_config(name)[0].get("quick_gelu", False), clip_config(name)[1]
        return json.loads(json.dumps(CONFIG)) | {"quick_gelu": quick_gelu}, preprocessing

    monkeypatch.setattr(clip, "clip_config", read)


def has_quick_gelu(model: open_clip.CLIP) -> set[bool]:
    blocks = [*model.visual.transformer.resblocks, *model.transformer.resblocks]
    return {isinstance(block.mlp.gelu, QuickGELU) for block in blocks}


def test_short_names_are_models_with_published_weights() -> None:
    for name, architecture in CLIP_ARCHITECTURES.items():
        assert architecture.model in open_clip.list_models()
        assert architecture.tag in open_clip.list_pretrained_tags_by_model(architecture.model)
        assert own_input_size(name) % clip_config(name)[0]["vision_cfg"]["patch_size"] == 0
    assert [own_input_size(name) for name in CLIP_ARCHITECTURES] == [256, 256, 240, 336, 518]


@pytest.mark.parametrize(
    ("name", "expected"),
    [
        *(("clip_vitb16", True), ("ViT-B-16", True), ("coca_ViT-B-32", True), ("my/tiny.json", True)),
        *(("dinov2_reg_vitb14", False), ("vit_base_patch16_clip_224.openai", False)),
    ],
)
def test_which_names_are_clip(name: str, expected: bool) -> None:
    assert is_clip(name) is expected


def test_no_name_of_timm_is_taken_for_clip() -> None:
    assert not [name for name in timm.list_models(pretrained=True) if is_clip(name)]


@pytest.mark.parametrize(
    ("weights", "expected"),
    [
        *(("openai", True), ("laion400m_e31", True), ("laion2b_s34b_b88k", True), ("auto", False), ("random", False)),
        *(("w.safetensors", False), ("w.pt", False), ("weights/openai", False), ("~openai", False), ("C:\\x", False)),
    ],
)
def test_which_weights_are_tags(weights: str, expected: bool) -> None:
    assert is_pretrained_tag("clip_vitb16", weights) is expected
    assert not is_pretrained_tag("dinov2_reg_vitb14", weights)


@pytest.mark.parametrize(("depth", "blocks"), [(24, (5, 11, 17, 23)), (12, (2, 5, 8, 11)), (3, (0, 1, 2)), (1, (0,))])
def test_quarter_blocks(depth: int, blocks: tuple[int, ...]) -> None:
    assert quarter_blocks(depth) == blocks


def test_sizes_are_known_without_torch(config: str) -> None:
    code = (
        "import sys; from robis.encoders.names import own_input_size as size\n"
        f"print(size('ViT-L-14-336'), size('ViT-B-16-plus-240'), size({config!r}), 'torch' in sys.modules)"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.split() == ["336", "240", str(SIZE), "False"]


def test_tokens_and_embedding_are_open_clips(
    config: str, saved: Path, reference: open_clip.CLIP, tiles: torch.Tensor, images: torch.Tensor
) -> None:
    encoder = build_encoder(config, weights=str(saved), blocks=[0, 2])
    assert isinstance(encoder, ClipEncoder)
    shape = (encoder.width, encoder.heads, encoder.grid, encoder.input_size, encoder.blocks, encoder.embedding_width)
    assert shape == (WIDTH, 2, GRID, SIZE, (0, 2), EMBEDDING)
    outputs: list[torch.Tensor] = []
    hooks = [
        reference.visual.transformer.resblocks[block].register_forward_hook(lambda _, __, out: outputs.append(out))
        for block in (0, 2)
    ]
    with torch.no_grad():
        expected = reference.encode_image(images, normalize=True)
        intermediate = reference.forward_intermediates(image=images, image_indices=[0, 2], image_output_fmt="NLC")
    for hook in hooks:
        hook.remove()
    tokens, embedding = encoder.with_embedding(tiles)
    assert expected.std(dim=0).mean() > 0.02, "embeddings that are all the same would agree with anything"
    torch.testing.assert_close(embedding, expected, rtol=0, atol=1e-5)
    for found in (tokens, encoder(tiles), intermediate["image_intermediates"]):
        assert [tuple(one.shape) for one in found] == [(3, GRID * GRID, WIDTH)] * 2
        for one, out in zip(found, outputs, strict=False):
            torch.testing.assert_close(one, out[:, 1:], rtol=1e-5, atol=1e-5)


def test_the_two_halves_make_the_whole(
    config: str, saved: Path, reference: open_clip.CLIP, tiles: torch.Tensor, images: torch.Tensor
) -> None:
    encoder = build_clip_encoder(config, weights=str(saved))
    embedding, tokens = encoder.transformed(encoder.embedded(tiles))
    with torch.no_grad():
        whole = reference.forward_intermediates(
            image=images, image_indices=[2], normalize=False, normalize_intermediates=True, image_output_fmt="NLC"
        )
        torch.testing.assert_close(embedding, reference.encode_image(images), rtol=1e-5, atol=1e-5)
    torch.testing.assert_close(tokens, whole["image_intermediates"][0], rtol=1e-5, atol=1e-5)


def test_encoder_stays_frozen(config: str) -> None:
    encoder = build_encoder(config, weights="random").train()
    assert not encoder.vit.training
    assert not any(parameter.requires_grad for parameter in encoder.parameters())
    assert encoder.blocks == (0, 1, 2)


def test_random_weights_follow_the_seed(config: str, tiles: torch.Tensor) -> None:
    first, same, other = (build_encoder(config, weights="random", seed=seed)(tiles)[0] for seed in (0, 0, 1))
    assert torch.equal(first, same)
    assert not torch.equal(first, other)


@pytest.mark.parametrize("kind", ["wrapped", "half", "openai"])
def test_files_of_every_layout_load(config: str, folder: Path, reference: open_clip.CLIP, kind: str) -> None:
    state = dict(reference.state_dict())
    expected = {name: value.half().float() if kind == "half" else value for name, value in state.items()}
    if kind == "wrapped":
        state = {"epoch": 32, "state_dict": {f"module.{name}": value for name, value in state.items()}}
    if kind == "half":
        state = {name: value.half() for name, value in state.items()}
    if kind == "openai":
        state |= {name: torch.tensor(77) for name in ("input_resolution", "context_length", "vocab_size")}
    torch.save(state, folder / f"{kind}.pt")
    found = build_clip(config, weights=str(folder / f"{kind}.pt")).state_dict()
    for name, value in expected.items():
        assert torch.equal(found[name], value), name


def test_a_text_tower_of_its_own_takes_the_old_layout(folder: Path, saved: Path, reference: open_clip.CLIP) -> None:
    name = str(write_config(folder, "custom.json", custom_text=True))
    model = build_clip(name, weights=str(saved))
    assert isinstance(model, open_clip.CustomTextCLIP)
    torch.testing.assert_close(model.text.text_projection, reference.text_projection.detach())


def test_position_embeddings_are_resized_as_open_clip_does(config: str, saved: Path) -> None:
    encoder = build_clip_encoder(config, weights=str(saved), input_size=72)
    larger = open_clip.CLIP(**CONFIG | {"vision_cfg": CONFIG["vision_cfg"] | {"image_size": 72}})
    load_checkpoint(larger, str(saved))
    assert (encoder.grid, encoder.input_size) == (9, 72)
    torch.testing.assert_close(encoder.vit.positional_embedding, larger.visual.positional_embedding.detach())


def test_position_embeddings_of_token_encoders_are_resized_as_musc_does(
    config: str, saved: Path, reference: open_clip.CLIP
) -> None:
    """MuSc's copy of open_clip: bicubic, not antialiased; smaller grids tell both apart."""
    encoder = build_encoder(config, weights=str(saved), input_size=32)
    own = reference.visual.positional_embedding.detach()
    maps = own[1:].T.reshape(1, WIDTH, GRID, GRID)
    resized = F.interpolate(maps, size=(4, 4), mode="bicubic", align_corners=False)
    expected = torch.cat([own[:1], resized[0].flatten(1).T])
    torch.testing.assert_close(encoder.vit.positional_embedding, expected)
    antialiased = build_clip_encoder(config, weights=str(saved), input_size=32)
    assert (antialiased.vit.positional_embedding - expected).abs().max() > 0.1


@pytest.mark.usefixtures("tiny_instead")
@pytest.mark.parametrize(
    ("name", "expected"),
    [
        *(("clip_vitb16", True), ("clip_vitl14_336", True), ("clip_vitb16plus", False)),
        *(("ViT-B-16", False), ("ViT-B-16-quickgelu", True), ("ViT-L-14-336-quickgelu", True)),
    ],
)
def test_activation_of_a_local_file_follows_the_name(saved: Path, name: str, expected: bool) -> None:
    assert has_quick_gelu(build_clip(name, weights=str(saved), input_size=SIZE)) == {expected}


@pytest.mark.usefixtures("tiny_instead")
@pytest.mark.parametrize(
    ("name", "weights", "repository", "expected"),
    [
        ("ViT-B-16", "openai", "timm--vit_base_patch16_clip_224.openai", True),
        ("clip_vitb16", "auto", "timm--vit_base_patch16_clip_224.openai", True),
        ("clip_vitb16", "laion400m_e31", "timm--vit_base_patch16_clip_224.laion400m_e31", False),
        ("clip_vitb32", "laion400m_e31", "timm--vit_base_patch32_clip_224.laion400m_e31", True),
        ("clip_vitl14_336", "auto", "timm--vit_large_patch14_clip_336.openai", True),
        ("ViT-B-16-plus-240", "auto", "timm--vit_base_patch16_plus_clip_240.laion400m_e31", False),
    ],
)
def test_published_weights_come_from_the_hubs_cache(
    monkeypatch: pytest.MonkeyPatch,
    tmp_path: Path,
    saved: Path,
    tiles: torch.Tensor,
    name: str,
    weights: str,
    repository: str,
    expected: bool,
) -> None:
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_CACHE", str(tmp_path))
    snapshot = tmp_path / f"models--{repository}" / "snapshots" / "0123abcd"
    snapshot.mkdir(parents=True)
    (snapshot / "open_clip_model.safetensors").write_bytes(saved.read_bytes())
    refs = tmp_path / f"models--{repository}" / "refs"
    refs.mkdir()
    (refs / "main").write_text("0123abcd")
    model = build_clip(name, weights=weights, input_size=SIZE)
    assert has_quick_gelu(model) == {expected}
    local = build_clip(name, weights=str(saved), input_size=SIZE)
    torch.testing.assert_close(model.visual.conv1.weight, local.visual.conv1.weight)


@pytest.mark.usefixtures("tiny_instead")
def test_mean_and_std_are_those_of_the_weights(folder: Path) -> None:
    """Of the published ones, of those that the model would have, of the config's own, or OpenAI's."""
    encoder = build_clip_encoder("ViT-L-14-CLIPA", weights="random", input_size=SIZE)
    torch.testing.assert_close(encoder.mean.flatten(), torch.tensor(IMAGENET))
    own = {"model_cfg": CONFIG, "preprocess_cfg": {"mean": [0.5, 0.5, 0.5], "std": [0.25, 0.5, 1.0]}}
    (folder / "open_clip_config.json").write_text(json.dumps(own))
    encoder = build_clip_encoder(str(folder / "open_clip_config.json"), weights="random")
    assert (encoder.mean.flatten().tolist(), encoder.std.flatten().tolist()) == ([0.5] * 3, [0.25, 0.5, 1.0])
    encoder = build_clip_encoder("clip_vitb16", weights="random", input_size=SIZE)
    torch.testing.assert_close(encoder.mean.flatten(), torch.tensor(open_clip.OPENAI_DATASET_MEAN))


def test_sentences_are_embedded_as_open_clip_does(config: str, saved: Path, reference: open_clip.CLIP) -> None:
    sentences = ["a photo of a lid.", "a photo of the damaged lid for visual inspection.", "lid"]
    model = build_clip(config, weights=str(saved))
    found = embed_sentences(model, config, sentences, device=torch.device("cpu"), batch_size=2)
    tokenize = open_clip.get_tokenizer("ViT-B-16")
    with torch.no_grad():
        expected = torch.cat([reference.encode_text(tokenize(sentence)) for sentence in sentences])
    assert F.cosine_similarity(expected[0], expected[1], dim=0) < 0.999
    torch.testing.assert_close(found, expected, rtol=1e-5, atol=1e-5)


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"name": "ViT-B-17"}, r"'ViT-B-17' is no known encoder\. Did you mean 'ViT-B-1\d'\? Valid: efficientnet_"),
        ({"name": "clip_vitb16_PLUS"}, "Did you mean 'clip_vitb16'"),
        ({"name": "Dinov2_reg_vitb14"}, "Did you mean 'dinov2_reg_vitb14'"),
        ({"name": "nowhere.json"}, r"nowhere\.json cannot be read as JSON \(.*No such file"),
        ({"name": "ViT-B-16-SigLIP"}, r"image tower of ViT-B-16-SigLIP is not a ViT of open_clip's own; .*ViT-B-32"),
        ({"name": "RN50"}, "image tower of RN50 is not a ViT"),
        ({"name": "clip_vitb16", "input_size": 250}, r"input_size: found 250; expected a multiple of .* 16 pixels"),
        ({"name": "clip_vitb16", "weights": "opnai"}, r"weights: found 'opnai' for clip_vitb16\. .*mean 'openai'\?"),
        ({"name": "clip_vitb16", "weights": "laion_400m"}, r"Valid: openai, laion400m_e31.* Or random, or the path"),
        ({"name": "ViT-H-14", "weights": "auto"}, r"weights: found 'auto' for ViT-H-14\. Valid: laion2b_s32b_b79k"),
    ],
)
def test_config_mistakes(arguments: dict, message: str) -> None:
    with pytest.raises(ConfigError, match=message):
        build_encoder(**{"weights": "random"} | arguments)


def test_mistakes_in_a_config_file(folder: Path, config: str) -> None:
    with pytest.raises(ConfigError, match=r"found 'auto', but none are published for .*tiny\.json\. Expected: random"):
        build_encoder(config)
    with pytest.raises(ConfigError, match=r"blocks: found \[1, 3\]; expected ascending numbers from 0 to 2"):
        build_encoder(config, weights="random", blocks=[1, 3])
    (folder / "list.json").write_text("[]")
    with pytest.raises(ConfigError, match=r"list\.json has no 'vision_cfg'; expected a model config of open_clip"):
        build_encoder(str(folder / "list.json"), weights="random")
    (folder / "broken.json").write_text("{")
    with pytest.raises(ConfigError, match=r"broken\.json cannot be read as JSON"):
        own_input_size(str(folder / "broken.json"))
    wide = write_config(folder, "wide.json", vision_cfg={"image_size": [48, 64]})
    with pytest.raises(ConfigError, match=r"takes images of \[48, 64\] pixels; expected one that takes square ones"):
        own_input_size(str(wide))
    odd = write_config(folder, "odd.json", vision_cfg={"depth": 3})
    with pytest.raises(ConfigError, match=r"odd\.json at 48 pixels cannot be built \(.*'depth'"):
        build_encoder(str(odd), weights="random")


def test_weights_that_do_not_fit(folder: Path, config: str, saved: Path, reference: open_clip.CLIP) -> None:
    with pytest.raises(WeightsError, match=r"encoder\.weights: .*nowhere\.safetensors does not exist\. Put the file"):
        build_encoder(config, weights=str(folder / "nowhere.safetensors"))
    with pytest.raises(WeightsError, match=r"tiny\.safetensors has sha256 .*; expected 0000"):
        build_encoder(config, weights=str(saved), sha256="0" * 64)
    wide = str(write_config(folder, "wider.json", text_cfg={"width": 32}))
    with pytest.raises(WeightsError, match=r"'positional_embedding' is \(77, 16\); expected \(77, 32\) for .*wider"):
        build_encoder(wide, weights=str(saved))
    state = dict(reference.state_dict())
    del state["visual.ln_post.bias"]
    torch.save(state, folder / "short.pt")
    with pytest.raises(WeightsError, match=r"short\.pt: has no 'visual\.ln_post\.bias'; expected \(32,\)"):
        build_encoder(config, weights=str(folder / "short.pt"))
    cast = reference.state_dict() | {"visual.ln_post.bias": torch.ones(WIDTH, dtype=torch.int32)}
    torch.save(cast, folder / "cast.pt")
    with pytest.raises(WeightsError, match=r"'visual\.ln_post\.bias' is int32; .*tiny\.json needs float32"):
        build_encoder(config, weights=str(folder / "cast.pt"))


@pytest.mark.filterwarnings("ignore:`torch.jit")
def test_torchscript_is_not_run_but_its_conversion_works(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path, config: str, reference: open_clip.CLIP
) -> None:
    """OpenAI's own files are TorchScript archives; the command of the message is executed as it stands."""
    monkeypatch.chdir(tmp_path)

    class Part(torch.nn.Module):
        def forward(self) -> None:
            return None

    root = Part()
    for name, value in (reference.state_dict() | {"input_resolution": torch.tensor(SIZE)}).items():
        *parents, leaf = name.split(".")
        part = root
        for parent in parents:
            if parent not in dict(part.named_children()):
                part.add_module(parent, Part())
            part = part.get_submodule(parent)
        part.register_buffer(leaf, value)
    torch.jit.save(torch.jit.script(root), "ViT-B-16.pt")
    with pytest.raises(
        WeightsError, match=r"is a TorchScript archive, as OpenAI .*Use encoder\.weights: openai"
    ) as told:
        build_encoder(config, weights="./ViT-B-16.pt")
    command = re.search(r'python -c "(.*)"', str(told.value))
    assert command
    exec(command[1])
    converted = build_clip(config, weights="ViT-B-16.safetensors").state_dict()
    assert all(torch.equal(converted[name], value) for name, value in reference.state_dict().items())


@pytest.mark.parametrize(
    ("name", "weights", "message"),
    [
        (
            "clip_vitl14_336",
            "auto",
            r"weights: openai of clip_vitl14_336 could not be downloaded .*hf download timm/vit_large_patch14_clip_336"
            r"\.openai open_clip_model\.safetensors\. .*set encoder\.weights to its path\.",
        ),
        ("clip_vitb16", "laion400m_e31", r"its path and encoder\.name to ViT-B-16\."),
        ("ViT-B-16", "openai", r"its path and encoder\.name to ViT-B-16-quickgelu\."),
    ],
)
@pytest.mark.usefixtures("tiny_instead")
def test_weights_that_cannot_be_downloaded_say_what_to_do(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path, name: str, weights: str, message: str
) -> None:
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_CACHE", str(tmp_path))
    with pytest.raises(WeightsError, match=message):
        build_clip(name, weights=weights, input_size=SIZE)


class MissingError(Exception):
    """What the hub raises for a file that the repository does not have."""

    response = SimpleNamespace(status_code=404)


@pytest.mark.usefixtures("tiny_instead")
@pytest.mark.parametrize(
    "error", [OSError(28, "No space left"), RuntimeError("checksum"), KeyError("x"), MissingError("x")]
)
def test_any_failure_of_a_download_is_told(monkeypatch: pytest.MonkeyPatch, error: Exception) -> None:
    asked: list[str] = []

    def fail(repository: str, file: str, local_files_only: bool = False) -> None:
        asked.extend([] if local_files_only else [file])
        raise error

    monkeypatch.setattr(clip, "hf_hub_download", fail)
    with pytest.raises(WeightsError, match=r"openai of clip_vitb16 could not be downloaded \(.*(No space|checksum|x)"):
        build_clip("clip_vitb16", input_size=SIZE)
    other = ["open_clip_pytorch_model.bin"] if isinstance(error, MissingError) else []
    assert asked == ["open_clip_model.safetensors", *other]


@pytest.mark.usefixtures("tiny_instead")
def test_the_other_file_is_taken_where_there_is_no_first(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path, reference: open_clip.CLIP
) -> None:
    torch.save(reference.state_dict(), tmp_path / "open_clip_pytorch_model.bin")

    def fetch(repository: str, file: str, local_files_only: bool = False) -> str:
        if local_files_only or file.endswith(".safetensors"):
            raise MissingError(file)
        return str(tmp_path / file)

    monkeypatch.setattr(clip, "hf_hub_download", fetch)
    found = build_clip("clip_vitb16", input_size=SIZE).state_dict()
    assert torch.equal(found["visual.proj"], reference.visual.proj)


def test_tokenizers_that_are_not_here(folder: Path) -> None:
    small = str(write_config(folder, "small.json", text_cfg={"vocab_size": 1000}))
    with pytest.raises(ConfigError, match=r"small\.json knows 1000 tokens; expected 49408, CLIP's vocabulary"):
        embed_sentences(build_clip(small, weights="random"), small, ["x"], device=torch.device("cpu"))
    other = str(write_config(folder, "other.json", text_cfg={"hf_tokenizer_name": "nobody/none"}))
    with pytest.raises(WeightsError, match=r"the tokenizer of .*other\.json, nobody/none, could not be loaded"):
        embed_sentences(build_clip(other, weights="random"), other, ["x"], device=torch.device("cpu"))
