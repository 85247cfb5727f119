"""The infer stage of SuperADD: a category's bank and a split's tiles, or whole images, to raw maps."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import numpy as np
import torch
from torch import Tensor

from robis.detectors.batches import single_threaded, with_work
from robis.detectors.ignored import lowest_where
from robis.detectors.inference import write_maps
from robis.detectors.jobs import InferJob, ScorerJob
from robis.detectors.memory_bank.bank import QUERIES_AT_ONCE, Bank
from robis.detectors.model_files import open_model
from robis.detectors.scorers import ImageScorer, TileScorer
from robis.detectors.superadd.blocks import superadd_blocks
from robis.detectors.superadd.joined import Joining, joined_tokens, token_side
from robis.detectors.superadd.maps import token_maps
from robis.encoders.build import build_encoder
from robis.encoders.devices import pick_device
from robis.encoders.encoder import Encoder
from robis.io.threads import threaded


def infer_split(job: InferJob) -> None:
    """Write the raw map of every tile, float16 (N, m, m), or with joined tokens of every image, float32.

    Args:
        job: see `load_scorer`.

    Raises:
        WeightsError: see `load_scorer`.
        DataError: a map is not finite.
    """
    write_maps(load_scorer(job.scorer), job)


@torch.inference_mode()
def load_scorer(job: ScorerJob) -> TileScorer | ImageScorer:
    """A category's bank, ready to score tiles, or with joined tokens whole images.

    Args:
        job: its options are
            seed: of random encoder weights;
            smoothing_sigma: of the Gaussian that smooths maps, map pixels; 0: none;
            image_scale, overlap: see `Joining` (window "joined").
            Its input "model" is the file of `train_category`. Distances are float32, whatever the precision.

    Raises:
        WeightsError: the model is absent, damaged or made for another encoder or other blocks.
    """
    device = pick_device(job.compute.device)
    network = build_encoder(**job.encoder, by_depth=superadd_blocks, seed=job.options["seed"])
    banks = read_banks(job.inputs["model"], network, str(job.encoder["name"]), device)
    network = network.to(device)
    sigma = job.options["smoothing_sigma"]

    def tile_maps(batch: Tensor, size: int, ignored: Tensor | None = None) -> Tensor:
        grid = (network.grid, network.grid)
        tokens = [block.unflatten(1, grid) for block in network(batch)]
        with torch.autocast(device.type, enabled=False):
            distances = [lowest_where(ignored, block) for block in _distances(banks, tokens)]
            return token_maps(distances, (size, size), sigma)

    def image_map(image: Tensor, size: tuple[int, int], ignored: np.ndarray | None) -> Tensor:
        how = with_work(job.compute, device)
        tokens = joined_tokens(network, image, joining, how)
        # Like tiles, so that the number of threads changes no bit.
        with single_threaded():
            distances = _distances(banks, [block[None] for block in tokens], how.threads)
            if ignored is not None:
                cells = torch.from_numpy(joining.cells(ignored, token_side(network))).to(device)[None]
                distances = [lowest_where(cells, block) for block in distances]
            return token_maps(distances, size, sigma)[0]

    if job.size.window == "joined":
        joining = Joining(job.options["image_scale"], job.options["overlap"])
        return ImageScorer(image_map, network)
    return TileScorer(tile_maps, network.input_size, network, grid=network.grid)


def _distances(banks: Sequence[Bank], tokens: Sequence[Tensor], threads: int = 1) -> list[Tensor]:
    """Distance of tokens (B, g, h, C) of each block to the nearest of its bank, divided by C: float32 (B, g, h)."""

    def nearest(bank: Bank, block: Tensor) -> Tensor:
        @torch.inference_mode()
        def of_part(part: Tensor) -> Tensor:
            return bank.nearest(part)

        parts = block.float().flatten(0, 2).split(QUERIES_AT_ONCE)
        return torch.cat(list(threaded(of_part, parts, threads if block.device.type == "cpu" else 1)))

    return [
        nearest(bank, block).div(block.shape[-1]).view(block.shape[:-1])
        for bank, block in zip(banks, tokens, strict=True)
    ]


def read_banks(path: Path, network: Encoder, name: str, device: torch.device) -> list[Bank]:
    """The banks of an encoder's blocks, on a device.

    Raises WeightsError when the file is absent, damaged or made for another encoder or other blocks.
    """
    with open_model(path, "superadd", encoder=name) as model:
        return [
            Bank.of(model.tensor(f"block_{block}", (None, width), device))
            for block, width in zip(network.blocks, network.widths, strict=True)
        ]
