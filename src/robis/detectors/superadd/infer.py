"""The infer stage of SuperADD: a category's bank and a split's tiles to raw tile maps."""

from __future__ import annotations

import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError, safe_open
from torch import Tensor

from robis.detectors.inference import gather_maps, write_tile_maps
from robis.detectors.superadd.bank import Bank, token_maps
from robis.encoders.build import build_encoder
from robis.encoders.devices import pick_device
from robis.encoders.encoder import Encoder
from robis.encoders.names import superadd_blocks
from robis.errors import WeightsError
from robis.tiles.store import map_size


@torch.inference_mode()
def infer_split(
    tiles: Path,
    table: Path,
    maps: Path,
    maps_table: Path,
    *,
    model: Path,
    encoder: dict[str, Any],
    seed: int,
    window: int | str,
    scale: float,
    batch_size: int,
    precision: str = "float32",
    device: str = "auto",
    threads: int = 1,
    shard: int = 0,
    shards: int = 1,
) -> None:
    """Write the raw map of every tile: float16 (N, m, m), at least 0, and the tile table beside it.

    Args:
        tiles, table: the tile store.
        maps, maps_table: what is written.
        model: file of `train_category`.
        encoder: arguments of `build_encoder`; its "name" must be the one that the bank was made with.
        seed: of random encoder weights.
        window: side of a tile in image pixels, or "image".
        scale: map pixels per image pixel.
        batch_size: tiles per forward pass.
        precision: "float32", "bf16" or "fp16", of the encoder on a GPU; distances are float32.
        device, threads, shard, shards: see `write_tile_maps`.

    Raises:
        WeightsError: the model is absent, damaged or made for another encoder or other blocks.
    """
    where = pick_device(device)
    network = build_encoder(**encoder, by_depth=superadd_blocks, seed=seed)
    banks = read_banks(model, network, str(encoder["name"]), where)
    network = network.to(where)

    def tile_maps(batch: Tensor, size: int) -> Tensor:
        tokens = network(batch)
        with torch.autocast(where.type, enabled=False):
            grid, width = network.grid, network.width
            found = [
                bank.nearest(raw.float().flatten(0, 1)).div(width).view(-1, grid, grid)
                for bank, raw in zip(banks, tokens, strict=True)
            ]
            return token_maps(found, size)

    write_tile_maps(
        tile_maps,
        tiles,
        table,
        maps,
        maps_table,
        size=map_size(window, scale, network.input_size),
        batch_size=batch_size,
        precision=precision,
        device=where,
        threads=threads,
        shard=shard,
        shards=shards,
    )


def gather_shards(parts: Sequence[Path], tables: Sequence[Path], maps: Path, maps_table: Path, **_: Any) -> None:
    """Join what the shards of a split wrote, as `infer_split` would have written it alone."""
    gather_maps(parts, tables, maps, maps_table)


def read_banks(path: Path, network: Encoder, name: str, device: torch.device) -> list[Bank]:
    """The banks of an encoder's blocks, on a device.

    Raises WeightsError when the file is absent, damaged or made for another encoder or other blocks.
    """
    banks = []
    try:
        with safe_open(path, framework="pt", device="cpu") as stream:
            made_for = json.loads((stream.metadata() or {}).get("superadd", "{}")).get("encoder")
            if made_for != name:
                origin = made_for or "an encoder it does not name"
                raise WeightsError(f"{path}: made for {origin}; expected {name}. Train again.")
            stored = set(stream.keys())
            for block in network.blocks:
                if f"block_{block}" not in stored:
                    raise WeightsError(
                        f"{path}: has no bank of block {block}, only {', '.join(sorted(stored))}. Train again."
                    )
                tokens = stream.get_tensor(f"block_{block}")
                if tokens.ndim != 2 or tokens.shape[1] != network.width:
                    raise WeightsError(
                        f"{path}: 'block_{block}' is {tuple(tokens.shape)}; expected {network.width} numbers each, "
                        f"as {name} gives them. Made for another encoder."
                    )
                banks.append(Bank.of(tokens.to(device)))
    except (OSError, SafetensorError, ValueError) as error:
        raise WeightsError(f"{path}: no readable bank of SuperADD ({error}).") from error
    return banks
