"""SuperADD: distances against torch.cdist in float64, the choice of the bank written out plainly, the bank on disk."""

from __future__ import annotations

import json
import logging
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest
import torch
import torch.nn.functional as F
from safetensors import safe_open
from safetensors.torch import save_file
from scipy.ndimage import gaussian_filter
from torch import Tensor

from robis.detectors.inference import gather_maps
from robis.detectors.memory_bank import bank as memory_bank
from robis.detectors.memory_bank.bank import Bank, neighbor_distances
from robis.detectors.superadd import infer as superadd_infer
from robis.detectors.superadd import train as superadd_train
from robis.detectors.superadd.blocks import superadd_blocks
from robis.detectors.superadd.maps import smooth, token_maps
from robis.detectors.superadd.thinning import select, shares_of
from robis.encoders.build import build_encoder
from robis.errors import DataError, WeightsError
from robis.io.tables import read_table, write_table
from robis.tiles.store import TILE_COLUMNS
from tests.detector_jobs import gathering, inferring, read_banks, training


def random_tokens(count: int, width: int = 16, *, offset: float = 0.0, seed: int = 0) -> Tensor:
    """Tokens in clumps, so that some have many near neighbors and some none."""
    generator = torch.Generator().manual_seed(seed)
    clumps = 4 * torch.randn(max(1, count // 12), width, generator=generator)
    spread = 0.05 + torch.rand(len(clumps), 1, generator=generator)
    owner = torch.randint(len(clumps), (count,), generator=generator)
    return clumps[owner] + spread[owner] * torch.randn(count, width, generator=generator) + offset


def exact_distances(queries: Tensor, bank: Tensor) -> Tensor:
    return torch.cdist(queries.double(), bank.double(), compute_mode="donot_use_mm_for_euclid_dist").min(1).values


@pytest.fixture
def small_blocks(monkeypatch: pytest.MonkeyPatch) -> None:
    """Several blocks in both directions, the last of them not full."""
    monkeypatch.setattr(memory_bank, "CPU_QUERIES_AT_ONCE", 7)
    monkeypatch.setattr(memory_bank, "CPU_BANK_AT_ONCE", 11)
    monkeypatch.setattr(memory_bank, "CPU_ROWS_AT_ONCE", 6)


# Distances between tokens are about 1: float32's share of the offset's square is what is left of plain products.
@pytest.mark.parametrize(("offset", "error"), [(0.0, 1e-5), (100.0, 1e-4), (1e4, 5e-3)])
@pytest.mark.usefixtures("small_blocks")
def test_distances_are_those_of_cdist_in_float64(offset: float, error: float) -> None:
    bank, queries = random_tokens(50, offset=offset), random_tokens(30, offset=offset, seed=1)
    expected = exact_distances(queries, bank)
    assert expected.std() > 0.1
    torch.testing.assert_close(Bank.of(bank).nearest(queries).double(), expected, rtol=0, atol=error)


@pytest.mark.usefixtures("small_blocks")
def test_equal_tokens_have_no_distance_whatever_all_tokens_share() -> None:
    bank = random_tokens(50, offset=1e4)
    assert Bank.of(bank).nearest(bank).tolist() == [0.0] * 50
    plain = torch.cdist(bank, bank, compute_mode="use_mm_for_euclid_dist")
    assert plain.diagonal().max() > 1, "plain float32 products would not do"
    assert Bank.of(bank[:1]).nearest(bank[:1]).tolist() == [0.0]


def test_a_bank_of_many_blocks_and_tokens_far_away() -> None:
    bank, queries = random_tokens(20_000, 8), random_tokens(3_000, 8, seed=1)
    queries[7] += 1e5
    expected = exact_distances(queries, bank)
    torch.testing.assert_close(Bank.of(bank).nearest(queries).double(), expected, rtol=1e-5, atol=1e-4)


@pytest.mark.parametrize("neighbors", [1, 5, 39, 100])
@pytest.mark.usefixtures("small_blocks")
def test_neighbors_are_the_nearest_others(neighbors: int) -> None:
    tokens = random_tokens(40, offset=100)
    tokens[3] = tokens[8]
    exact = torch.cdist(tokens.double(), tokens.double(), compute_mode="donot_use_mm_for_euclid_dist")
    expected = exact.fill_diagonal_(torch.inf).sort(1).values[:, : min(neighbors, 39)]
    found = neighbor_distances(tokens, neighbors).sort(1).values.double()
    assert found[3, 0] < 2e-2, "an equal token is a neighbor at no distance, itself is none"
    torch.testing.assert_close(found, expected, rtol=0, atol=2e-2 if neighbors else 0)
    torch.testing.assert_close(found[expected > 0.3], expected[expected > 0.3], rtol=0, atol=1e-3)


def plainly_selected(tokens: Tensor, target: int, neighbors: int, growth: float, seed: int) -> tuple[set[int], float]:
    """SuperADD's rule in sentences: token by token, with sets and float64; also the radius it ends with."""
    points = tokens.double().numpy()
    rng = np.random.default_rng(seed)
    dice, order = rng.random(len(points)), rng.permutation(len(points)).tolist()
    nearest = []
    for number, point in enumerate(points):
        distances = sorted(float(np.linalg.norm(point - other)) for n, other in enumerate(points) if n != number)
        nearest.append(distances[:neighbors])
    radius = 0.1 * float(np.mean(nearest))
    while True:
        kept = {
            number
            for number, distances in enumerate(nearest)
            if dice[number] < 1 / (1 + len([one for one in distances if one < radius]))
        }
        if len(kept) <= target or radius > max(map(max, nearest)):
            break
        radius *= growth
    in_order = [number for number in order if number in kept] + [number for number in order if number not in kept]
    return set(in_order[:target]), radius


@pytest.mark.parametrize(
    ("count", "target", "neighbors", "growth"),
    [(120, 30, 10, 1.1), (120, 90, 10, 1.1), (60, 5, 100, 1.3), (40, 2, 3, 1.1), (60, 59, 5, 2.0), (2, 1, 1, 1.1)],
)
def test_a_part_is_thinned_as_written_out(count: int, target: int, neighbors: int, growth: float) -> None:
    tokens = random_tokens(count, offset=50)
    for seed in range(3):
        rng = np.random.default_rng(seed)
        found = select(tokens, target, neighbors=neighbors, radius_growth=growth, rng=rng).tolist()
        assert found == sorted(set(found)) and len(found) == target
        assert set(found) == plainly_selected(tokens, target, neighbors, growth, seed)[0]


def test_dense_places_give_fewer_tokens() -> None:
    generator = torch.Generator().manual_seed(0)
    dense = 0.01 * torch.randn(300, 8, generator=generator)
    sparse = 10 + 5 * torch.randn(100, 8, generator=generator)
    options = {"neighbors": 20, "radius_growth": 1.1, "rng": np.random.default_rng(0)}
    found = select(torch.cat([dense, sparse]), 100, **options)
    assert (found >= 300).sum() > 60, "a random hundred would hold 25 of the sparse ones"


@pytest.mark.parametrize("target", [0, 1, 7, 20, 30])
def test_tokens_that_are_all_alike_end_the_search(target: int) -> None:
    options = {"neighbors": 5, "radius_growth": 1.1, "rng": np.random.default_rng(0)}
    found = select(torch.ones(20, 4), target, **options)
    assert len(found) == min(20, target) == len(set(found.tolist()))
    assert len(select(torch.ones(1, 4), target, **options)) == min(1, target)


def test_shares_differ_by_at_most_one() -> None:
    assert shares_of(10, 4) == [3, 3, 2, 2]
    assert shares_of(2, 4) == [1, 1, 0, 0]
    assert sum(shares_of(100_000, 77)) == 100_000


def test_smoothing_is_a_gaussian_that_ends_at_the_border() -> None:
    """SciPy's filter with zeros beyond the border, divided by what it leaves of ones."""
    maps = torch.rand(2, 1, 21, 50, generator=torch.Generator().manual_seed(0))
    expected = np.stack(
        [gaussian_filter(one.numpy(), 4.0, mode="constant", truncate=4.0) for one in maps[:, 0].double()]
    )
    expected /= gaussian_filter(np.ones((21, 50)), 4.0, mode="constant", truncate=4.0)
    np.testing.assert_allclose(smooth(maps, 4.0)[:, 0], expected, atol=1e-6)
    torch.testing.assert_close(smooth(torch.full((1, 1, 3, 4), 7.0), 4.0), torch.full((1, 1, 3, 4), 7.0))


def test_a_map_is_the_mean_over_blocks_where_the_token_is() -> None:
    distances = torch.zeros(1, 4, 4)
    distances[0, 1, 2] = 2.0
    found = token_maps([distances, torch.zeros(1, 4, 4)], (256, 256), 4.0)[0]
    row, col = divmod(int(found.argmax()), 256)
    # The center of token (1, 2) lies between map pixels 95 and 96 and between 159 and 160.
    assert row in (95, 96) and col in (159, 160)
    plain = F.interpolate(distances[:, None] / 2, size=256, mode="bilinear")[0, 0].double().numpy()
    np.testing.assert_allclose(found[64:128, 128:192], gaussian_filter(plain, 4.0)[64:128, 128:192], atol=1e-5)


def test_published_blocks() -> None:
    assert [superadd_blocks(depth) for depth in (12, 24, 32)] == [(3, 5, 8, 10), (5, 11, 17, 23), (7, 15, 23, 31)]
    assert superadd_blocks(6) == (1, 2, 4, 5)


infer_split, train_category = inferring(superadd_infer.infer_split), training(superadd_train.train_category)
gather_shards = gathering(lambda parts, job: gather_maps(parts, job))

ENCODER: dict[str, Any] = {"name": "vit_tiny_patch16_224", "weights": "random", "input_size": 64, "blocks": [1, 3]}
TRAIN: dict[str, Any] = {
    **{"identity": "", "encoder": ENCODER, "bank_size": 40, "rounds": 5, "neighbors": 6, "radius_growth": 1.1},
    **{"brightness_jitter": 0.2, "seed": 0, "memory_gb": 4.0, "batch_size": 3, "device": "cpu"},
    **{"redraw_subsets": False, "window": 96, "image_scale": 1.0, "overlap": 0.4},
}
INFER: dict[str, Any] = {
    **{"encoder": ENCODER, "seed": 0, "window": 96, "scale": 0.5, "batch_size": 2, "device": "cpu"},
    **{"smoothing_sigma": 4.0, "image_scale": 1.0, "overlap": 0.4},
}


def write_tiles(folder: Path, count: int = 7, seed: int = 1) -> tuple[Path, Path]:
    """Tiles of 4 x 4 tokens."""
    folder.mkdir(parents=True, exist_ok=True)
    tiles = np.random.default_rng(seed).integers(0, 256, (count, 64, 64, 3), dtype=np.uint8)
    np.save(folder / "tiles.npy", tiles)
    rows = [(n, f"good/{n}", 0, 0, 0, 0, 96, 96) for n in range(count)]
    write_table(folder / "tiles.parquet", pd.DataFrame(rows, columns=TILE_COLUMNS))
    return folder / "tiles.npy", folder / "tiles.parquet"


def train(folder: Path, name: str = "model", count: int = 7, **options: Any) -> Path:
    """Train on tiles of 16 tokens each, 112 by default."""
    model = folder / name / "model.safetensors"
    train_category(*write_tiles(folder / f"train{count}", count), model, folder / name / "t.parquet", **TRAIN | options)
    assert sorted(path.name for path in model.parent.iterdir()) == ["model.safetensors", "t.parquet"]
    return model


def tokens_of(tiles: np.ndarray) -> list[Tensor]:
    """(N * 16, C) of each block, all in one batch."""
    with torch.inference_mode():
        return [one.flatten(0, 1) for one in build_encoder(**ENCODER)(torch.from_numpy(tiles))]


def rows_in(found: Tensor, all_tokens: Tensor) -> list[int]:
    """Which token each row is."""
    distances = torch.cdist(found.double(), all_tokens.double(), compute_mode="donot_use_mm_for_euclid_dist")
    assert distances.min(1).values.max() < 1e-4, "a bank holds tokens as they are"
    return distances.argmin(1).tolist()


def test_the_bank_is_what_is_chosen_from_disjoint_parts_of_all_tokens(tmp_path: Path) -> None:
    bank = read_banks(train(tmp_path, brightness_jitter=0.0))
    assert list(bank) == ["block_1", "block_3"]
    # 112 tokens in 5 parts: 23, 23, 22, 22, 22 of them; 40 in the bank: 8 of each.
    parts = np.array_split(np.random.default_rng([0, 1]).permutation(112), 5)
    for block, all_tokens in enumerate(tokens_of(np.load(tmp_path / "train7" / "tiles.npy"))):
        found = bank[f"block_{(1, 3)[block]}"]
        assert found.dtype == torch.float32 and found.shape == (40, 192)
        rows = rows_in(found, all_tokens)
        assert len(set(rows)) == 40
        for number, part in enumerate(parts):
            chosen = rows[8 * number : 8 * number + 8]
            seed: Any = [0, 2, number, block]
            expected, _ = plainly_selected(all_tokens[part], 8, 6, 1.1, seed)
            assert set(chosen) == {int(part[one]) for one in expected}


def test_few_tokens_are_all_in_the_bank(tmp_path: Path) -> None:
    bank = read_banks(train(tmp_path, count=2, brightness_jitter=0.0, bank_size=32))
    for name, expected in zip(bank, tokens_of(np.load(tmp_path / "train2" / "tiles.npy")), strict=True):
        torch.testing.assert_close(bank[name], expected, rtol=1e-4, atol=1e-5)
    less = read_banks(train(tmp_path, "less", count=2, brightness_jitter=0.0, bank_size=31))
    assert [len(tokens) for tokens in less.values()] == [31, 31]


@pytest.mark.parametrize(("bank_size", "rounds"), [(40, 7), (3, 5), (111, 100), (50, 1), (10, 300), (1, 1)])
def test_the_bank_has_its_size(tmp_path: Path, bank_size: int, rounds: int) -> None:
    bank = read_banks(train(tmp_path, bank_size=bank_size, rounds=rounds))
    assert [tuple(tokens.shape) for tokens in bank.values()] == [(bank_size, 192)] * 2
    assert all(len(tokens.unique(dim=0)) == bank_size for tokens in bank.values())


def test_the_same_seed_gives_the_same_bytes_with_any_memory(
    tmp_path: Path, caplog: pytest.LogCaptureFixture, monkeypatch: pytest.MonkeyPatch
) -> None:
    first = train(tmp_path, "first").read_bytes()
    assert train(tmp_path, "again").read_bytes() == first
    assert train(tmp_path, "threads", threads=3).read_bytes() == first
    assert train(tmp_path, "other", seed=1).read_bytes() != first
    with caplog.at_level(logging.INFO):
        assert train(tmp_path, "little", memory_gb=1e-9).read_bytes() == first
    assert "superadd.memory_gb holds 1 of 5 subsets" in caplog.text and "encoded 5 times" in caplog.text
    # Working memory of 4 (23 * 192 + 77) bytes and two parts of 4 * 2 * 23 * 192.
    monkeypatch.setattr("robis.detectors.superadd.train.QUERIES_AT_ONCE", 7)
    monkeypatch.setattr("robis.detectors.superadd.train.BANK_AT_ONCE", 11)
    two = 4 * (23 * 192 + 77) + 2 * 4 * 2 * 23 * 192
    with caplog.at_level(logging.INFO):
        caplog.clear()
        assert train(tmp_path, "two", memory_gb=two / 1e9).read_bytes() == first
        assert "holds 2 of 5" in caplog.text and "encoded 3 times" in caplog.text
        caplog.clear()
        assert train(tmp_path, "fewer", memory_gb=(two - 1) / 1e9).read_bytes() == first
        assert "holds 1 of 5" in caplog.text
    assert list(read_banks(tmp_path / "two" / "model.safetensors")) == ["block_1", "block_3"]
    with safe_open(tmp_path / "two" / "model.safetensors", framework="pt") as stream:
        assert json.loads(stream.metadata()["superadd"]) == {"encoder": "vit_tiny_patch16_224"}
    assert read_table(tmp_path / "two" / "t.parquet").empty


def test_batches_and_cores_choose_the_same_tokens(tmp_path: Path) -> None:
    """An encoder's sums depend on both in their last digits."""
    expected = read_banks(train(tmp_path, "one"))
    before = torch.get_num_threads()
    try:
        torch.set_num_threads(3)
        others = [train(tmp_path, "cores"), train(tmp_path, "batches", batch_size=7)]
    finally:
        torch.set_num_threads(before)
    for other in others:
        for name, tokens in read_banks(other).items():
            torch.testing.assert_close(tokens, expected[name], rtol=1e-4, atol=1e-5)


def test_tiles_are_brightened_by_their_number(tmp_path: Path) -> None:
    bank = read_banks(train(tmp_path, count=4, bank_size=64, brightness_jitter=0.5))
    tiles = np.load(tmp_path / "train4" / "tiles.npy")
    changed = []
    for number, tile in enumerate(tiles):
        factor = np.random.default_rng([0, 3, number]).uniform(0.5, 1.5)
        changed.append(np.clip(np.rint(tile * factor), 0, 255).astype(np.uint8))
    assert max(int(one.max()) for one in changed) == 255
    for tokens, expected in zip(bank.values(), tokens_of(np.stack(changed)), strict=True):
        torch.testing.assert_close(tokens, expected, rtol=1e-4, atol=1e-5)


def infer(folder: Path, model: Path, name: str = "maps", **options: Any) -> np.ndarray:
    maps, table = folder / "out" / f"{name}.npy", folder / "out" / f"{name}.parquet"
    infer_split(*write_tiles(folder / "test", 5, seed=2), maps, table, model=model, **INFER | options)
    return np.load(maps)


def test_maps_are_exact_distances_divided_by_the_width(tmp_path: Path) -> None:
    model = train(tmp_path)
    maps = infer(tmp_path, model)
    assert maps.dtype == np.float16 and maps.shape == (5, 48, 48)
    bank = read_banks(model).values()
    found = []
    for kept, tokens in zip(bank, tokens_of(np.load(tmp_path / "test" / "tiles.npy")), strict=True):
        grid = (exact_distances(tokens, kept) / 192).view(5, 1, 4, 4)
        found.append(F.interpolate(grid, size=48, mode="bilinear", align_corners=False)[:, 0].numpy())
    expected = np.stack([gaussian_filter(one, 4.0, mode="constant") for one in np.mean(found, axis=0)])
    expected /= gaussian_filter(np.ones((48, 48)), 4.0, mode="constant")
    assert expected.std() > 1e-4
    np.testing.assert_allclose(maps, expected, rtol=1e-3)
    assert read_table(tmp_path / "out" / "maps.parquet")["sample_id"].tolist() == [f"good/{n}" for n in range(5)]


def test_tiles_that_are_in_the_bank_are_normal(tmp_path: Path) -> None:
    model = train(tmp_path, brightness_jitter=0.0, bank_size=1000, batch_size=2)
    infer_split(*write_tiles(tmp_path / "train7", 7), tmp_path / "m.npy", tmp_path / "m.parquet", model=model, **INFER)
    assert np.load(tmp_path / "m.npy").max() < 1e-6
    assert infer(tmp_path, model).min() > 1e-3


@pytest.mark.parametrize("shards", [2, 3, 4])
def test_shards_change_no_bit(tmp_path: Path, shards: int) -> None:
    model = train(tmp_path)
    infer(tmp_path, model, "one")
    files = [(tmp_path / f"{shard}.npy", tmp_path / f"{shard}.parquet") for shard in range(shards)]
    for shard, written in enumerate(files):
        options = INFER | {"shard": shard, "shards": shards}
        infer_split(*write_tiles(tmp_path / "test", 5, seed=2), *written, model=model, **options)
    out = tmp_path / "out"
    parts, tables = zip(*files, strict=True)
    gather_shards(parts, tables, out / "all.npy", out / "all.parquet", tiles=tmp_path / "test" / "tiles.npy", **INFER)
    for end in (".npy", ".parquet"):
        assert (out / f"all{end}").read_bytes() == (out / f"one{end}").read_bytes()


@pytest.mark.parametrize(
    ("options", "message"),
    [
        (
            {"encoder": ENCODER | {"name": "vit_small_patch16_224"}},
            r"made for vit_tiny_patch16_224; expected vit_small",
        ),
        (
            {"encoder": ENCODER | {"blocks": [1, 2]}},
            r"has no 'block_2', only block_1, block_3, origins_1, origins_3\..*delete it, and `train` runs again",
        ),
    ],
)
def test_a_bank_of_another_encoder_is_refused(tmp_path: Path, options: dict[str, Any], message: str) -> None:
    with pytest.raises(WeightsError, match=message):
        infer(tmp_path, train(tmp_path), **options)


def test_damaged_and_foreign_files_are_refused(tmp_path: Path) -> None:
    model = tmp_path / "model.safetensors"
    with pytest.raises(WeightsError, match=r"model\.safetensors: does not exist"):
        infer(tmp_path, model)
    model.write_bytes(b"damaged")
    with pytest.raises(WeightsError, match=r"model\.safetensors: cannot be read as a file of superadd"):
        infer(tmp_path, model)
    save_file({"block_1": torch.zeros(2, 3)}, model)
    with pytest.raises(WeightsError, match=r"not a file of superadd"):
        infer(tmp_path, model)
    save_file({"block_1": torch.zeros(2, 3)}, model, {"superadd": json.dumps({"encoder": ENCODER["name"]})})
    with pytest.raises(WeightsError, match=r"'block_1' is \(2, 3\); expected \(any, 192\)"):
        infer(tmp_path, model)


def test_no_tiles_and_tokens_that_are_not_finite_are_refused(tmp_path: Path) -> None:
    with pytest.raises(DataError, match=r"tiles\.npy: the tile store is empty"):
        train(tmp_path, count=0)
    vit = build_encoder(**ENCODER).vit
    state = vit.state_dict()
    state["blocks.1.mlp.fc2.bias"][3] = torch.nan
    save_file(state, tmp_path / "vit.safetensors")
    with pytest.raises(DataError, match=r"tile 0 gives tokens that are not finite\. Set infer\.precision to float32"):
        train(tmp_path, encoder=ENCODER | {"weights": str(tmp_path / "vit.safetensors")})
    assert not (tmp_path / "model" / "model.safetensors").exists()
