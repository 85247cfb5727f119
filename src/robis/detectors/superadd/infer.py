"""The infer stage of SuperADD: a category's bank and a split's tiles to raw tile maps."""

from __future__ import annotations

from pathlib import Path

import torch
from torch import Tensor

from robis.detectors.inference import write_tile_maps
from robis.detectors.jobs import InferJob
from robis.detectors.model_files import open_model
from robis.detectors.superadd.bank import Bank, token_maps
from robis.detectors.superadd.blocks import superadd_blocks
from robis.encoders.build import build_encoder
from robis.encoders.devices import pick_device
from robis.encoders.encoder import Encoder


@torch.inference_mode()
def infer_split(job: InferJob) -> None:
    """Write the raw map of every tile: float16 (N, m, m), at least 0, and the tile table beside it.

    Args:
        job: its option is `seed`, of random encoder weights; its input "model" is the file of `train_category`.
            Distances are float32, whatever the precision.

    Raises:
        WeightsError: the model is absent, damaged or made for another encoder or other blocks.
        DataError: a map is not finite.
    """
    device = pick_device(job.compute.device)
    network = build_encoder(**job.encoder, by_depth=superadd_blocks, seed=job.options["seed"])
    banks = read_banks(job.inputs["model"], network, str(job.encoder["name"]), device)
    network = network.to(device)

    def tile_maps(batch: Tensor, size: int) -> Tensor:
        tokens = network(batch)
        with torch.autocast(device.type, enabled=False):
            distances = [
                bank.nearest(raw.float().flatten(0, 1)).div(raw.shape[-1]).view(-1, network.grid, network.grid)
                for bank, raw in zip(banks, tokens, strict=True)
            ]
            return token_maps(distances, size)

    write_tile_maps(tile_maps, job, input_size=network.input_size)


def read_banks(path: Path, network: Encoder, name: str, device: torch.device) -> list[Bank]:
    """The banks of an encoder's blocks, on a device.

    Raises WeightsError when the file is absent, damaged or made for another encoder or other blocks.
    """
    with open_model(path, "superadd", encoder=name) as model:
        return [
            Bank.of(model.tensor(f"block_{block}", (None, width), device))
            for block, width in zip(network.blocks, network.widths, strict=True)
        ]
