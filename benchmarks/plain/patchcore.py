"""anomalib's PatchCore with the network and the size of bank of a pack; its weights are random."""

from __future__ import annotations

import os
from collections.abc import Callable
from pathlib import Path

# Blocks of timm's model that end the stages 2 and 3, of 40 and 112 channels.
LAYERS, WIDTH = ("blocks.2", "blocks.4"), 40 + 112
FILE = Path("weights") / "torch" / "model.pt"


def export_anomalib(folder: Path, backbone: str, bank_size: int) -> None:
    """Write anomalib's exported torch model. Raises ImportError where anomalib is not installed.

    Args:
        folder: where to; the file is FILE.
        backbone: timm's name of an EfficientNet-Lite0.
        bank_size: rows of the memory bank.
    """
    import torch
    from anomalib.models import Patchcore

    model = Patchcore(backbone=backbone, layers=LAYERS, pre_trained=False)
    model.model.memory_bank = torch.rand(bank_size, WIDTH, generator=torch.Generator().manual_seed(0))
    model.eval().to_torch(folder)


def anomalib_inferencer(folder: Path, threads: int) -> Callable[[Path], float]:
    """anomalib's inferencer on a CPU with what `export_anomalib` wrote: from an image file to its score."""
    # anomalib reads its file by pickle, which it refuses otherwise.
    os.environ["TRUST_REMOTE_CODE"] = "1"
    import torch
    from anomalib.deploy import TorchInferencer

    torch.set_num_threads(threads)
    inferencer = TorchInferencer(path=folder / FILE, device="cpu")
    return lambda image: float(inferencer.predict(image).pred_score)
