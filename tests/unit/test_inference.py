"""Inference on stores of tiles: memory that stays flat, values as they are stored, damaged shards."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pandas as pd
import pytest
import torch
from torch import Tensor

from robis.detectors.inference import gather_maps, write_tile_maps
from robis.detectors.scorers import TileScorer
from robis.errors import DataError
from robis.io.tables import write_table
from robis.tiles.files import TileMaps
from robis.tiles.store import TILE_COLUMNS
from tests.detector_jobs import infer_job

TILES, SIDE = 64, 256


@pytest.fixture
def store(tmp_path: Path) -> tuple[Path, Path]:
    """Tiles of 192 kB each, and their table."""
    tiles, table = tmp_path / "tiles.npy", tmp_path / "tiles.parquet"
    np.save(tiles, np.random.default_rng(0).integers(0, 256, (TILES, SIDE, SIDE, 3), dtype=np.uint8))
    rows = [(n, str(n), 0, 0, 0, 0, SIDE, SIDE) for n in range(TILES)]
    write_table(table, pd.DataFrame(rows, columns=TILE_COLUMNS))
    return tiles, table


def resident(name: str) -> int:
    """Bytes of the maps of files with this name that count as memory of this process."""
    regions = Path("/proc/self/smaps").read_text().split("VmFlags:")
    return sum(int(region.partition("\nRss:")[2].split()[0]) * 1024 for region in regions if name in region)


@pytest.mark.skipif(not Path("/proc/self/smaps").exists(), reason="reads the pages of this process from /proc")
def test_memory_does_not_grow_with_the_number_of_tiles(store: tuple[Path, Path], tmp_path: Path) -> None:
    seen: list[tuple[int, int]] = []

    def tile_maps(batch: Tensor, size: int) -> Tensor:
        seen.append((resident("/tiles.npy"), resident("partial.maps.npy")))
        return batch.float().mean(-1)

    output = tmp_path / "maps.npy", tmp_path / "maps.parquet"
    write_tile_maps(TileScorer(tile_maps, SIDE), infer_job(*store, *output, batch_size=4, window=SIDE, scale=1.0))
    assert len(seen) == TILES, "a CPU computes tile by tile"
    batch = 4 * SIDE * SIDE
    assert max(tiles for tiles, _ in seen) <= 3 * batch, "no more than a batch of tiles"
    assert max(maps for _, maps in seen) <= 2 * batch, "no more than a batch of maps"
    expected = np.load(store[0]).astype(np.float32).mean(-1)
    np.testing.assert_allclose(np.load(output[0]), expected, rtol=1e-3)


@pytest.mark.parametrize("value", [1e5, np.inf, np.nan])
def test_a_value_that_float16_cannot_hold_is_refused(store: tuple[Path, Path], tmp_path: Path, value: float) -> None:
    second = torch.from_numpy(np.load(store[0])[1])

    def tile_maps(batch: Tensor, size: int) -> Tensor:
        maps = torch.zeros(len(batch), size, size)
        maps[(batch == second).flatten(1).all(1), 2, 3] = value
        return maps

    output = tmp_path / "maps.npy", tmp_path / "maps.parquet"
    job = infer_job(*store, *output, batch_size=4, window=SIDE, scale=0.25)
    with pytest.raises(DataError, match=r"tiles\.npy: tile 1 gives map values that are not finite"):
        write_tile_maps(TileScorer(tile_maps, SIDE), job)
    assert not output[0].exists()


@pytest.mark.parametrize(
    ("name", "content", "message"),
    [
        ("1.npy", b"", r"1\.npy: not a readable \.npy file \(the file is empty\)"),
        ("1.parquet", b"", r"1\.parquet: not a readable Parquet table \(the file is empty\)"),
        ("1.npy", None, r"1\.npy: 1 maps, but its table .*1\.parquet has 2 rows"),
    ],
)
def test_a_damaged_shard_is_named(tmp_path: Path, name: str, content: bytes | None, message: str) -> None:
    parts = [TileMaps(tmp_path / f"{n}.npy", tmp_path / f"{n}.parquet") for n in range(2)]
    for part in parts:
        np.save(part.maps, np.zeros((2, 4, 4), np.float16))
        write_table(part.table, pd.DataFrame({"tile": [0, 1]}))
    if content is None:
        np.save(tmp_path / name, np.zeros((1, 4, 4), np.float16))
    else:
        (tmp_path / name).write_bytes(content)
    with pytest.raises(DataError, match=message + r".*`snakemake --forcerun infer_shard`"):
        gather_maps(parts, infer_job(*[tmp_path / "tiles"] * 2, *[tmp_path / "maps"] * 2, window=8, scale=0.5))
