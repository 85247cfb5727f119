"""Record what anomalib's WinCLIP says of a few tiles, for test_winclip.py to compare with.

    python -m tests.parity.record_winclip

in an environment with anomalib and the open_clip_torch that it asks for (recorded with 2.7.0 and 2.24.0; with
open_clip_torch >= 2.26.1, whose transformer takes the batch first, the tokens of different windows get mixed).

The model is tests/tiny_clip.py instead of the one that anomalib downloads; its weights are not stored, since they are
made of a seed by NumPy.
"""

from __future__ import annotations

import tempfile
from importlib.metadata import version
from pathlib import Path

import numpy as np
import open_clip
import torch
from anomalib.models.image.winclip import torch_model

from tests.tiny_clip import numpy_state, random_tiles, write_config

CLASS_NAME, SHOTS, TILES, SEED = "metal nut", 2, 4, 7
TARGET = Path(__file__).with_name("winclip.npz")


def main() -> None:
    """Write the tiles, and maps and scores for zero and two shots."""
    with tempfile.TemporaryDirectory() as folder:
        open_clip.add_model_config(write_config(Path(folder), "tiny-for-parity.json"))
    torch_model.BACKBONE, torch_model.PRETRAINED = "tiny-for-parity", None
    model = torch_model.WinClipModel()
    model.clip.load_state_dict(numpy_state(model.clip, SEED))
    model.eval()
    tiles = random_tiles(TILES + SHOTS, seed=SEED)
    mean, std = torch.tensor(open_clip.OPENAI_DATASET_MEAN), torch.tensor(open_clip.OPENAI_DATASET_STD)
    images = ((torch.from_numpy(tiles) / 255 - mean) / std).permute(0, 3, 1, 2)
    found = {"tiles": tiles[:TILES], "references": tiles[TILES:], "anomalib": np.array(version("anomalib"))}
    for shots in (0, SHOTS):
        model.setup(CLASS_NAME, images[TILES:] if shots else None)
        result = model(images[:TILES])
        found[f"scores_{shots}"] = result.pred_score.numpy()
        found[f"maps_{shots}"] = result.anomaly_map.numpy()
        print(f"{shots} shots: scores {found[f'scores_{shots}']}, maps' std {found[f'maps_{shots}'].std():.3f}")
    np.savez_compressed(TARGET, **found)
    print(f"{TARGET}: {TARGET.stat().st_size / 1000:.0f} kB, anomalib {found['anomalib']}")


if __name__ == "__main__":
    main()
