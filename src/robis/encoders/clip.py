"""CLIP by open_clip: its weights, its image tower as an encoder, its text tower as a function of sentences.

Source: Radford et al., Learning Transferable Visual Models From Natural Language Supervision (arXiv 2103.00020). Models
and published weights are those of open_clip.
"""

from __future__ import annotations

import zipfile
from collections.abc import Callable, Mapping, Sequence
from contextlib import nullcontext, suppress
from pathlib import Path
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor

from robis.encoders.encoder import Choice, Encoder, TokenLayout, check_blocks
from robis.encoders.fitting import check_state
from robis.encoders.names import CLIP_ARCHITECTURES, clip_config, is_pretrained_tag, own_input_size, quarter_blocks
from robis.encoders.timm_models import without_network
from robis.encoders.unfilled import ZerosForRandom
from robis.encoders.weights import first_line, read_state
from robis.encoders.without_compiler import compiler_left_out
from robis.errors import ConfigError, WeightsError, one_of
from robis.io.copies import copy_of
from robis.io.names import expanded
from robis.io.weights import check_file

with compiler_left_out():
    import open_clip
    from open_clip.model import convert_to_custom_text_state_dict, resize_pos_embed, set_model_preprocess_cfg
    from open_clip.pretrained import get_pretrained_cfg, hf_hub_download, list_pretrained_tags_by_model
    from open_clip.tokenizer import HFTokenizer

# What OpenAI's files hold beside the parameters.
_NO_PARAMETERS = ("input_resolution", "context_length", "vocab_size")
_VOCABULARY = 49408
# What published weights are called on the hub where open_clip's table names only the repository.
_FILES = ("open_clip_model.safetensors", "open_clip_pytorch_model.bin")


class ClipEncoder(Encoder):
    """The image tower of a CLIP: tokens are the outputs of blocks without final norm and without the class token.

    Attributes:
        embedding_width: channels D of an image embedding, which is in the space of the text embeddings.
    """

    def __init__(self, visual: Any, blocks: Sequence[int]) -> None:
        layout = TokenLayout(
            blocks=tuple(blocks),
            widths=(int(visual.conv1.out_channels),) * len(blocks),
            heads=int(visual.transformer.resblocks[0].attn.num_heads),
            grid=int(visual.grid_size[0]),
            input_size=int(visual.image_size[0]),
        )
        super().__init__(layout, visual.image_mean, visual.image_std)
        self.vit = visual.eval().requires_grad_(False)
        self.embedding_width = int(visual.output_dim)

    def load_weights(self, state: Mapping[str, Tensor], *, source: str, name: str) -> None:
        """Load weights of the image tower in open_clip's key names, without their prefix "visual."."""
        check_state(state, self.vit.state_dict(), source=source, made_for=name)
        self.vit.load_state_dict(state)

    def _tokens(self, images: Tensor) -> list[Tensor]:
        outputs = self.vit.forward_intermediates(
            images, indices=list(self.blocks), output_fmt="NLC", intermediates_only=True, stop_early=True
        )
        return outputs["image_intermediates"]

    def _tokens_and_embedding(self, images: Tensor) -> tuple[list[Tensor], Tensor]:
        """Tokens, and image embeddings of length 1, as MuSc takes them of CLIP."""
        outputs = self.vit.forward_intermediates(images, indices=list(self.blocks), output_fmt="NLC")
        return outputs["image_intermediates"], F.normalize(outputs["image_features"], dim=-1)

    @torch.no_grad()
    def embedded(self, tiles: Tensor) -> Tensor:
        """What enters the transformer: (B, 1 + g*g, C), the class token first, with position embeddings.

        Any part of it that keeps the class token can go through `transformed` by itself.

        Args:
            tiles: uint8 or float (B, s, s, 3) RGB, range 0..255.
        """
        # open_clip names no public method for the two halves of its forward pass.
        return self.vit._embeds(self._normalized(tiles))

    @torch.no_grad()
    def transformed(self, tokens: Tensor) -> tuple[Tensor, Tensor]:
        """Pass tokens (B, 1 + T, C) through the transformer.

        Returns:
            Image embeddings (B, D), not normalized, and the tokens (B, T, C) after the final norm (as open_clip
            gives them: a model that pools first does not norm its tokens).
        """
        pooled, normed = self.vit._pool(self.vit.transformer(tokens))
        return pooled if self.vit.proj is None else pooled @ self.vit.proj, normed


def build_clip_tokens(choice: Choice) -> ClipEncoder:
    """Make the encoder that `robis.encoders.build.build_encoder` gives for a CLIP: MuSc's.

    MuSc's copy of open_clip resizes position embeddings without antialiasing; open_clip itself, and with it WinCLIP,
    antialiases them.
    """
    return build_clip_encoder(
        choice.name,
        weights=choice.weights,
        sha256=choice.sha256,
        input_size=choice.input_size,
        blocks=choice.blocks,
        by_depth=choice.by_depth,
        seed=choice.seed,
        antialias=False,
    )


def build_clip_encoder(
    name: str,
    *,
    weights: str = "auto",
    sha256: str | None = None,
    input_size: int | None = None,
    blocks: Sequence[int] | None = None,
    by_depth: Callable[[int], Sequence[int]] | None = None,
    seed: int = 0,
    antialias: bool = True,
) -> ClipEncoder:
    """Make a frozen encoder of a CLIP's image tower; arguments and errors as `build_clip`.

    `blocks` are 0-based indexes; None takes what `by_depth` gives, or the last of each quarter.
    """
    options: dict[str, Any] = {"input_size": input_size, "seed": seed, "antialias": antialias}
    visual = build_clip(name, weights=weights, sha256=sha256, **options).visual
    depth = len(visual.transformer.resblocks)
    if blocks is None:
        blocks = (by_depth or quarter_blocks)(depth)
    return ClipEncoder(visual, check_blocks(blocks, depth, name))


def build_clip(
    name: str,
    *,
    weights: str = "auto",
    sha256: str | None = None,
    input_size: int | None = None,
    seed: int = 0,
    antialias: bool = True,
) -> Any:
    """Make a frozen CLIP in evaluation mode, whose image tower is a ViT of open_clip.

    QuickGELU, which OpenAI's and some other weights were trained with and no file records, is used where open_clip's
    table says so of the tag; for a local file where it says so of the short name's own tag, and under any other name
    where the model config says so (ViT-B-16 does not, ViT-B-16-quickgelu does). The mean and standard deviation of
    the input follow the same table.

    Args:
        name: a short name of `CLIP_ARCHITECTURES`, open_clip's own name, or the path of a model config (.json).
        weights: "auto" (the published ones of the short name), a tag of open_clip's (openai, laion400m_e32, ...;
            both are downloaded from the Hugging Face hub or found in its cache), "random" (from `seed`), or the path
            of a local .safetensors or torch file in open_clip's key names.
        sha256: digest that the local file must have; None does not check.
        input_size: side of a tile in pixels, a multiple of the patch; None takes the name's own.
        seed: for random weights.
        antialias: whether position embeddings, which are resized bicubically, are antialiased, as in open_clip; MuSc's
            copy of open_clip does not.

    Returns:
        The open_clip model (CLIP, CustomTextCLIP or CoCa), float32, on the CPU.

    Raises:
        ConfigError: an unknown name, tag or config, or a size that the model cannot have.
        WeightsError: weights that are absent, hold code or do not fit.
    """
    config, preprocessing = clip_config(name)
    tag = _tag(name, weights)
    known = CLIP_ARCHITECTURES.get(name)
    published = _published(name, tag or _own_tag(name) or "")
    quick_gelu = (published if tag or known else config).get("quick_gelu", False)
    size = input_size or own_input_size(name)
    with torch.random.fork_rng(devices=[]), nullcontext() if weights == "random" else ZerosForRandom():
        torch.manual_seed(seed)
        model = _construct(name, config, size, quick_gelu=quick_gelu)
    scaling = {
        "mean": open_clip.OPENAI_DATASET_MEAN,
        "std": open_clip.OPENAI_DATASET_STD,
        **{key: published[key] for key in ("mean", "std") if key in published},
        **{key: preprocessing[key] for key in ("mean", "std") if key in preprocessing},
    }
    set_model_preprocess_cfg(model, scaling)
    if weights != "random":
        file = _download(name, tag) if tag else expanded(weights)
        source = f"encoder.weights: {weights}"
        state = _read(file, sha256 if not tag else None)
        load_clip_state(model, state, source=source, name=name, antialias=antialias)
    return model.eval().requires_grad_(False)


@torch.no_grad()
def embed_sentences(
    model: Any, name: str, sentences: Sequence[str], *, device: torch.device, batch_size: int = 32
) -> Tensor:
    """Text embeddings of sentences, (N, D) float32, not normalized.

    Args:
        model: a model of `build_clip`, on `device`.
        name: its name, which says how it reads text.
        sentences: N sentences.
        device: where the model is.
        batch_size: sentences per forward pass.

    Raises:
        ConfigError: the model has another vocabulary than CLIP's.
        WeightsError: its tokenizer is not on this machine and cannot be downloaded.
    """
    tokenize = _tokenizer(name)
    parts = [sentences[start : start + batch_size] for start in range(0, len(sentences), batch_size)]
    return torch.cat([model.encode_text(tokenize(list(part)).to(device)).float() for part in parts])


def _open_clip_name(name: str) -> str:
    return CLIP_ARCHITECTURES[name].model if name in CLIP_ARCHITECTURES else name


def _own_tag(name: str) -> str | None:
    """The tag that "auto" means: the short name's, otherwise OpenAI's or the only one."""
    for known in CLIP_ARCHITECTURES.values():
        if known.model == _open_clip_name(name):
            return known.tag
    tags = list_pretrained_tags_by_model(name)
    return "openai" if "openai" in tags else tags[0] if len(tags) == 1 else None


def _published(name: str, tag: str) -> dict[str, Any]:
    """What open_clip's table says of weights: hf_hub, mean, std, quick_gelu; nothing if it does not know them."""
    return dict(get_pretrained_cfg(_open_clip_name(name), tag))


def _tag(name: str, weights: str) -> str | None:
    """The tag of published weights; None for random weights and for a local file."""
    if weights != "auto" and not is_pretrained_tag(name, weights):
        return None
    tag = _own_tag(name) if weights == "auto" else weights
    tags = list_pretrained_tags_by_model(_open_clip_name(name))
    if tag and _published(name, tag):
        return tag
    other = "random, or the path of a weights file (with its suffix, such as .safetensors)"
    if not tags:
        raise ConfigError(f"encoder.weights: found {weights!r}, but none are published for {name}. Expected: {other}.")
    raise ConfigError(f"encoder.weights: found {weights!r} for {name}. {one_of(weights, tags)} Or {other}.")


def _construct(name: str, config: Mapping[str, Any], size: int, *, quick_gelu: bool) -> Any:
    vision, text = dict(config["vision_cfg"]), dict(config["text_cfg"])
    if "timm_model_name" in vision or isinstance(vision.get("layers"), list):
        raise ConfigError(
            f"encoder.name: the image tower of {name} is not a ViT of open_clip's own; expected such as "
            f"{', '.join(known.model for known in CLIP_ARCHITECTURES.values())}."
        )
    patch = vision.get("patch_size", 16)
    if not isinstance(patch, int) or size % patch:
        raise ConfigError(f"encoder.input_size: found {size}; expected a multiple of {name}'s patch, {patch} pixels.")
    vision["image_size"] = size
    kind = open_clip.CLIP
    if config.get("custom_text", False) or "hf_model_name" in text:
        kind = open_clip.CoCa if "multimodal_cfg" in config else open_clip.CustomTextCLIP
    if "hf_model_name" in text:
        text["hf_model_pretrained"] = False
    rest = {key: value for key, value in config.items() if key != "custom_text"}
    try:
        return kind(**rest | {"vision_cfg": vision, "text_cfg": text, "quick_gelu": quick_gelu})
    except Exception as error:  # what a text tower of another library needs may be absent in many ways
        raise ConfigError(f"encoder: {name} at {size} pixels cannot be built ({first_line(error)}).") from error


def _download(name: str, tag: str) -> Path:
    """The file of published weights, from the hub's cache or the hub itself."""
    repository, _, file = _published(name, tag)["hf_hub"].rpartition("/")
    files = [file] if file else list(_FILES)
    for candidate in files:
        with suppress(Exception):  # not in the cache
            return Path(hf_hub_download(repository, candidate, local_files_only=True))
    try:
        try:
            return Path(hf_hub_download(repository, files[0]))
        except Exception as error:
            # Without a network, asking for another file would wait as long again.
            if getattr(getattr(error, "response", None), "status_code", None) != 404 or len(files) == 1:
                raise
            return Path(hf_hub_download(repository, files[1]))
    except Exception as error:  # no network, no such repository, a full disk: they share no base class
        quick = _published(name, tag).get("quick_gelu", False)
        raise WeightsError(
            f"encoder.weights: {tag} of {name} could not be downloaded ({first_line(error)}). "
            f"On a machine with a network: hf download {repository} {files[0]}. "
            f"Copy the file here, for example into weights/, and set encoder.weights to its path"
            f"{_name_for_a_file(name, quick_gelu=quick)}. {without_network()}"
        ) from error


def _name_for_a_file(name: str, *, quick_gelu: bool) -> str:
    """Under which name a downloaded file gets the activation it was trained with, where that is another name."""
    known = CLIP_ARCHITECTURES.get(name)
    here = _published(name, known.tag) if known else clip_config(name)[0]
    if here.get("quick_gelu", False) == quick_gelu:
        return ""
    return f" and encoder.name to {_open_clip_name(name)}{'-quickgelu' if quick_gelu else ''}"


def _read(file: Path, sha256: str | None) -> dict[str, Tensor]:
    check_file(file, "encoder.weights")
    if zipfile.is_zipfile(copy_of(file)):
        with zipfile.ZipFile(copy_of(file)) as archive:
            holds_code = any(entry.endswith("/constants.pkl") for entry in archive.namelist())
        if holds_code:
            raise WeightsError(
                f"encoder.weights: {file} is a TorchScript archive, as OpenAI published its models; it holds code, "
                f"which is not run. Use encoder.weights: openai, or convert a file that you trust, once: python -c "
                f'"import torch; from safetensors.torch import save_file; '
                f"save_file({{k: v.float() for k, v in torch.jit.load('{file.name}', 'cpu').state_dict().items()}}, "
                f"'{file.stem}.safetensors')\""
            )
    return read_state(file, sha256=sha256, key="encoder.weights")


def load_clip_state(model: Any, state: Mapping[str, Tensor], *, source: str, name: str, antialias: bool = True) -> None:
    """Load weights in open_clip's key names, of the old layout too; float16 and bfloat16 become float32.

    Position embeddings of another grid are resized bicubically (open_clip); `antialias` as in `build_clip`.

    Raises:
        WeightsError: naming the first key that is missing, superfluous, of another shape or type.
    """
    reduced = (torch.float16, torch.bfloat16)
    renamed = {key: value for key, value in state.items() if key not in _NO_PARAMETERS}
    renamed = {key: value.float() if value.dtype in reduced else value for key, value in renamed.items()}
    if not hasattr(model, "positional_embedding"):
        renamed = convert_to_custom_text_state_dict(renamed)
    expected = model.state_dict()
    try:
        for key in {"logit_scale", "logit_bias"} & set(renamed) & set(expected):
            renamed[key] = renamed[key].reshape(expected[key].shape)
        resize_pos_embed(renamed, model, antialias=antialias)
    except (RuntimeError, ValueError, IndexError) as error:
        raise WeightsError(f"{source}: made for another model than {name} ({first_line(error)}).") from error
    check_state(renamed, expected, source=source, made_for=name)
    model.load_state_dict(renamed)


def _tokenizer(name: str) -> Callable[[list[str]], Tensor]:
    text = clip_config(name)[0]["text_cfg"]
    length, options = text.get("context_length", 77), text.get("tokenizer_kwargs", {})
    source = text.get("hf_tokenizer_name")
    if not source:
        if text.get("vocab_size", _VOCABULARY) < _VOCABULARY:
            raise ConfigError(
                f"encoder.name: {name} knows {text['vocab_size']} tokens; expected {_VOCABULARY}, CLIP's vocabulary."
            )
        return open_clip.SimpleTokenizer(context_length=length, **options)
    try:
        return HFTokenizer(source, context_length=length, tokenizer_mode=text.get("tokenizer_mode"), **options)
    except Exception as error:  # transformers absent, no network, no such repository
        raise WeightsError(
            f"encoder.name: the tokenizer of {name}, {source}, could not be loaded ({first_line(error)}). It needs "
            f"the package transformers and a download from the Hugging Face hub: hf download {source}. Or take a "
            f"model with CLIP's own vocabulary: {', '.join(CLIP_ARCHITECTURES)}."
        ) from error
