"""Windows that cover every pixel, a tile store, and merging as a plain float64 average."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from robis.errors import DataError
from robis.io.maps import read_map
from robis.io.samples import IndexedSample, write_samples
from robis.tiles.files import TileMaps, TileStore
from robis.tiles.merge import merge_split, merge_tiles, merged_size
from robis.tiles.store import Cutting, crop_split, cut, map_size, open_tiles
from robis.tiles.windows import Window, origins, windows


@pytest.mark.parametrize(
    ("length", "window", "overlap", "edge", "expected"),
    [
        (2448, 1024, 0.1, "pad", [0, 921, 1842]),
        (2448, 1024, 0.1, "shift", [0, 921, 1424]),
        (1024, 1024, 0.1, "pad", [0]),
        (1025, 1024, 0.1, "pad", [0, 921]),
        (1025, 1024, 0.1, "shift", [0, 1]),
        (100, 1024, 0.1, "pad", [0]),
        (100, 1024, 0.1, "shift", [0]),
        (1, 1024, 0.1, "pad", [0]),
        (30, 10, 0.0, "pad", [0, 10, 20]),
        (12, 10, 0.99, "pad", [0, 1, 2]),
    ],
)
def test_origins_by_hand(length: int, window: int, overlap: float, edge: str, expected: list[int]) -> None:
    assert origins(length, window, overlap, edge) == expected


@pytest.mark.parametrize("edge", ["pad", "shift"])
def test_every_pixel_is_covered(edge: str, rng: np.random.Generator) -> None:
    for _ in range(200):
        height, width = rng.integers(1, 90, 2)
        window, overlap = int(rng.integers(8, 50)), float(rng.uniform(0, 0.9))
        seen = np.zeros((height, width), bool)
        for one in windows(height, width, window, overlap, edge):
            seen[one.y : one.y + one.height, one.x : one.x + one.width] = True
            inside = one.x + one.width <= width and one.y + one.height <= height
            assert edge == "pad" or inside or window > min(height, width)
        assert seen.all()


def test_a_twelve_by_twelve_grid_has_integer_rows_and_columns() -> None:
    found = windows(120, 120, 10, 0.0, "pad")
    assert len(found) == 144
    assert found[-1] == Window(11, 11, 110, 110, 10, 10)
    assert [one.col for one in found[:13]] == [*range(12), 0]


def test_tiles_are_padded_with_black_then_resized_as_pillow_does(rng: np.random.Generator) -> None:
    image = rng.integers(0, 256, (50, 60, 3), dtype=np.uint8)
    padded = np.zeros((40, 40, 3), np.uint8)
    padded[:20, :25] = image[30:, 35:]
    expected = Image.fromarray(padded).resize((16, 16), Image.Resampling.BILINEAR)
    np.testing.assert_array_equal(cut(image, Window(0, 0, 35, 30, 40, 40), 16), np.asarray(expected))
    bicubic = Image.fromarray(padded).resize((16, 16), Image.Resampling.BICUBIC)
    np.testing.assert_array_equal(cut(image, Window(0, 0, 35, 30, 40, 40), 16, "bicubic"), np.asarray(bicubic))
    np.testing.assert_array_equal(cut(image, Window(0, 0, 1, 2, 16, 16), 16), image[2:18, 1:17])


def tile_files(folder: Path) -> TileStore:
    return TileStore(folder / "t.npy", folder / "t.parquet")


def write_split(root: Path, sizes: list[tuple[int, int]], rng: np.random.Generator) -> tuple[Path, list[np.ndarray]]:
    images, samples = [], []
    root.mkdir(parents=True, exist_ok=True)
    for n, (height, width) in enumerate(sizes):
        images.append(rng.integers(0, 256, (height, width, 3), dtype=np.uint8))
        Image.fromarray(images[-1]).save(root / f"{n}.png")
        samples.append(IndexedSample(f"bad/{n}", "test", f"{n}.png", "normal", "good", None, height, width))
    write_samples(root / "samples.parquet", samples)
    return root / "samples.parquet", images


def test_tile_store_holds_every_tile_of_images_of_several_sizes(tmp_path: Path, rng: np.random.Generator) -> None:
    samples, images = write_split(tmp_path / "data", [(33, 70), (1, 1), (64, 20)], rng)
    crop_split(samples, tmp_path / "data", tile_files(tmp_path), Cutting(32, 0.25, "pad", 16), threads=2)
    store, table = open_tiles(tmp_path / "t.npy", tmp_path / "t.parquet")
    assert isinstance(store, np.memmap)
    assert store.dtype == np.uint8
    assert list(table.columns) == ["tile", "sample_id", "row", "col", "x", "y", "width", "height"]
    # Steps of 24: 33 x 70 takes 2 x 3 windows, 1 x 1 one, 64 x 20 three.
    assert table["sample_id"].tolist() == ["bad/0"] * 6 + ["bad/1"] + ["bad/2"] * 3
    for row in table.itertuples():
        image = images[int(row.sample_id.removeprefix("bad/"))]
        expected = cut(image, Window(row.row, row.col, row.x, row.y, row.width, row.height), 16)
        np.testing.assert_array_equal(store[row.tile], expected)
    assert sorted(path.name for path in tmp_path.iterdir()) == ["data", "t.npy", "t.parquet"]


def test_whole_images_make_one_tile_each(tmp_path: Path, rng: np.random.Generator) -> None:
    samples, images = write_split(tmp_path / "data", [(33, 70), (40, 20)], rng)
    crop_split(samples, tmp_path / "data", tile_files(tmp_path), Cutting("image", 0.1, "pad", 24))
    store, table = open_tiles(tmp_path / "t.npy", tmp_path / "t.parquet")
    assert table[["width", "height"]].to_numpy().tolist() == [[70, 33], [20, 40]]
    expected = Image.fromarray(images[1]).resize((24, 24), Image.Resampling.BILINEAR)
    np.testing.assert_array_equal(store[1], np.asarray(expected))


def test_a_truncated_image_leaves_no_half_store(tmp_path: Path, rng: np.random.Generator) -> None:
    samples, _ = write_split(tmp_path / "data", [(64, 64), (64, 64)], rng)
    whole = (tmp_path / "data" / "1.png").read_bytes()
    (tmp_path / "data" / "1.png").write_bytes(whole[:40])
    with pytest.raises(DataError, match=r"1\.png"):
        crop_split(samples, tmp_path / "data", tile_files(tmp_path), Cutting(32, 0.1, "pad", 16), threads=2)
    assert [path.name for path in tmp_path.iterdir()] == ["data"]
    Image.new("RGB", (9, 9)).save(tmp_path / "data" / "1.png")
    with pytest.raises(DataError, match=r"1\.png: 9 x 9 pixels; the sample table says 64 x 64"):
        crop_split(samples, tmp_path / "data", tile_files(tmp_path), Cutting(32, 0.1, "pad", 16))


def test_a_store_and_a_table_that_do_not_match_are_refused(tmp_path: Path, rng: np.random.Generator) -> None:
    samples, _ = write_split(tmp_path / "data", [(64, 64)], rng)
    crop_split(samples, tmp_path / "data", tile_files(tmp_path), Cutting(32, 0.1, "pad", 16))
    np.save(tmp_path / "t.npy", np.zeros((2, 16, 16, 3), np.uint8))
    with pytest.raises(
        DataError,
        match=r"t\.npy: 2 tiles, but its table .* has 9 rows\. Make it again with `snakemake --forcerun crop`",
    ):
        open_tiles(tmp_path / "t.npy", tmp_path / "t.parquet")


def place(found: list[Window]) -> list[tuple[int, int, int, int]]:
    return [(one.x, one.y, one.width, one.height) for one in found]


@pytest.mark.parametrize("edge", ["pad", "shift"])
@pytest.mark.parametrize(
    ("height", "width", "window", "overlap", "scale"),
    [
        (2048, 2448, 1024, 0.1, 0.25),
        (333, 500, 100, 0.3, 0.5),
        (1, 1, 1024, 0.1, 0.25),
        (600, 600, 50, 0.0, 0.5),
        (37, 53, 13, 0.5, 0.3),
        (120, 96, 32, 0.5, 1.0),
    ],
)
def test_overlapping_tiles_merge_to_a_plain_average(
    height: int, width: int, window: int, overlap: float, scale: float, edge: str, rng: np.random.Generator
) -> None:
    found = windows(height, width, window, overlap, edge)
    side = map_size(window, scale, 0)
    maps = rng.random((len(found), side, side)).astype(np.float16)
    merged = merge_tiles(maps, place(found), height, width, scale=scale)
    rows, cols = round(height * scale), round(width * scale)
    total, count = np.zeros((max(rows, 1), max(cols, 1))), np.zeros((max(rows, 1), max(cols, 1)))
    for one, values in zip(found, maps.astype(np.float64), strict=True):
        for i, j in np.ndindex(side, side):
            y, x = round(one.y * scale) + i, round(one.x * scale) + j
            if y < total.shape[0] and x < total.shape[1]:
                total[y, x] += values[i, j]
                count[y, x] += 1
    assert merged.shape == total.shape
    assert merged.dtype == np.float32
    covered = count > 0
    assert covered.mean() > 0.9
    np.testing.assert_allclose(merged[covered], (total / np.maximum(count, 1))[covered], rtol=1e-6)


def test_tiles_do_not_drift() -> None:
    """Published code steps by 230 for 230.25 map pixels; here every origin is rounded by itself."""
    found = windows(1024, 1024 * 9, 1024, 0.1, "pad")
    maps = np.zeros((len(found), 256, 256), np.float32)
    maps[7, :, 0] = 1
    merged = merge_tiles(maps, place(found), 1024, 1024 * 9, scale=0.25)
    assert merged.any(axis=0).argmax() == round(7 * 921 / 4)


def test_rounding_leaves_no_hole() -> None:
    """Windows of 10 pixels at 1/4 are 2 map pixels wide and start at 0, 2, 5, 8: columns 4, 7, ... are in none."""
    found = windows(40, 40, 10, 0.0, "pad")
    merged = merge_tiles([np.full((2, 2), n, np.float32) for n in range(16)], place(found), 40, 40, scale=0.25)
    assert merged.shape == (10, 10)
    expected = np.array([0, 0, 1, 1, 1, 2, 2, 2, 3, 3], np.float32)
    np.testing.assert_array_equal(merged[0], expected)
    np.testing.assert_array_equal(merged[:, 0], expected * 4)


def test_feathering_keeps_constants_and_favors_centers() -> None:
    found = windows(64, 96, 64, 0.5, "shift")
    ones = [np.full((64, 64), 3.5, np.float32)] * len(found)
    merged = merge_tiles(ones, place(found), 64, 96, scale=1.0, blend="feather")
    np.testing.assert_allclose(merged, 3.5, rtol=1e-6)
    steps = [np.full((64, 64), n, np.float32) for n in range(len(found))]
    row = merge_tiles(steps, place(found), 64, 96, scale=1.0, blend="feather")[32]
    assert (np.diff(row) >= -1e-6).all()
    assert row[32] < 0.1
    # Column 48 is as far from the left tile's end (16 pixels) as from the right tile's start.
    assert row[47:49].mean() == pytest.approx(0.5, abs=0.02)


def merge(
    folder: Path,
    raw: np.ndarray,
    sizes: list[tuple[int, int]],
    range_maps: np.ndarray,
    scale: float = 0.5,
    dtype: type = np.float16,
):
    rng = np.random.default_rng(0)
    samples, _ = write_split(folder / "data", sizes, rng)
    crop_split(samples, folder / "data", tile_files(folder), Cutting(32, 0.0, "pad", 16))
    np.save(folder / "maps.npy", raw.astype(dtype))
    np.save(folder / "range.npy", range_maps.astype(dtype))
    # A split that is scaled by itself has one file for both.
    reference = folder / ("maps.npy" if range_maps is raw else "range.npy")
    maps = TileMaps(folder / "maps.npy", folder / "t.parquet")
    merge_split(samples, maps, reference, folder / "out", scale=scale, blend="mean", threads=2)
    return [read_map(folder / "out" / f"bad/{n}.tiff") for n in range(len(sizes))]


def test_maps_are_scaled_together_by_the_range_of_the_split(tmp_path: Path) -> None:
    raw = np.zeros((3, 16, 16))
    raw[0], raw[1], raw[2] = 0.25, 0.5, 0.75
    first, second = merge(tmp_path, raw, [(32, 64), (20, 10)], raw)
    assert first.shape == (16, 32)
    assert second.shape == (10, 5)
    assert first[0, 0] == 0
    assert first[0, 16] == 127.5
    assert second[0, 0] == 255


def test_values_beyond_the_range_of_validation_are_kept_above_and_cut_below(tmp_path: Path) -> None:
    raw = np.stack([np.full((16, 16), value) for value in (0.0, 0.5, 2.0)])
    first, second = merge(tmp_path, raw, [(32, 64), (32, 32)], np.array([[[0.25, 0.75]]]))
    assert first[0, 0] == 0
    assert first[0, 16] == 127.5
    assert second[0, 0] == np.float16(255 * 1.75 / 0.5)


def test_flat_maps_become_zero(tmp_path: Path) -> None:
    flat = np.full((1, 16, 16), 0.3)
    assert not merge(tmp_path, flat, [(32, 32)], flat)[0].any()


def test_a_flat_reference_of_another_split_is_refused(tmp_path: Path) -> None:
    raw = np.stack([np.full((16, 16), value) for value in (0.1, 0.5)])
    why = r"range\.npy: all maps of the split range have the same value, 0\.25, .* set merge\.normalize and binarize\."
    with pytest.raises(DataError, match=why):
        merge(tmp_path, raw, [(32, 64)], np.full((2, 16, 16), 0.25))
    assert not (tmp_path / "out").exists()


def test_a_reference_that_differs_by_rounding_alone_is_refused(tmp_path: Path) -> None:
    """The maps of copies of training images: distances of 1e-9. A single pixel on the scale makes it one."""
    raw, reference = np.full((2, 16, 16), 2000.0), np.array([[[1e-9, 2e-9]]])
    why = r"all maps of the split range have nearly the same value, 1e-09 to 2e-09, so that .* are copies of training"
    with pytest.raises(DataError, match=why):
        merge(tmp_path, raw, [(32, 64)], reference, dtype=np.float32)
    assert not (tmp_path / "out").exists()
    raw[1, 0, 0] = 0
    assert merge(tmp_path, raw, [(32, 64)], reference, dtype=np.float32)[0].max() == 65504


@pytest.mark.parametrize("value", [np.nan, np.inf, -np.inf])
@pytest.mark.parametrize("where", ["maps", "range"])
def test_a_map_that_is_not_finite_is_refused(tmp_path: Path, where: str, value: float) -> None:
    raw, reference = (np.linspace(0, 1, 1024).reshape(4, 16, 16) for _ in range(2))
    (raw if where == "maps" else reference)[2, 3, 4] = value
    why = rf"{where}\.npy: the map of tile 2 holds NaN or infinite values.*--forcerun infer"
    with pytest.raises(DataError, match=why):
        merge(tmp_path, raw, [(64, 64)], reference)
    assert not (tmp_path / "out").exists()


def test_maps_in_a_narrow_band_keep_its_resolution(tmp_path: Path) -> None:
    """As WinCLIP's, 0.486 to 0.567, of which float16 keeps 198 values. Stored in float32 they are those of float64."""
    raw = np.linspace(0.486, 0.567, 16 * 16).reshape(1, 16, 16)
    (exact,) = merge(tmp_path / "full", raw, [(32, 32)], raw, dtype=np.float32)
    assert len(np.unique(exact)) == 256
    np.testing.assert_allclose(exact, (raw[0] - 0.486) / (0.567 - 0.486) * 255, rtol=1e-3, atol=1e-3)
    (rounded,) = merge(tmp_path / "half", raw, [(32, 32)], raw)
    assert len(np.unique(rounded)) < 200


def test_merged_size_rounds() -> None:
    assert merged_size(2051, 2446, 0.25) == (513, 612)
    assert merged_size(1, 1, 0.25) == (1, 1)


def test_central_takes_each_pixel_from_the_tile_whose_center_is_nearest() -> None:
    """By hand: windows of 4 at 0, 3 and 6 of 10 pixels share columns 3 and 6; centers at 1.5, 4.5 and 7.5."""
    found = [(x, y, 4, 4) for y in (0, 3) for x in (0, 3, 6)]
    maps = [np.full((4, 4), n, np.float16) for n in range(6)]
    merged = merge_tiles(maps, found, 7, 10, scale=1.0, blend="central")
    assert merged.dtype == np.float32
    # Column 3 is 1.5 from both centers: the first tile has it. The same holds of row 3.
    row = [0, 0, 0, 0, 1, 1, 1, 2, 2, 2]
    np.testing.assert_array_equal(merged, [row] * 4 + [[n + 3 for n in row]] * 3)


def test_central_of_tiles_that_overlap_by_different_shares() -> None:
    """By hand: the last window of `edge: shift` starts at 5, so that three windows cover columns 5 to 7."""
    found = [(0, 0, 8, 8), (4, 0, 8, 8), (5, 0, 8, 8)]
    maps = [np.full((8, 8), n, np.float32) for n in range(3)]
    merged = merge_tiles(maps, found, 8, 13, scale=1.0, blend="central")
    # Centers at 3.5, 7.5 and 8.5: up to 5.5 the first, up to 8 the second (a tie at 8), then the third.
    assert merged[4].tolist() == [0] * 6 + [1] * 3 + [2] * 4
    np.testing.assert_array_equal(merged, np.tile(merged[4], (8, 1)))


def test_central_ignores_what_lies_outside_the_image() -> None:
    """A padded tile keeps its center, which may lie outside: by hand, centers at 3.5 and 10.5 of 9 columns."""
    found = [(0, 0, 8, 8), (7, 0, 8, 8)]
    merged = merge_tiles([np.zeros((8, 8)), np.ones((8, 8))], found, 5, 9, scale=1.0, blend="central")
    assert merged.shape == (5, 9)
    # Column 7 is 3.5 from both.
    assert merged[0].tolist() == [0] * 8 + [1]


@pytest.mark.parametrize("edge", ["pad", "shift"])
def test_central_maps_are_those_of_the_nearest_center(edge: str, rng: np.random.Generator) -> None:
    """Against a search over all tiles for every pixel."""
    found = windows(61, 83, 24, 0.4, edge)
    maps = rng.random((len(found), 12, 12)).astype(np.float16)
    merged = merge_tiles(maps, place(found), 61, 83, scale=0.5, blend="central")
    for i, j in np.ndindex(merged.shape):
        candidates = []
        for n, one in enumerate(found):
            y, x = i - round(one.y * 0.5), j - round(one.x * 0.5)
            if 0 <= y < 12 and 0 <= x < 12:
                candidates.append((max(abs(y - 5.5), abs(x - 5.5)), n, (y - 5.5) ** 2 + (x - 5.5) ** 2, maps[n, y, x]))
        nearest = min(candidates, key=lambda one: (one[2], one[1]))
        assert merged[i, j] == np.float32(nearest[3])
        assert nearest[0] == min(candidates)[0], "it is no nearer to any border than in another tile"
