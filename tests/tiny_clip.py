"""A CLIP of a few thousand parameters (and CLIP's vocabulary), with weights that are the same everywhere."""

from __future__ import annotations

import json
import zlib
from pathlib import Path
from typing import Any

import numpy as np
import torch

SIZE, PATCH, GRID, WIDTH, EMBEDDING = 48, 8, 6, 32, 24
CONFIG: dict[str, Any] = {
    "embed_dim": EMBEDDING,
    "vision_cfg": {"image_size": SIZE, "layers": 3, "width": WIDTH, "head_width": 16, "patch_size": PATCH},
    "text_cfg": {"context_length": 77, "vocab_size": 49408, "width": 16, "heads": 2, "layers": 2},
}


def write_config(folder: Path, name: str = "tiny.json", **changes: Any) -> Path:
    """The model's config as a file; `changes` replace its sections' entries, or entries at its top."""
    config = json.loads(json.dumps(CONFIG))
    for key, value in changes.items():
        if isinstance(config.get(key), dict) and isinstance(value, dict):
            config[key] |= value
        else:
            config[key] = value
    file = folder / name
    file.write_text(json.dumps(config))
    return file


def numpy_state(model: torch.nn.Module, seed: int = 0) -> dict[str, torch.Tensor]:
    """Random weights for a model by NumPy, whose stream, unlike torch's, is the same in every version.

    Large enough for embeddings of different inputs to differ.
    """
    state = {}
    for name, value in model.state_dict().items():
        noise = np.random.default_rng([seed, zlib.crc32(name.encode())]).standard_normal(tuple(value.shape))
        if "ln_" in name:
            noise = 0.2 * noise + (1 if name.endswith("weight") else 0)
        elif name == "logit_scale":
            noise = np.array(2.0)
        elif name.startswith("visual") and not name.endswith("embedding"):
            noise = 0.5 * noise
        state[name] = torch.from_numpy(noise.astype(np.float32))
    return state


def random_tiles(count: int, size: int = SIZE, seed: int = 0) -> np.ndarray:
    """Tiles of smooth color, uint8 (count, size, size, 3)."""
    rng = np.random.default_rng(seed)
    coarse = rng.integers(0, 256, (count, GRID, GRID, 3), dtype=np.uint8)
    tiles = coarse.repeat(size // GRID, axis=1).repeat(size // GRID, axis=2).astype(np.int16)
    return (tiles + rng.integers(-20, 21, tiles.shape)).clip(0, 255).astype(np.uint8)
