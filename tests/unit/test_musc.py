"""MuSc against the published formulation (unfold, adaptive pooling, cdist) written out image by image."""

from __future__ import annotations

import errno
import os
import subprocess
import sys
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
import torch
import torch.nn.functional as F
from torch import Tensor

from robis.detectors.musc import infer as musc_infer
from robis.detectors.musc import reference
from robis.detectors.musc.nearest import plan_memory
from robis.detectors.musc.reference import chosen_images
from robis.detectors.musc.scores import (
    Scoring,
    layer_norm,
    lnamd,
    mean_scores,
    mutual_scores,
    random_parts,
    ranks,
    score_maps,
    token_store,
)
from robis.encoders.build import build_encoder
from robis.errors import ConfigError, DataError, DiskFullError
from robis.io.arrays import scratch_array
from robis.io.tables import read_table, write_table
from robis.tiles.store import TILE_COLUMNS
from tests.detector_jobs import gathering, inferring

GRID, WIDTH = 5, 24
PLENTY = 1 << 30


def random_tokens(blocks: int, tiles: int, grid: int = GRID, width: int = WIDTH, seed: int = 0) -> Tensor:
    """Raw tokens (L, M, g*g, C) that share a structure, so that neighbors differ in distance."""
    generator = torch.Generator().manual_seed(seed)
    common = torch.randn(blocks, 1, grid * grid, width, generator=generator)
    return 3 * common + torch.randn(blocks, tiles, grid * grid, width, generator=generator) + 1


def published_features(raw: Tensor, grid: int, r: int) -> Tensor:
    """LayerNorm, unfold, adaptive average pooling from C r^2 to C, unit length: (M, T, C) from (M, T, C)."""
    maps = raw.transpose(1, 2).unflatten(2, (grid, grid))
    mean, variance = maps.mean((1, 2, 3), keepdim=True), maps.var((1, 2, 3), keepdim=True, unbiased=False)
    maps = (maps - mean) / (variance + 1e-5).sqrt()
    patches = F.unfold(maps, r, padding=(r - 1) // 2).transpose(1, 2)
    pooled = F.adaptive_avg_pool1d(patches.flatten(0, 1)[:, None], maps.shape[1])[:, 0].unflatten(0, patches.shape[:2])
    return pooled / pooled.norm(dim=-1, keepdim=True)


def published_scores(raw: Tensor, images: list[int], r: list[int], low: float = 0.0, high: float = 0.3) -> Tensor:
    """One tile and one other image at a time: the nearest of all its tiles' tokens by cdist, sorted, averaged."""
    grid = int(raw.shape[2] ** 0.5)
    total = torch.zeros(raw.shape[1:3])
    for block in raw:
        for side in r:
            found = published_features(block, grid, side)
            for tile, image in enumerate(images):
                distances = []
                for other in sorted(set(images) - {image}):
                    tokens = torch.cat([found[n] for n, one in enumerate(images) if one == other])
                    exact = torch.cdist(found[tile], tokens, compute_mode="donot_use_mm_for_euclid_dist")
                    distances.append(exact.min(1).values)
                ascending = torch.stack(distances).sort(0).values
                first = int(low * len(distances))
                total[tile] += ascending[first : max(first + 1, int(high * len(distances)))].mean(0)
    return total / (len(raw) * len(r))


def no_disk(shape: tuple[int, ...], dtype: torch.dtype) -> Tensor:
    raise AssertionError("there is memory enough")


def scores_of(raw: Tensor, images: list[int] | None = None, *, memory: int = PLENTY, **options) -> Tensor:
    images = list(range(raw.shape[1])) if images is None else images
    options = {
        "neighborhood_sizes": [1, 3, 5],
        "averaged_fraction": (0.0, 0.3),
        "parts": [np.unique(images)],
        "scratch": no_disk,
        **options,
    }
    tokens = [layer_norm(block) for block in raw]
    options = {"device": torch.device("cpu"), "dtype": torch.float32} | options
    rounds = mutual_scores(tokens, np.array(images), int(raw.shape[2] ** 0.5), Scoring(memory=memory, **options))
    return mean_scores(rounds)


@pytest.mark.parametrize("r", [1, 3, 5])
def test_neighborhoods_are_those_of_unfold_and_adaptive_pooling(r: int) -> None:
    raw = random_tokens(1, 3)[0]
    torch.testing.assert_close(lnamd(layer_norm(raw), GRID, r), published_features(raw, GRID, r), rtol=0, atol=1e-6)


def test_zeros_beyond_the_border_count() -> None:
    tokens = torch.ones(1, 9, 2)
    tokens[0, 4, 1] = 10
    # By hand: at a corner 4 of 9 values, one of them 10, in the middle all 9; the length is divided out.
    averages = torch.tensor([[4 / 9, 13 / 9], [1.0, 2.0]])
    torch.testing.assert_close(lnamd(tokens, 3, 3)[0, [0, 4]], F.normalize(averages, dim=-1))


def test_layer_normed_tokens_fit_float16_whatever_the_encoder_gives() -> None:
    raw = torch.zeros(1, 16, 8)
    raw[0, 3, 2] = 3e6
    normed = layer_norm(raw)
    assert normed.abs().max() <= (16 * 8) ** 0.5
    assert normed.half().isfinite().all()


@pytest.mark.parametrize("images", [2, 3, 4, 7, 8, 12])
def test_scores_are_the_published_ones(images: int) -> None:
    raw = random_tokens(2, images, seed=images)
    expected = published_scores(raw, list(range(images)), [1, 3, 5])
    assert expected.std() > 1e-2, "scores that are all alike would agree with anything"
    torch.testing.assert_close(scores_of(raw), expected, rtol=0, atol=1e-5)


@pytest.mark.parametrize(("low", "high"), [(0.0, 1.0), (0.25, 0.6), (0.5, 0.5), (0.9, 1.0)])
def test_other_shares_of_the_distances(low: float, high: float) -> None:
    raw = random_tokens(1, 9)
    expected = published_scores(raw, list(range(9)), [3], low, high)
    scores = scores_of(raw, neighborhood_sizes=[3], averaged_fraction=(low, high))
    torch.testing.assert_close(scores, expected, rtol=0, atol=1e-5)


def test_reference_images_are_as_many_as_asked_for_and_fit(monkeypatch: pytest.MonkeyPatch) -> None:
    tiles = np.array([2, 1, 3, 1, 2])
    assert chosen_images(tiles, 9, 0, 10).tolist() == [0, 1, 2, 3, 4]
    order = np.random.default_rng(7).permutation(5)
    assert chosen_images(tiles, 3, 7, 10).tolist() == sorted(order[:3])
    # The four first images have just as many bytes as there may be.
    monkeypatch.setattr(reference, "MOST_BYTES", 10 * int(tiles[order[:4]].sum()))
    assert chosen_images(tiles, 9, 7, 10).tolist() == sorted(order[:4])
    monkeypatch.setattr(reference, "MOST_BYTES", 1)
    assert chosen_images(tiles, 9, 7, 10).tolist() == sorted(order[:2]), "an image and another"


def test_ranks_by_hand() -> None:
    assert ranks(199, (0.0, 0.3)) == (0, 59)
    assert ranks(3, (0.0, 0.3)) == (0, 1), "int(0.9) would average nothing"
    assert ranks(10, (0.2, 0.5)) == (2, 5)
    assert ranks(1, (0.5, 1.0)) == (0, 1)
    assert ranks(4, (1.0, 1.0)) == (3, 4)


def test_images_of_several_tiles_in_any_order() -> None:
    images = [2, 0, 1, 0, 2, 2, 3, 1]
    raw = random_tokens(2, len(images), grid=4)
    expected = published_scores(raw, images, [1, 3], high=0.7)
    found = scores_of(raw, images, neighborhood_sizes=[1, 3], averaged_fraction=(0.0, 0.7))
    torch.testing.assert_close(found, expected, rtol=0, atol=1e-5)


def test_a_tile_is_not_compared_with_its_own_image() -> None:
    raw = random_tokens(1, 4)
    raw[:, 1] = raw[:, 0]
    assert scores_of(raw, [0, 0, 1, 1], neighborhood_sizes=[1])[0].min() > 0.1, "a copy in the same image gives 0"
    # The product of two equal unit vectors is 1 to rounding, of which the distance is the root.
    assert scores_of(raw, [0, 1, 2, 3], neighborhood_sizes=[1])[0].max() < 1e-3


def test_parts_are_scored_separately_and_partition_the_images() -> None:
    parts = random_parts(11, 3, seed=4)
    assert sorted(map(len, parts)) == [3, 4, 4]
    assert sorted(np.concatenate(parts).tolist()) == list(range(11))
    assert [part.tolist() for part in parts] == [part.tolist() for part in random_parts(11, 3, seed=4)]
    assert [part.tolist() for part in parts] != [part.tolist() for part in random_parts(11, 3, seed=5)]
    assert random_parts(5, 1, seed=4)[0].tolist() == [0, 1, 2, 3, 4]
    raw = random_tokens(1, 11)
    found = scores_of(raw, neighborhood_sizes=[3], parts=parts)
    for part in parts:
        expected = published_scores(raw[:, part], list(range(len(part))), [3])
        torch.testing.assert_close(found[part], expected, rtol=0, atol=1e-5)


@pytest.mark.parametrize("subsets", [0, 4, 7])
def test_parts_of_one_image_are_refused(subsets: int) -> None:
    with pytest.raises(ConfigError, match=rf"musc\.subsets: found {subsets} for 7 images.*Expected 1 to 3"):
        random_parts(7, subsets, seed=0)


def test_even_neighborhoods_are_refused() -> None:
    with pytest.raises(ConfigError, match=r"musc\.neighborhood_sizes: found \[1, 2\]; expected odd"):
        scores_of(random_tokens(1, 2), neighborhood_sizes=[1, 2])


@pytest.mark.parametrize("images", [[0, 1, 2, 3, 4, 5, 6, 7, 8], [0, 0, 0, 1, 2, 2, 3, 4, 4]])
@pytest.mark.parametrize("share", [1e-9, 0.3, 0.7, 0.95])
def test_little_memory_gives_the_same_scores(images: list[int], share: float) -> None:
    raw = random_tokens(1, 9)
    whole = plan_memory(np.array(images), GRID**2, WIDTH, 4, PLENTY)
    assert whole.distances_in_memory and len(whole.blocks) == 1
    memory = int(whole.bytes * share)
    plan = plan_memory(np.array(images), GRID**2, WIDTH, 4, memory)
    assert len(plan.blocks) > 1
    assert [block.start for block in plan.blocks] + [whole.images] == [0] + [block.stop for block in plan.blocks]
    on_disk = []

    def scratch(shape: tuple[int, ...], dtype: torch.dtype) -> Tensor:
        on_disk.append(shape)
        return torch.empty(shape, dtype=dtype)

    found = scores_of(raw, images, memory=memory, scratch=scratch)
    assert torch.equal(found, scores_of(raw, images)), "every pair is one product, whatever the blocks are"
    assert set(on_disk) == (set() if plan.distances_in_memory else {(9, whole.images, GRID**2)})


def test_any_number_of_cores_gives_the_same_scores() -> None:
    raw, images = random_tokens(1, 7), [0, 1, 1, 2, 3, 3, 4]
    before = torch.get_num_threads()
    try:
        found = []
        for cores in (1, 3):
            torch.set_num_threads(cores)
            found.append(scores_of(raw, images))
            assert torch.get_num_threads() == cores
    finally:
        torch.set_num_threads(before)
    assert torch.equal(*found)


def test_memory_plan_keeps_to_its_memory() -> None:
    of = np.arange(2000)
    for gigabytes in (1, 4, 8, 16, 24):
        memory = gigabytes * 10**9
        plan = plan_memory(of, 1369, 1024, 2, memory)
        block = max(map(len, plan.blocks))
        features = min(2, len(plan.blocks)) * block * 1369 * 1024 * 2
        distances = 2000 * 2000 * 1369 * 4 if plan.distances_in_memory else 2 * block * block * 1369 * 4
        assert features + distances <= memory
        assert len(plan.blocks) <= 20, "smaller blocks would read features too often"
    assert len(plan_memory(np.arange(200), 1369, 1024, 2, 10**9).blocks) == 1, "200 images fit with room to spare"


@pytest.mark.parametrize(("dtype", "stored"), [(torch.float32, torch.float32), (torch.bfloat16, torch.float16)])
def test_tokens_are_kept_in_memory_where_they_fit_else_on_disk(dtype: torch.dtype, stored: torch.dtype) -> None:
    images, parts = np.arange(4), [np.array([0, 2]), np.array([1, 3])]
    scoring = 2 * 25 * 24 * dtype.itemsize + 2 * 2 * 25 * 4
    needed = scoring + 2 * 4 * 25 * 24 * stored.itemsize
    options = {"neighborhood_sizes": [1], "averaged_fraction": (0.0, 0.3), "parts": parts}
    options |= {"device": torch.device("cpu"), "dtype": dtype}
    tokens = token_store([24, 24], (4, 25), images, Scoring(memory=needed, scratch=no_disk, **options))
    assert [(tuple(layer.shape), layer.dtype) for layer in tokens] == [((4, 25, 24), stored)] * 2
    rooms = []
    on_disk = Scoring(memory=needed - 1, scratch=lambda *room: rooms.append(room), **options)
    token_store([24, 24], (4, 25), images, on_disk)
    assert rooms == [((4, 25, 24), stored)] * 2


def test_scratch_files_vanish_on_error_too(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    array = scratch_array(tmp_path / "maps.npy", np.float32, (3, 4))
    array[:] = 7
    assert Path(array.filename).parent == tmp_path
    assert list(tmp_path.iterdir()) == []
    assert array.sum() == 84

    def full(*_: int) -> None:
        raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setattr(os, "posix_fallocate", full)
    with pytest.raises(DiskFullError, match=r"maps\.npy: the disk is full\. It takes 48 bytes"):
        scratch_array(tmp_path / "maps.npy", np.float32, (3, 4))
    assert list(tmp_path.iterdir()) == []


def test_map_of_one_token_is_where_the_token_is() -> None:
    scores = torch.zeros(1, 16)
    scores[0, 3] = 2.0
    found = score_maps(scores, 28)[0]
    assert found[0, -1] == 2, "corners aligned: the corner token is the corner pixel"
    torch.testing.assert_close(found[0], torch.linspace(0, 3, 28).sub(2).clamp(min=0) * 2)


KERNEL = """
import torch
from robis.detectors.musc.kernel import Launch, pair_maxima
from robis.detectors.musc.nearest import pair_maxima as plain

def compare(x, y, pairs, launch, same=False):
    found, expected = [], []
    for products, results in ((pair_maxima, found), (plain, expected)):
        rows = torch.full((len(x), 5, x.shape[1]), -2.0)
        # Not contiguous, as views of a larger array are.
        cols = rows if same else torch.full((len(y), 9, y.shape[1]), -2.0)[:, 2:7]
        products(x, y, pairs, rows, cols, *([launch] if products is pair_maxima else []))
        results += [rows, cols]
    for a, b in zip(found, expected):
        torch.testing.assert_close(a, b, rtol=0, atol=1e-6)
    assert (expected[0] > -2).any() and (expected[0] == -2).any()

torch.manual_seed(0)
# Triton's interpreter multiplies no bfloat16. 21 tokens and 24 channels fill no piece; image 0 of y has two tiles.
x, y = (torch.nn.functional.normalize(torch.randn(3, 21, 24), dim=-1) for _ in "xy")
x, y = x.half(), y.half()
pairs = torch.tensor([[0, 0, 0, 0], [0, 1, 0, 0], [0, 2, 0, 1], [2, 1, 2, 0]], dtype=torch.int32)
compare(x, y, pairs, Launch(16, 16, 16, 4, 2))
compare(x, y, pairs, Launch(32, 16, 16, 4, 2))
# Neither the pairs nor the features need to be contiguous.
compare(x[:, ::2], y.mT.contiguous().mT[:, ::2], pairs.repeat_interleave(3, 0)[::3], Launch(16, 16, 16, 4, 2))
compare(x, x, torch.tensor([[0, 1, 0, 1], [0, 2, 0, 2]], dtype=torch.int32), Launch(16, 32, 8, 4, 2), same=True)
# Cosines of one sign, and zero, which has two.
x = torch.zeros(2, 17, 16, dtype=torch.float16)
x[0, :, 0], x[1, :, 0] = 1, -1
pairs = torch.tensor([[0, 1, 0, 1]], dtype=torch.int32)
compare(x, x, pairs, Launch(16, 16, 16, 4, 2))
compare(x * torch.tensor([1.0, 0.0]).half()[:, None, None], -x, pairs, Launch(16, 16, 16, 4, 2))
print("equal")
"""


def test_the_kernel_computes_what_plain_products_do() -> None:
    pytest.importorskip("triton")
    environment = os.environ | {"TRITON_INTERPRET": "1"}
    done = subprocess.run([sys.executable, "-c", KERNEL], env=environment, capture_output=True, text=True, check=False)
    assert done.stdout.strip() == "equal", done.stderr[-2000:]


def test_triton_is_not_imported_without_a_gpu() -> None:
    code = """
import os, sys
os.environ["CUDA_VISIBLE_DEVICES"] = ""
import torch
import numpy as np
from robis.detectors.musc.scores import Scoring, mutual_scores
scoring = Scoring([1], (0, 0.3), [np.arange(2)], 1 << 20, None, torch.device("cpu"), torch.float32)
list(mutual_scores([torch.randn(2, 4, 8)], np.arange(2), 2, scoring))
print("robis.detectors.musc.kernel" in sys.modules)
"""
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "False"


infer_split, gather_shards = inferring(musc_infer.infer_split), gathering(musc_infer.gather_shards)

ENCODER = {"name": "vit_tiny_patch16_224", "weights": "random", "input_size": 64, "blocks": [3, 11]}
OPTIONS = {
    **{"encoder": ENCODER, "seed": 0, "neighborhood_sizes": [1, 3], "averaged_fraction": [0.0, 0.3]},
    **{"subsets": 1, "memory_gb": 1.0},
    **{"window": "image", "scale": 0.25, "batch_size": 2, "device": "cpu"},
}


def write_tiles(folder: Path, sample_ids: list[str]) -> tuple[Path, Path]:
    tiles = np.random.default_rng(1).integers(0, 256, (len(sample_ids), 64, 64, 3), dtype=np.uint8)
    np.save(folder / "tiles.npy", tiles)
    rows = [(n, name, 0, n, 0, 0, 48, 48) for n, name in enumerate(sample_ids)]
    write_table(folder / "tiles.parquet", pd.DataFrame(rows, columns=TILE_COLUMNS))
    return folder / "tiles.npy", folder / "tiles.parquet"


def infer(folder: Path, sample_ids: list[str], name: str = "maps", **options) -> tuple[np.ndarray, pd.DataFrame]:
    maps, table = folder / "out" / f"{name}.npy", folder / "out" / f"{name}.parquet"
    infer_split(*write_tiles(folder, sample_ids), maps, table, **OPTIONS | options)
    return np.load(maps), read_table(table)


def test_a_split_from_tiles_to_maps_scores_and_embeddings(tmp_path: Path) -> None:
    names = ["a", "b", "c", "d", "e"]
    maps, table = infer(tmp_path, names)
    vit = build_encoder(**ENCODER, seed=0)
    with torch.inference_mode():
        tokens, embedding = vit.with_embedding(torch.from_numpy(np.load(tmp_path / "tiles.npy")))
    expected = published_scores(torch.stack(tokens), list(range(5)), [1, 3])
    expected = F.interpolate(expected.unflatten(1, (1, 4, 4)), size=64, mode="bilinear", align_corners=True)[:, 0]
    assert maps.dtype == np.float16 and maps.shape == (5, 64, 64)
    np.testing.assert_allclose(maps, expected, rtol=1e-3, atol=1e-4)
    np.testing.assert_allclose(table["score"], expected.amax((1, 2)), rtol=0, atol=1e-5)
    assert table["score"].dtype == np.float32
    np.testing.assert_allclose(np.stack(table["embedding"]), embedding, rtol=0, atol=1e-4)
    assert table["sample_id"].tolist() == names
    assert sorted(path.name for path in (tmp_path / "out").iterdir()) == ["maps.npy", "maps.parquet"]


def test_the_same_input_gives_the_same_bytes_with_any_memory(tmp_path: Path) -> None:
    names = ["a", "a", "b", "c", "c", "d"]
    for name, memory in (("one", 1.0), ("two", 1.0), ("little", 1e-6)):
        infer(tmp_path, names, name, memory_gb=memory)
    first, *others = [
        [(tmp_path / "out" / f"{name}{end}").read_bytes() for end in (".npy", ".parquet")]
        for name in ("one", "two", "little")
    ]
    assert others == [first, first]


@pytest.mark.parametrize("shards", [2, 3, 6])
def test_shards_change_no_bit(tmp_path: Path, shards: int) -> None:
    names = ["a", "b", "b", "c"]
    infer(tmp_path, names, "one", window=48)
    files = [(tmp_path / f"{shard}.npy", tmp_path / f"{shard}.parquet") for shard in range(shards)]
    for shard, written in enumerate(files):
        infer_split(
            *write_tiles(tmp_path, names), *written, **OPTIONS | {"window": 48, "shard": shard, "shards": shards}
        )
    assert sum(len(np.load(maps)) for maps, _ in files) == 4, "two blocks, two neighborhoods"
    out = tmp_path / "out"
    parts, tables = zip(*files, strict=True)
    options = OPTIONS | {"window": 48, "shards": shards, "tiles": tmp_path / "tiles.npy"}
    gather_shards(parts, tables, out / "all.npy", out / "all.parquet", **options)
    for end in (".npy", ".parquet"):
        assert (out / f"all{end}").read_bytes() == (out / f"one{end}").read_bytes()


def test_maps_of_windows_are_resized_and_scores_are_not(tmp_path: Path) -> None:
    names = ["a", "a", "b", "c"]
    small, table = infer(tmp_path, names, window=48, scale=0.25)
    large, whole = infer(tmp_path, names)
    assert small.shape == (4, 12, 12)
    assert table["score"].tolist() == whole["score"].tolist()
    expected = F.interpolate(torch.from_numpy(large).float()[:, None], size=12, mode="bilinear")[:, 0]
    np.testing.assert_allclose(small, expected, rtol=0, atol=2e-3)


def test_one_image_is_refused_before_a_model_is_built(tmp_path: Path) -> None:
    broken = {"name": "no such encoder"}
    with pytest.raises(DataError, match=r"tiles\.parquet: found 1 image; mutual scoring needs at least 2 images"):
        infer(tmp_path, ["a", "a"], encoder=broken)
    with pytest.raises(DataError, match=r"found 0 images; mutual scoring needs at least 2"):
        infer(tmp_path, [], encoder=broken)
    with pytest.raises(ConfigError, match=r"musc\.subsets: found 2 for 3 images"):
        infer(tmp_path, ["a", "b", "c"], encoder=broken, subsets=2)


def test_tokens_that_are_not_finite_name_the_tile(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def broken(encoder, tiles: Tensor) -> tuple[list[Tensor], Tensor]:
        tokens = torch.randn(2, len(tiles), 16, 192)
        tokens[1, (tiles.float().mean((1, 2, 3)) == 7).nonzero()] = torch.nan
        return list(tokens), torch.randn(len(tiles), 8)

    monkeypatch.setattr("robis.encoders.encoder.Encoder.with_embedding", broken)
    tiles, table = write_tiles(tmp_path, ["a", "b", "c", "d"])
    pixels = np.load(tiles)
    pixels[3] = 7
    np.save(tiles, pixels)
    with pytest.raises(DataError, match=r"tiles\.npy: tile 3 gives tokens that are not finite"):
        infer_split(tiles, table, tmp_path / "out.npy", tmp_path / "out.parquet", **OPTIONS)
    assert sorted(path.name for path in tmp_path.iterdir()) == ["tiles.npy", "tiles.parquet"]
