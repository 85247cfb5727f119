"""The train stage of few-shot WinCLIP: draws a few normal images and stores their embeddings."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np
import torch
from torch import Tensor

from robis.detectors.batches import Picked
from robis.detectors.few_shot import choose_references
from robis.detectors.jobs import TrainJob
from robis.detectors.model_files import write_history, write_model
from robis.detectors.normal_tokens import require_kept_tokens
from robis.detectors.winclip.tiles import embed_batches
from robis.detectors.winclip.windows import field_of, window_tokens
from robis.encoders.clip import build_clip_encoder
from robis.encoders.devices import pick_device
from robis.errors import ConfigError
from robis.io.ignored import COVERED
from robis.tiles.ignored import kept_tokens
from robis.tiles.store import open_tiles

if TYPE_CHECKING:
    import pandas as pd


def train_category(job: TrainJob) -> None:
    """Write the features of a few normal images, with which tiles are compared, and a history without rows.

    The model is a safetensors file with "patches" (R, C) and "windows_K" (R', D) per scale K, float32 of length 1.
    Its metadata also list the references' sample ids.

    Args:
        job: its options are
            shots: number of reference images;
            reference_seed: of the draw; the draw for more shots of the same seed includes that for fewer;
            references: reference sample ids; the first `shots` are used. Drawn at random if None or empty;
            scales: sides of the windows in tokens;
            seed: of random weights, 0 if absent.

    Raises:
        ConfigError: a reference that is no training image, fewer references than shots, scales that do not fit.
        DataError: fewer training images than shots.
    """
    shots = job.options["shots"]
    if shots < 1:
        raise ConfigError(f"winclip.shots: found {shots}; expected at least 1 to train. Zero-shot needs no model.")
    store, rows = open_tiles(job.store.tiles, job.store.table)
    names = sorted(rows["sample_id"].unique())
    chosen = choose_references("winclip", job.options, names, source=job.store.table)
    of_chosen = rows["sample_id"].isin(chosen).to_numpy()
    features = _features(np.array(store[of_chosen]), rows[of_chosen], job)
    write_model(job.model, features, "winclip", encoder=str(job.encoder["name"]), references=chosen)
    write_history(job.history)


def _features(tiles: np.ndarray, rows: pd.DataFrame, job: TrainJob) -> dict[str, Tensor]:
    encoder = build_clip_encoder(**job.encoder, seed=job.options.get("seed", 0)).to(pick_device(job.compute.device))
    store = Picked(tiles, range(len(tiles)))
    batches = [part for _, part in embed_batches(encoder, store, job.options["scales"], job.compute, job.store.tiles)]
    names = [name for name in batches[0] if name != "image"]
    features = {name: torch.from_numpy(np.concatenate([part[name] for part in batches])) for name in names}
    kept = kept_tokens(rows, encoder.grid)
    if kept is None:
        return {name: values.flatten(0, 1) for name, values in features.items()}
    require_kept_tokens(int(kept.sum()), job)
    chosen = {"patches": torch.from_numpy(kept)}
    for scale in job.options["scales"]:
        # As for every cell: a window is ignored where at least half of it is, unless this leaves none.
        share = (~chosen["patches"][:, window_tokens(encoder.grid, scale)]).float().mean(-1)
        windows = share < COVERED
        chosen[field_of(scale)] = windows if windows.any() else share < 1
    return {name: values[chosen[name]] for name, values in features.items()}
