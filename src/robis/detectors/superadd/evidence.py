"""The evidence of SuperADD: the normal patches that the tokens of a region are nearest to."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from typing import TYPE_CHECKING

import numpy as np
import torch
from torch import Tensor

from robis.detectors.batches import single_threaded
from robis.detectors.evidence import Explainer
from robis.detectors.inference import Images
from robis.detectors.jobs import NormalImages, ScorerJob
from robis.detectors.memory_bank.evidence import BankExplainer, BlockBank, read_origins, required
from robis.detectors.normal_tokens import Features
from robis.detectors.superadd.blocks import superadd_blocks
from robis.detectors.superadd.infer import read_banks
from robis.detectors.superadd.joined import Joining, joined_tokens, token_side
from robis.encoders.build import build_encoder
from robis.encoders.devices import pick_device
from robis.encoders.encoder import Encoder
from robis.io.ignored import decode
from robis.tiles.files import TileStore
from robis.tiles.ignored import ignored_of
from robis.tiles.windows import Window

if TYPE_CHECKING:
    import pandas as pd


@torch.inference_mode()
def load_explainer(job: ScorerJob, normal: NormalImages | None) -> Explainer:
    """A category's banks, ready to say which normal patches are most like those of a region; see `load_scorer`."""
    device = pick_device(job.compute.device)
    network = build_encoder(**job.encoder, by_depth=superadd_blocks, seed=job.options["seed"])
    path = job.inputs["model"]
    banks = [
        BlockBank(block, bank, read_origins(path, "superadd", f"origins_{block}"), _over(width))
        for block, width, bank in zip(
            network.blocks, network.widths, read_banks(path, network, str(job.encoder["name"]), device), strict=True
        )
    ]
    network = network.to(device)
    features = Features(network, network.grid, network.widths)
    if job.size.window == "joined":
        joining = Joining(job.options["image_scale"], job.options["overlap"])
        return _JoinedExplainer(network, joining, features, banks, job, required(normal))
    return BankExplainer(network, features, banks, required(normal), job.compute)


class _JoinedExplainer(BankExplainer):
    """Of tokens that are joined over whole images."""

    def __init__(
        self,
        encoder: Encoder,
        joining: Joining,
        features: Features,
        banks: Sequence[BlockBank],
        job: ScorerJob,
        normal: NormalImages,
    ) -> None:
        self.joining, self.step = joining, token_side(encoder)
        super().__init__(encoder, features, banks, normal, job.compute)

    def grid(self, window: Window) -> tuple[int, int]:
        return self.joining.grid(window.height, window.width, self.step)

    def ignored(self, rows: pd.DataFrame, tile: int) -> np.ndarray:
        png = ignored_of(rows, tile)
        return np.flatnonzero(np.zeros(0) if png is None else self.joining.cells(decode(png), self.step))

    def encoded(self, store: TileStore, numbers: Sequence[int]) -> Iterator[list[Tensor]]:
        images = Images.of(store.tiles, store.table)
        for number in numbers:
            image = torch.from_numpy(images[number]).to(self.device)
            blocks = [
                block.flatten(0, 1)[None] for block in joined_tokens(self.encoder, image, self.joining, self.compute)
            ]
            # As in maps, whose bits depend on how many threads share a product.
            with single_threaded():
                searched = [self.search(place, block) for place, block in enumerate(blocks)]
            yield [values[0] for values in (*blocks, *(part for pair in searched for part in pair))]


def _over(width: int) -> Callable[[Tensor], Tensor]:
    """Distances divided by the number of channels, as in maps."""
    return lambda distances: distances.div(width)
