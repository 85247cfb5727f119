"""Rows that a job takes over from its previous result."""

from __future__ import annotations

import os
from collections.abc import Iterator, Sequence
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
import torch
import torch.nn.functional as F
from torch import Tensor

from robis.detectors import batches
from robis.detectors.batches import in_passes
from robis.detectors.inference import write_tile_maps
from robis.detectors.jobs import Compute
from robis.detectors.kept import fill_rows
from robis.detectors.scorers import TileScorer
from robis.encoders.build import build_encoder
from robis.io.arrays import atomic_array
from robis.io.reuse import ROWS, KeptRows, Reuse, kept_for
from robis.io.tables import write_table
from robis.tiles.store import TILE_COLUMNS
from robis.workflow import results
from tests.detector_jobs import infer_job


@pytest.fixture
def reuse(tmp_path: Path) -> Reuse:
    return Reuse(tmp_path / "reuse" / "S", ("recipe",))


def kept(reuse: Reuse, inputs: Sequence[int]) -> KeptRows:
    return kept_for(np.array(inputs, np.int64), reuse)


def square_all(reuse: Reuse, inputs: Sequence[int], file: Path) -> list[int]:
    """Write the square of each input, four times a row; the numbers of the rows that were not kept."""
    rows_kept = kept(reuse, inputs)
    with atomic_array(file, np.float32, (len(inputs), 4)) as rows:
        missing = rows_kept.fill(rows)
        for number in missing:
            rows[number] = inputs[number] ** 2
    rows_kept.keep(file)
    np.testing.assert_array_equal(np.load(file), np.repeat(np.square(inputs), 4).reshape(-1, 4))
    return missing


def test_rows_are_taken_over_by_what_they_are_made_from(reuse: Reuse, tmp_path: Path) -> None:
    file = tmp_path / "a.npy"
    assert square_all(reuse, [1, 2, 3], file) == [0, 1, 2]
    assert square_all(reuse, [3, 5, 1, 6], file) == [1, 3], "in another order, without 2"
    assert square_all(reuse, [2, 3], file) == [0], "only the last result is kept"
    assert square_all(reuse, [], file) == []
    assert square_all(reuse, [2], file) == [0]
    assert square_all(reuse.adding("another model"), [2], file) == [0]


def test_kept_rows_take_no_room_beside_the_result(reuse: Reuse, tmp_path: Path) -> None:
    file = tmp_path / "a.npy"
    square_all(reuse, [1, 2], file)
    assert file.samefile(reuse.folder / ROWS)
    file.unlink()
    assert square_all(reuse, [1, 2, 3], file) == [2], "Snakemake removes a result before its job"
    assert [path.name for path in reuse.folder.parent.iterdir()] == ["S"]


def test_a_damaged_row_is_computed_again(reuse: Reuse, tmp_path: Path) -> None:
    file = tmp_path / "a.npy"
    square_all(reuse, [1, 2, 3], file)
    rows = np.load(file, mmap_mode="r+")
    rows[1, 2] = 7
    rows.flush()
    assert square_all(reuse, [1, 2, 3], tmp_path / "b.npy") == [1]


@pytest.mark.parametrize("content", [b"", b"text", bytes(300)])
@pytest.mark.parametrize("name", ["rows.npy", "digests.npy"])
def test_a_damaged_file_is_as_if_nothing_was_kept(reuse: Reuse, tmp_path: Path, name: str, content: bytes) -> None:
    square_all(reuse, [1, 2], tmp_path / "a.npy")
    (reuse.folder / name).write_bytes(content)
    assert square_all(reuse, [1, 2], tmp_path / "b.npy") == [0, 1]


def test_rows_of_another_kind_are_not_taken(reuse: Reuse, tmp_path: Path) -> None:
    square_all(reuse, [1, 2], tmp_path / "a.npy")
    assert kept(reuse, [1, 2]).fill(np.zeros((2, 5), np.float32)) == [0, 1]
    assert kept(reuse, [1, 2]).fill(np.zeros((2, 4), np.float16)) == [0, 1]


def test_a_kill_between_two_renames_loses_nothing(reuse: Reuse, tmp_path: Path) -> None:
    file = tmp_path / "a.npy"
    square_all(reuse, [1, 2], file)
    reuse.folder.rename(reuse.folder.with_name(".0123abcd.replaced.S"))
    (reuse.folder.parent / ".4567abcd.partial.S").mkdir()
    assert square_all(reuse, [1, 2, 3], file) == [2]
    assert [path.name for path in reuse.folder.parent.iterdir()] == ["S"]


def test_a_disk_without_hard_links_keeps_nothing(reuse: Reuse, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    square_all(reuse, [1, 2], tmp_path / "a.npy")

    def refuse(*paths: Path) -> None:
        raise PermissionError(1, "Operation not permitted")

    monkeypatch.setattr(os, "link", refuse)
    assert square_all(reuse, [1, 2, 3], tmp_path / "a.npy") == [2]
    assert not reuse.folder.exists(), "what is kept without the result would take room"


def test_kept_rows_go_where_the_disk_is_too_small_for_two_results(reuse: Reuse, tmp_path: Path) -> None:
    square_all(reuse, [1, 2], tmp_path / "a.npy")
    kept(reuse, [1, 2]).make_room(1)
    assert reuse.folder.exists()
    kept(reuse, [1, 2]).make_room(1 << 60)
    assert not reuse.folder.exists()


def test_nothing_is_kept_beside_the_local_copy_of_a_stored_result() -> None:
    """Snakemake removes such copies, and what is kept would stay."""
    job = ("tile_maps", "nut", "test.1")
    assert results.reuse(Path("results/D/M"), *job) == Path("results/D/M/reuse/tile_maps/nut/test.1")
    assert results.reuse(Path("/home/me/.snakemake/storage/fs/bucket/results/D/M"), *job) is None


@pytest.mark.parametrize(("depends_on_place", "computed"), [(False, [1, 4, 0, 2]), (True, [1, 4, 0, 2, 3, 5, 6])])
def test_empty_places_of_a_pass_check_what_is_kept(
    reuse: Reuse, tmp_path: Path, depends_on_place: bool, computed: list[int]
) -> None:
    """Passes of four; two rows are new, so that two kept ones are computed once more."""
    square_all(reuse, [0, 2, 3, 5, 6], tmp_path / "a.npy")
    inputs, seen = [0, 10, 2, 3, 11, 5, 6], []

    def compute(numbers: Sequence[int]) -> Iterator[tuple[int, np.ndarray]]:
        seen.extend(numbers)
        for start in range(0, len(numbers), 4):
            part = numbers[start : start + 4]
            yield start, np.array([[inputs[n] ** 2 + depends_on_place * 0.5] * 4 for n in part], np.float32)

    rows = np.zeros((7, 4), np.float32)
    fill_rows(rows, kept(reuse, inputs), compute, per_pass=4)
    assert seen == computed
    np.testing.assert_array_equal(rows[:, 0], np.square(inputs) + depends_on_place * 0.5)


def test_a_pass_is_always_full(monkeypatch: pytest.MonkeyPatch) -> None:
    """As on a GPU: three tiles of a batch of four and a black one."""
    monkeypatch.setattr(batches, "tiles_per_pass", lambda compute, device: 4)
    tiles = torch.arange(1, 4, dtype=torch.uint8)[:, None, None, None].expand(3, 2, 2, 3)
    shapes = []

    def model(part: Tensor) -> Tensor:
        shapes.append(tuple(part.shape))
        return part.float().mean((1, 2, 3))

    assert torch.cat(in_passes(model, tiles, Compute(batch_size=4))).tolist() == [1, 2, 3, 0]
    assert shapes == [(4, 2, 2, 3)]


def test_a_map_depends_neither_on_other_tiles_nor_on_threads(tmp_path: Path) -> None:
    """A batch of 16 in one pass gives other last bits than one tile (measured with this encoder on one thread)."""
    network = build_encoder("efficientnet_lite0", input_size=256)
    tiles = np.random.default_rng(0).integers(0, 256, (17, 256, 256, 3), dtype=np.uint8)

    def tile_maps(batch: Tensor, size: int) -> Tensor:
        # float16 would hide the last bits of the tokens.
        last_bits = (network(batch)[0][..., 0] * 2**16).frac().view(-1, 1, network.grid, network.grid)
        return F.interpolate(last_bits, size=size).squeeze(1)

    def infer(store: np.ndarray, **values: int) -> np.ndarray:
        np.save(tmp_path / "tiles.npy", store)
        rows = [(n, str(n), 0, 0, 0, 0, 256, 256) for n in range(len(store))]
        write_table(tmp_path / "tiles.parquet", pd.DataFrame(rows, columns=TILE_COLUMNS))
        paths = [tmp_path / name for name in ("tiles.npy", "tiles.parquet", "maps.npy", "maps.parquet")]
        write_tile_maps(TileScorer(tile_maps, 256), infer_job(*paths, window=256, scale=0.25, **values))
        return np.load(paths[2])

    together = infer(tiles, batch_size=16)
    np.testing.assert_array_equal(infer(tiles, batch_size=3, threads=3), together)
    np.testing.assert_array_equal(infer(tiles[5:6]), together[5:6])
    np.testing.assert_array_equal(infer(tiles[:2], batch_size=2), together[:2])
