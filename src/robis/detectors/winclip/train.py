"""The train stage of few-shot WinCLIP: nothing is learned; a few normal images are drawn and what CLIP sees is kept."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from difflib import get_close_matches
from pathlib import Path
from typing import Any

import numpy as np
import torch
from safetensors.torch import save

from robis.detectors.history import write_empty_history
from robis.detectors.winclip.tiles import embed_batches
from robis.encoders.clip import build_clip_encoder
from robis.encoders.devices import pick_device
from robis.errors import ConfigError, DataError
from robis.io.atomic import atomic_file
from robis.tiles.store import open_tiles


def train_category(
    tiles: Path,
    table: Path,
    model: Path,
    history: Path,
    *,
    identity: str,
    encoder: Mapping[str, Any],
    shots: int,
    reference_seed: int,
    scales: Sequence[int],
    references: Sequence[str] | None = None,
    batch_size: int = 16,
    precision: str = "float32",
    seed: int = 0,
    device: str = "auto",
    threads: int = 1,
) -> None:
    """Write the features of a few normal images, to which tiles are compared, and an empty history.

    The model is a safetensors file with "patches" (R, C) and "windows_K" (R', D) per scale K, float32 of length 1.
    Its metadata has one entry, "winclip": JSON with the encoder's name and the references' sample_ids.

    Args:
        tiles, table: the tile store of the train split.
        model, history: what is written.
        identity: not needed, since there is no state to resume; every `train_category` is given one.
        encoder: arguments of `build_clip_encoder`.
        shots: number of reference images.
        reference_seed: of the draw; the draw for more shots of the same seed holds that for fewer.
        scales: sides of the windows in tokens.
        references: sample_ids to take instead of drawn ones, the first `shots` of them; None or none: drawn.
        batch_size: tiles per forward pass of whole tiles.
        precision: "float32", "bf16" or "fp16", on a GPU.
        seed: of random weights.
        device: "auto", "cpu", "cuda", ...
        threads: batches read ahead of the arithmetic.

    Raises:
        ConfigError: a reference that is no training image, fewer references than shots, scales that do not fit.
        DataError: fewer training images than shots.
    """
    if shots < 1:
        raise ConfigError(f"winclip.shots: found {shots}; expected at least 1 to train. Zero-shot needs no model.")
    store, rows = open_tiles(tiles, table)
    names = sorted(rows["sample_id"].unique())
    chosen = _listed(references, names, shots) if references else draw(names, shots, reference_seed, source=table)
    where = pick_device(device)
    found = embed_batches(
        build_clip_encoder(**encoder, seed=seed).to(where),
        np.array(store[rows["sample_id"].isin(chosen).to_numpy()]),
        scales=scales,
        batch_size=batch_size,
        precision=precision,
        device=where,
        threads=threads,
    )
    parts = [{name: values for name, values in part.items() if name != "image"} for _, part in found]
    kept = {name: torch.from_numpy(np.concatenate([part[name] for part in parts])).flatten(0, 1) for name in parts[0]}
    # One entry only: safetensors writes several in random order, and the same references give the same bytes.
    metadata = {"winclip": json.dumps({"encoder": str(encoder["name"]), "references": chosen})}
    with atomic_file(model) as partial:
        partial.write_bytes(save({name: values.contiguous() for name, values in kept.items()}, metadata=metadata))
    write_empty_history(history)


def draw(names: Sequence[str], shots: int, seed: int, *, source: Path) -> list[str]:
    """The first `shots` of a random order of the names, which depends on the seed and the names alone."""
    if shots > len(names):
        raise DataError(
            f"winclip.shots: found {shots}, but {source} has {len(names)} training images. "
            f"Lower winclip.shots, or add normal images."
        )
    order = np.random.default_rng(seed).permutation(len(names))
    return [names[number] for number in order[:shots]]


def _listed(references: Sequence[str], names: Sequence[str], shots: int) -> list[str]:
    for reference in references:
        if reference not in names:
            raise ConfigError(f"winclip.references: {reference!r} is no training image. {_nearest(reference, names)}")
    chosen = list(dict.fromkeys(references))[:shots]
    if len(chosen) < shots:
        raise ConfigError(
            f"winclip.references: found {len(chosen)} different images; expected at least {shots}, which is "
            f"winclip.shots. List more, or lower winclip.shots."
        )
    return chosen


def _nearest(reference: str, names: Sequence[str]) -> str:
    near = get_close_matches(reference, names, n=3, cutoff=0.0)
    return f"The nearest of {len(names)}: {', '.join(near)}."
