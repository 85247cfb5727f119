"""The winclip_embed_prompts stage: what "normal" and "anomalous" mean for a product, as two vectors."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor

from robis.detectors.model_files import write_model
from robis.detectors.winclip.prompts import prompts
from robis.encoders.clip import build_clip, embed_sentences
from robis.encoders.devices import pick_device
from robis.encoders.names import CLIP_ARCHITECTURES, is_clip
from robis.errors import ConfigError


def embed_prompts(
    output: Path,
    *,
    encoder: Mapping[str, Any],
    class_name: str,
    normal_states: Sequence[str] | None = None,
    anomalous_states: Sequence[str] | None = None,
    templates: Sequence[str] | None = None,
    seed: int = 0,
    device: str = "auto",
) -> None:
    """Write the text features of one category: safetensors with "normal" and "anomalous", (D,) float32 of length 1.

    Args:
        output: what is written.
        encoder: arguments of `build_clip`.
        class_name: what the product is called; underscores are read as spaces.
        normal_states, anomalous_states, templates: see `prompts`; None takes the published ones.
        seed: of random weights.
        device: "auto", "cpu", "cuda", ...

    Raises:
        ConfigError: prompts without {}, or an encoder that knows no language.
    """
    name = str(encoder["name"])
    if not is_clip(name):
        raise ConfigError(
            f"encoder.name: found {name!r}, which knows no language; winclip needs a CLIP: "
            f"{', '.join(CLIP_ARCHITECTURES)}, another of open_clip's or the path of its model config (.json)."
        )
    normal, anomalous = prompts(class_name, normal_states, anomalous_states, templates)
    where = pick_device(device)
    model = build_clip(**encoder, seed=seed).to(where)

    def mean(sentences: list[str]) -> Tensor:
        # As published: the mean of the embeddings as they are, not of unit vectors.
        return F.normalize(embed_sentences(model, name, sentences, device=where).mean(dim=0), dim=0).cpu()

    with torch.inference_mode():
        write_model(output, {"normal": mean(normal), "anomalous": mean(anomalous)}, "winclip", encoder=name)
