"""SuperADD as published, from whole images to masks, against the loops of `tests.published_superadd`."""

from __future__ import annotations

import logging
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import pytest
import torch
from PIL import Image

from robis.binarization.lines import LineClosing, mask_closed_by_lines
from robis.datasets.layouts import held_out, list_samples
from robis.datasets.samples import Source
from robis.detectors.inference import gather_maps
from robis.detectors.jobs import Compute
from robis.detectors.superadd.infer import infer_split
from robis.detectors.superadd.joined import Joining, joined_tokens
from robis.detectors.superadd.thinning import SeededDraws, Thinning, thin
from robis.detectors.superadd.train import train_category
from robis.encoders.build import build_encoder
from robis.errors import ConfigError
from robis.io.maps import read_map
from robis.io.samples import IndexedSample, write_samples
from robis.tiles.even import even_spans
from robis.tiles.files import TileMaps, TileStore
from robis.tiles.merge import merge_split
from robis.tiles.store import Cutting, crop_split, open_tiles
from tests import published_superadd as plain
from tests.detector_jobs import gathering, inferring, read_banks, training
from tests.unit.test_superadd import ENCODER, INFER, TRAIN, random_tokens

# Tiles of 4 x 4 tokens that share two at least.
JOINED: dict[str, Any] = {"window": "joined", "image_scale": 0.625, "overlap": 0.5}
# Scaled to 131 x 93 pixels and 8 x 5 tokens, to 60 x 46 and 3 x 2 tokens, and to 4 x 6 tokens without rest.
SIZES = [(210, 150), (97, 75), (103, 154)]


@pytest.mark.parametrize(("tile", "margin"), [(40, 8), (40, 1), (7, 2), (4, 1)])
def test_tiles_are_placed_as_published_and_each_token_is_used_once(tile: int, margin: int) -> None:
    for tokens in [1, tile - 1, tile, tile + 1, *range(tile + 2, 6 * tile, 5)]:
        spans = even_spans(tokens, tile, 2 * margin)
        found = [(span.start, span.inside.start, span.inside.stop) for span in spans]
        assert found == plain.placed(tokens, tile, margin), tokens
        assert [n for span in spans for n in range(span.first, span.stop)] == list(range(tokens))


def test_an_odd_overlap_gives_the_first_tile_the_token_in_the_middle() -> None:
    # Two tiles of 40 for 67 tokens, the second from 27: 13 shared tokens, 27 to 39.
    spans = even_spans(67, 40, 1)
    assert [(span.start, span.first, span.stop) for span in spans] == [(0, 0, 34), (27, 34, 67)]
    assert [span.start for span in even_spans(120, 40, 16)] == [0, 20, 40, 60, 80]


def test_images_are_scaled_as_pillow_does_without_rounding() -> None:
    image = np.random.default_rng(0).integers(0, 2, (31, 42, 3), dtype=np.uint8).repeat(2, 0).repeat(2, 1) * 255
    image = np.ascontiguousarray(image[:61])
    found = Joining(0.625, 0.4).scaled(torch.from_numpy(image)).numpy()
    assert found.shape == (3, 38, 52)
    assert found.min() < -1 and found.max() > 256, "neither clipped nor rounded"
    np.testing.assert_allclose(found.transpose(1, 2, 0), plain.scaled_image(image, 0.625), atol=1e-3)
    for channel in range(3):
        values = Image.fromarray(image[..., channel].astype(np.float32))
        np.testing.assert_allclose(found[channel], values.resize((52, 38), Image.Resampling.BICUBIC), atol=1e-2)
    brighter = Joining(0.625, 0.4).scaled(torch.from_numpy(image), 1.2).numpy().transpose(1, 2, 0)
    np.testing.assert_allclose(brighter, plain.scaled_image(image, 0.625, 1.2), atol=1e-3)


def write_images(folder: Path, seed: int = 0) -> tuple[list[np.ndarray], Path, TileStore]:
    """Images of three sizes, their sample table, and the store that `crop` makes of them."""
    folder.mkdir(parents=True)
    rng = np.random.default_rng(seed)
    images = [cv2.resize(rng.integers(0, 256, (9, 7, 3), dtype=np.uint8), size[::-1]) for size in SIZES]
    for number, image in enumerate(images):
        Image.fromarray(image).save(folder / f"{number}.png")
    samples = [
        IndexedSample(f"good/{n}", "test", f"{n}.png", 0, None, None, height=size[0], width=size[1])
        for n, size in enumerate(SIZES)
    ]
    write_samples(folder / "samples.parquet", samples)
    store = TileStore(folder / "tiles.npy", folder / "tiles.parquet")
    crop_split(folder / "samples.parquet", folder, store, Cutting("joined", 0.5, "pad", None))
    return images, folder / "samples.parquet", store


def test_whole_images_are_stored_as_they_are(tmp_path: Path) -> None:
    images, _, store = write_images(tmp_path / "images")
    tiles, table = open_tiles(store.tiles, store.table)
    assert tiles.shape == (3, 210, 154, 3)
    assert table[["sample_id", "height", "width"]].to_numpy().tolist() == [
        [f"good/{n}", *size] for n, size in enumerate(SIZES)
    ]
    for row, image in zip(tiles, images, strict=True):
        height, width = image.shape[:2]
        np.testing.assert_array_equal(row[:height, :width], image)
        assert not row[height:].any() and not row[:, width:].any()


def train(folder: Path, store: TileStore, name: str = "model", **options: Any) -> list[np.ndarray]:
    """The banks of both blocks."""
    model = folder / name / "model.safetensors"
    run = training(train_category)
    run(store.tiles, store.table, model, folder / name / "t.parquet", **TRAIN | JOINED | options)
    return [tokens.numpy() for tokens in read_banks(model).values()]


def infer(folder: Path, store: TileStore, name: str, **options: Any) -> TileMaps:
    maps = TileMaps(folder / f"{name}.npy", folder / f"{name}.parquet")
    published = {"smoothing_sigma": 0.0, "scale": 0.25, "model": folder / "model" / "model.safetensors"}
    inferring(infer_split)(store.tiles, store.table, maps.maps, maps.table, **INFER | JOINED | published | options)
    return maps


@torch.inference_mode()
def test_maps_of_whole_images_given_a_bank(tmp_path: Path) -> None:
    banks = train(tmp_path, write_images(tmp_path / "train", seed=1)[2], brightness_jitter=0.0)
    images, samples, store = write_images(tmp_path / "images")
    written = infer(tmp_path, store, "maps")
    maps, network = np.load(written.maps), build_encoder(**ENCODER)
    assert maps.dtype == np.float32 and maps.shape == (3, 52, 38)
    # Merged without a range they are what was inferred, rounded.
    merge_split(samples, written, None, tmp_path / "merged", scale=0.25, blend="mean")
    for number, (image, found) in enumerate(zip(images, maps, strict=True)):
        size = (image.shape[0] // 4, image.shape[1] // 4)
        expected = plain.image_map(plain.image_tokens(network, image, 0.625, 1), banks, size)
        assert expected.std() > 1e-4
        np.testing.assert_allclose(found[: size[0], : size[1]], expected, rtol=0, atol=1e-5)
        assert np.all(found[size[0] :] == found[: size[0], : size[1]].min()), "padding has no range of its own"
        merged = read_map(tmp_path / "merged" / "good" / f"{number}.tiff")
        np.testing.assert_array_equal(merged, found[: size[0], : size[1]].astype(np.float16))
    assert (np.load(infer(tmp_path, store, "smooth", smoothing_sigma=4.0).maps) != maps).any()


@torch.inference_mode()
def test_each_token_of_a_bank_has_the_brightness_of_its_image(tmp_path: Path) -> None:
    images, _, store = write_images(tmp_path / "images")
    banks = train(tmp_path, store, bank_size=1000, brightness_jitter=0.5)
    factors = [np.random.default_rng([0, 3, number]).uniform(0.5, 1.5) for number in range(3)]
    assert max(factors) > 1.2, "some pixels are clipped"
    network = build_encoder(**ENCODER)
    pairs = zip(images, factors, strict=True)
    expected = [plain.image_tokens(network, image, 0.625, 1, factor) for image, factor in pairs]
    for bank, blocks in zip(banks, zip(*expected, strict=True), strict=True):
        tokens = np.concatenate([block.reshape(-1, block.shape[-1]) for block in blocks])
        assert len(tokens) == 8 * 5 + 3 * 2 + 4 * 6
        np.testing.assert_allclose(bank, tokens, rtol=1e-4, atol=1e-5)


def test_shards_and_threads_of_whole_images_change_no_bit(tmp_path: Path) -> None:
    store = write_images(tmp_path / "images")[2]
    train(tmp_path, store)
    alone = infer(tmp_path, store, "alone")
    assert infer(tmp_path, store, "threads", threads=3, batch_size=5).maps.read_bytes() == alone.maps.read_bytes()
    parts = [infer(tmp_path, store, f"part{shard}", shard=shard, shards=2) for shard in range(2)]
    files = [part.maps for part in parts], [part.table for part in parts]
    gathering(gather_maps)(*files, tmp_path / "all.npy", tmp_path / "all.parquet", tiles=store.tiles, **INFER)
    assert (tmp_path / "all.npy").read_bytes() == alone.maps.read_bytes()
    assert (tmp_path / "all.parquet").read_bytes() == alone.table.read_bytes()


def test_tiles_of_parts_of_tokens_are_refused() -> None:
    network = build_encoder(**ENCODER)
    network.input_size = 63
    with pytest.raises(ConfigError, match=r"encoder\.input_size: found 63, of which the encoder makes 4 tokens per"):
        joined_tokens(network, torch.zeros(64, 64, 3, dtype=torch.uint8), Joining(1, 0.5), Compute())


@pytest.mark.parametrize(
    ("count", "bank_size", "rounds", "neighbors", "growth"),
    [(203, 50, 5, 10, 1.1), (120, 110, 4, 6, 1.1), (90, 9, 3, 100, 1.3), (60, 40, 2, 4, 2.0)],
)
def test_banks_are_thinned_as_published_by_the_same_random_numbers(
    count: int, bank_size: int, rounds: int, neighbors: int, growth: float
) -> None:
    tokens = random_tokens(count, offset=20)
    for seed in range(3):
        ours, theirs = (SeededDraws(np.random.default_rng(seed)) for _ in range(2))
        thinning = Thinning(bank_size, rounds, neighbors, growth)
        found = thin(lambda chosen: tokens[torch.from_numpy(chosen)], count, thinning, ours)
        assert found.tolist() == sorted(set(found.tolist())) and len(found) == bank_size
        assert set(found.tolist()) == plain.thinned(tokens, bank_size, rounds, neighbors, growth, theirs)


@pytest.mark.parametrize(("count", "bank_size", "rounds"), [(20, 7, 3), (20, 2, 5), (5, 3, 10), (4, 9, 2), (1, 1, 1)])
def test_tokens_that_are_all_alike_fill_a_bank(count: int, bank_size: int, rounds: int) -> None:
    """The published code would not end."""
    draws = SeededDraws(np.random.default_rng(0))
    found = thin(lambda chosen: torch.ones(len(chosen), 4), count, Thinning(bank_size, rounds, 3, 1.1), draws)
    assert len(set(found.tolist())) == len(found) == min(count, bank_size)


def test_redrawn_subsets_choose_the_same_tokens_in_memory_and_on_the_disk(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    store = write_images(tmp_path / "images")[2]
    everything = train(tmp_path, store, "everything", bank_size=1000)
    options = {"bank_size": 30, "rounds": 3, "redraw_subsets": True}
    banks = train(tmp_path, store, "redrawn", **options)
    for block, (tokens, found) in enumerate(zip(everything, banks, strict=True)):
        draws = SeededDraws(np.random.default_rng([0, 4, block]))
        numbers = plain.thinned(torch.from_numpy(tokens), 30, 3, 6, 1.1, draws)
        np.testing.assert_array_equal(found, tokens[sorted(numbers)])
    with caplog.at_level(logging.INFO):
        on_disk = train(tmp_path, store, "disk", memory_gb=1e-6, **options)
    assert "they wait on the disk" in caplog.text
    assert all((found == expected).all() for found, expected in zip(on_disk, banks, strict=True))
    assert sorted(path.name for path in (tmp_path / "disk").iterdir()) == ["model.safetensors", "t.parquet"]


def made_map(seed: int, shape: tuple[int, int]) -> np.ndarray:
    """Blobs and lines, some at the border."""
    rng = np.random.default_rng(seed)
    values = cv2.GaussianBlur(rng.random(shape, dtype=np.float32), (0, 0), 1 + seed % 3)
    center, value = (shape[1] // 2, shape[0] // 2), float(np.percentile(values, 98))
    cv2.ellipse(values, center, (14, 9), 20.0 * seed, 0, 300, value, 2)
    return values.astype(np.float16)


@pytest.mark.parametrize(
    ("shape", "closing"),
    [
        ((44, 61), LineClosing(26, 16, 0.8, 3)),
        ((50, 33), LineClosing(5, 7, 0.9, 3)),
        ((1, 40), LineClosing(3, 2, 0.0, 1)),
        ((23, 29), LineClosing(1, 1, 1.0, 1)),
    ],
)
def test_masks_are_those_of_sets_of_pixels(shape: tuple[int, int], closing: LineClosing) -> None:
    counts = []
    for seed in range(2):
        values = made_map(seed, shape)
        threshold = float(np.percentile(values.astype(np.float64), 95 - 20 * seed))
        found = mask_closed_by_lines(values, threshold, closing)
        assert found.dtype == np.uint8 and found.max() <= 1
        options = (closing.reach, closing.angles, closing.threshold_factor, closing.erosion_size)
        expected = plain.mask_of(values.astype(np.float32), threshold, *options)
        np.testing.assert_array_equal(found > 0, expected)
        counts.append(int(expected.sum()))
    assert max(counts) > 0


def test_lines_close_what_squares_would_not() -> None:
    """A scratch in two parts: its gap is closed along it where the map is nearly as high, and nowhere else."""
    values = np.zeros((60, 120), np.float32)
    values[28:33, 10:40] = values[28:33, 60:100] = 1.0
    values[28:33, 40:60] = 0.45
    values[28:33, 48:50] = 0.3
    found = mask_closed_by_lines(values, 0.5, LineClosing(26, 16, 0.8, 3)) > 0
    assert found[30, 12:47].all() and found[30, 51:98].all() and not found[30, 48:50].any()
    assert not found[:27].any() and not found[34:].any()


def test_every_eighth_training_image_is_held_out(tmp_path: Path) -> None:
    for split, count in (("train", 18), ("validation", 3)):
        (tmp_path / "nut" / split / "good").mkdir(parents=True)
        for number in range(count):
            (tmp_path / "nut" / split / "good" / f"{number:03}.png").touch()
    source = Source("mvtec_ad_2", tmp_path)

    def names(split: str, **options: Any) -> list[str]:
        samples = list_samples(source, "nut", split, **options)
        return [Path(sample.image).parts[1] + sample.sample_id[-2:] for sample in samples]

    assert names("validation", hold_out_every=8) == ["train00", "train08", "train16"]
    expected = [f"train{number:02}" for number in range(18) if number % 8]
    assert names("train", hold_out_every=8) == expected
    assert len(names("train")) == 18 and names("validation") == ["validation00", "validation01", "validation02"]
    assert held_out("nut", ["b", "a", "c"], 2) == {"a", "c"} and held_out("nut", ["a"], 2) == set()
