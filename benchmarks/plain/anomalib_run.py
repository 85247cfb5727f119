"""A folder of images to metrics by anomalib: a program of its own, for an interpreter that has anomalib.

python -P anomalib_run.py '{"method": "patchcore", ...}'; see `main`. Prints the metrics of the test images as JSON.
"""

from __future__ import annotations

import json
import logging
import os
import sys
import warnings
from pathlib import Path
from typing import Any

import timm
import torch
from anomalib.data import Folder
from anomalib.data.utils import ValSplitMode
from anomalib.engine import Engine
from anomalib.metrics import AUROC, Evaluator
from anomalib.models import InpFormer, Patchcore, SuperADD
from anomalib.pre_processing import PreProcessor
from safetensors.torch import load_file
from torch import nn
from torchvision.transforms.v2 import Compose, Normalize, Resize


def main(options: dict[str, Any]) -> dict[str, float]:
    """Train and test; as by default, thresholds come from half of the test images, and metrics from the other half.

    Args:
        options: data: folder with train/good, test/good, test/defect and masks/defect; out: folder of results;
            method: "patchcore", "superadd" or "inp_former"; encoder: name of a timm model; weights: its safetensors
            file; size: side of the images in pixels; mean, std: of the encoder's input; layers: of PatchCore;
            epochs, batch_size: of INP-Former; threads.

    Returns:
        AUROC of images and pixels.
    """
    torch.set_num_threads(options["threads"])
    torch.manual_seed(0)
    take_weights_from(options["weights"])
    data = Folder(
        name="parts",
        root=options["data"],
        normal_dir="train/good",
        abnormal_dir="test/defect",
        normal_test_dir="test/good",
        mask_dir="masks/defect",
        train_batch_size=options["batch_size"],
        eval_batch_size=options["batch_size"],
        num_workers=options["threads"],
        val_split_mode=ValSplitMode.FROM_TEST,
        val_split_ratio=0.5,
    )
    size = (options["size"], options["size"])
    transform = Compose([Resize(size, antialias=True), Normalize(options["mean"], options["std"])])
    evaluator = Evaluator(
        test_metrics=[
            AUROC(fields=["pred_score", "gt_label"], prefix="image_"),
            AUROC(fields=["anomaly_map", "gt_mask"], prefix="pixel_"),
        ]
    )
    engine = Engine(
        accelerator="cpu",
        max_epochs=options["epochs"],
        default_root_dir=options["out"],
        logger=False,
        enable_progress_bar=False,
        num_sanity_val_steps=0,
    )
    model = model_of(options, pre_processor=PreProcessor(transform), evaluator=evaluator, visualizer=False)
    engine.fit(model, datamodule=data)
    (metrics,) = engine.test(model, datamodule=data, verbose=False)
    return {name.lower(): float(value) for name, value in metrics.items()}


def model_of(options: dict[str, Any], **parts: Any) -> nn.Module:
    """anomalib's model with its own defaults."""
    if options["method"] == "patchcore":
        return Patchcore(backbone=options["encoder"], layers=options["layers"], **parts)
    if options["method"] == "superadd":
        return SuperADD(backbone=options["encoder"], patch_size=options["size"], **parts)
    return InpFormer(encoder_name=options["encoder"], **parts)


def take_weights_from(path: str) -> None:
    """Have timm build pretrained models with the weights of a file."""
    build: Any = timm.create_model

    def create_model(name: str, *arguments: Any, pretrained: bool = False, **options: Any) -> Any:
        model = build(name, *arguments, pretrained=False, **options)
        if pretrained:
            weights = load_file(path)
            missing, _ = getattr(model, "_module", model).load_state_dict(weights, strict=False)
            if missing:
                raise SystemExit(f"{path}: lacks {missing[:3]} of {name}")
        return model

    vars(timm)["create_model"] = create_model


if __name__ == "__main__":
    warnings.simplefilter("ignore")
    logging.disable(logging.INFO)
    os.environ["TRUST_REMOTE_CODE"] = "0"
    given = json.loads(sys.argv[1])
    Path(given["out"]).mkdir(parents=True, exist_ok=True)
    print(json.dumps(main(given)))
